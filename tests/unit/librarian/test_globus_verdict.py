"""What the documents of a task mean; no Globus is needed to say so."""

from __future__ import annotations

from typing import Any

import pytest

from goggles.librarian.managers.globus import verdict
from goggles.librarian.managers.globus.verdict import Look, Phase, what_it_lacks, why_it_failed

TASK: dict[str, Any] = {"task_id": "t", "status": "ACTIVE", "nice_status": "OK", "files": 9, "faults": 0}


def look(before: Look | None, now: float, **more: Any) -> Look:
    return verdict.look({**TASK, **more}, "central", before, now)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("ACTIVE", Phase.GOING),
        ("INACTIVE", Phase.SUSPENDED),
        ("SUCCEEDED", Phase.DONE),
        ("FAILED", Phase.FAILED),
        ("A NEW ONE", Phase.GOING),
    ],
)
def test_each_status_has_a_phase(status: str, phase: Phase) -> None:
    assert look(None, 0, status=status).phase is phase


def test_faults_of_a_task_that_is_well_are_no_trouble() -> None:
    for nice in ("OK", "Queued", None):
        assert look(None, 0, faults=6, nice_status=nice).trouble == ""


def test_only_what_does_not_come_by_itself_is_lacking() -> None:
    for code in ("FILE_NOT_FOUND", "QUOTA_EXCEEDED"):
        assert what_it_lacks(look(None, 0, nice_status=code), ()) == code
    assert what_it_lacks(look(None, 0, nice_status="CONNECT_FAILED"), ()) == "" == what_it_lacks(look(None, 0), ())


def test_what_is_lacking_may_stand_in_the_newest_event_alone() -> None:
    well, progress = look(None, 0), {"code": "PROGRESS", "is_error": False}
    assert what_it_lacks(well, [LOST, progress]) == "FILE_NOT_FOUND"
    assert what_it_lacks(well, [progress, LOST]) == ""


def test_time_without_progress_begins_anew_with_each_byte() -> None:
    seen = look(None, 10, nice_status="TIMEOUT")
    seen = look(seen, 20, nice_status="TIMEOUT")
    assert seen.since == 10
    seen = look(seen, 30, nice_status="TIMEOUT", bytes_transferred=1)
    assert seen.since == 30
    assert look(seen, 40, bytes_transferred=1).since == 30
    queued = look(seen, 50, nice_status="Queued", bytes_transferred=1)
    assert look(queued, 60, nice_status="TIMEOUT", bytes_transferred=1).since == 50


def test_a_task_that_takes_long_is_looked_at_seldom() -> None:
    young = look(look(None, 0), 2)
    assert young.next_look == pytest.approx(2.2)
    assert look(young, 10_000).next_look == 10_030


CANCELED = {"code": "CANCELED", "is_error": False}
EXPIRED = {"code": "EXPIRED", "is_error": False}
LOST = {"code": "FILE_NOT_FOUND", "is_error": True, "description": "no such file"}


def test_cancelled_and_expired_are_told_apart_by_events() -> None:
    assert "cancelled, after FILE_NOT_FOUND: no such file" in why_it_failed({}, [CANCELED, LOST])
    assert "deadline" in why_it_failed({}, [EXPIRED, LOST])
    by = {"canceled_by_admin": "SOURCE", "canceled_by_admin_message": "maintenance"}
    assert "administrator (maintenance)" in why_it_failed(by, [CANCELED])
    fatal = {"fatal_error": {"code": "ENDPOINT_ERROR", "description": "gone"}}
    assert why_it_failed(fatal, [LOST]) == "the Globus task failed: ENDPOINT_ERROR gone"
    assert "FILE_NOT_FOUND" in why_it_failed({}, [LOST])
