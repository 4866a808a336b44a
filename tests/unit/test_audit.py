"""What `make check` makes of an answer about known flaws."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("audit", HOME / "delivery" / "audit.py")
assert spec is not None
assert spec.loader is not None
audit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit)

FINE = {"name": "rpyc", "version": "6", "vulns": []}
FLAWED = {"name": "old", "version": "1", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"name": "x", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "said", "code"),
    [
        (None, "nothing was audited", 0),
        ([], "nothing was audited", 0),
        ([UNKNOWN], "nothing was audited", 0),
        ([FINE], "1 libraries, 0 known flaws", 0),
        ([FINE, UNKNOWN], "1 could not be looked up", 0),
        ([FINE, FLAWED, UNKNOWN], "old 1: CVE-2", 1),
    ],
)
def test_a_known_flaw_fails_and_a_list_that_can_not_be_reached_does_not(
    found: list[dict[str, Any]] | None, said: str, code: int
) -> None:
    text, ended = audit.report(found)
    assert said in text
    assert ended == code
