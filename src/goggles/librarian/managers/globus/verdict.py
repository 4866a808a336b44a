"""What the state of a Globus task means for the files in it.  Pure.

Law: Globus looks after faults by itself, so none of them is a failure while its task lives.  Only a task that is over
says of a file that it failed, for until then Globus may still write to its place.  There is no status "cancelled" or
"expired" at Globus: both are FAILED, and the events tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SELDOM = 30.0  # seconds between two looks at a task that takes long
QUEUED = "Queued"
HEALTHY = frozenset({None, "", "OK", QUEUED})
LACKING = frozenset(  # what does not come by itself
    ("FILE_NOT_FOUND", "IS_A_DIRECTORY", "NOT_A_DIRECTORY", "NO_SPACE_LEFT", "PERMISSION_DENIED", "QUOTA_EXCEEDED")
)


class Phase(StrEnum):
    """How a task is."""

    GOING = "going"
    SUSPENDED = "suspended"  # until a person has done something
    DONE = "done"  # but for what was skipped
    FAILED = "failed"  # but for what has arrived


PHASES = {"ACTIVE": Phase.GOING, "INACTIVE": Phase.SUSPENDED, "SUCCEEDED": Phase.DONE, "FAILED": Phase.FAILED}


@dataclass(frozen=True, slots=True)
class Look:
    """How far a task is.  Sizes are bytes, `rate` is bytes a second.  Monotonic seconds: `first` and `last` look, and
    `since` when it was worked on without progress."""

    task: str
    peer: str
    phase: Phase
    files_done: int
    size_done: int
    rate: float
    trouble: str  # the code of what it is in trouble with; '' where it is well
    first: float
    last: float
    since: float

    @property
    def next_look(self) -> float:
        """When it is worth asking again: soon for a young task, seldom for one that takes long."""
        return self.last + min(SELDOM, (self.last - self.first) / 10)


def look(task: Mapping[str, Any], peer: str, before: Look | None, now: float) -> Look:
    """At a task, after an earlier one."""
    nice = task.get("nice_status")
    done, size = int(task.get("files_transferred") or 0), int(task.get("bytes_transferred") or 0)
    moved = before is None or (done, size) != (before.files_done, before.size_done)
    return Look(
        task=str(task["task_id"]),
        peer=peer,
        phase=PHASES.get(str(task["status"]), Phase.GOING),
        files_done=done,
        size_done=size,
        rate=float(task.get("effective_bytes_per_second") or 0),
        trouble="" if nice in HEALTHY else str(nice),
        first=now if before is None else before.first,
        last=now,
        since=now if before is None or moved or nice == QUEUED else before.since,
    )


def what_it_lacks(seen: Look, events: Sequence[Mapping[str, Any]]) -> str:
    """The code of what a task waits for that does not come by itself; '' where it waits for nothing of the kind.

    Globus may call a task well that tries the same in vain again and again; the newest of its `events` then says so."""
    codes = [seen.trouble, *(str(event.get("code")) for event in events[:1] if event.get("is_error"))]
    return next((code for code in codes if code in LACKING), "")


def why_it_failed(task: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """Of a task that is FAILED; `events` are the newest first."""
    codes = [str(event.get("code")) for event in events]
    last = next((event for event in events if event.get("is_error")), None)
    cause = "" if last is None else f", after {last.get('code')}: {last.get('description') or ''}".rstrip(": ")
    if "CANCELED" in codes:
        by = f" by its administrator ({task.get('canceled_by_admin_message')})" if task.get("canceled_by_admin") else ""
        return f"the Globus task was cancelled{by}{cause}"
    if "EXPIRED" in codes:
        return f"the Globus task was not done before its deadline{cause}"
    fatal = task.get("fatal_error") or {}
    said = " ".join(str(fatal.get(key) or "") for key in ("code", "description")).strip()
    return f"the Globus task failed: {said}" if said else f"the Globus task failed{cause}"
