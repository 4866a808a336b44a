"""What clients did, as they wrote it down: one line when an operation begins, one when it ends.

Law: a line is written whole, before the operation goes out and after its answer came, so that the log of a client
that was killed says what it had begun.  Times are of the monotonic clock, which all processes of a machine share.

Format: JSON, {"n": number, "at": seconds, "kind": ..., "home": ..., "path": ..., "other": ..., "digest": ...,
"files": {path: digest}} and {"n": number, "at": seconds, "outcome": ..., "found": digest, "failed": [path],
"text": ...}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DONE, UNKNOWN, ABSENT, REFUSED, BROKEN = "done", "unknown", "absent", "refused", "broken"
SHARED = "/shared"
NEVER = float("inf")


@dataclass(slots=True)
class Record:
    """One operation; `ended` is NEVER and `outcome` unknown where its client was killed.

    outcome: done; unknown: it may have happened, or happen yet; absent: the name was not there; refused: it did not
    happen; broken: what came is against a promise."""

    who: str
    kind: str
    home: str
    path: str
    other: str = ""
    digest: str = ""
    files: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    ended: float = NEVER
    outcome: str = UNKNOWN
    found: str = ""
    failed: list[str] = field(default_factory=list)
    text: str = ""

    def __str__(self) -> str:
        words = (self.kind, self.path, self.other, self.digest[:12], f"{len(self.files)} files" if self.files else "")
        return f"{' '.join(filter(None, words))} in {self.home}"


class Log:
    """Where a client writes down what it does."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._number = 0

    def begin(self, kind: str, home: str, path: str, **more: object) -> None:
        self._number += 1
        self._write(kind=kind, home=home, path=path, **more)

    def end(self, outcome: str, **more: object) -> None:
        self._write(outcome=outcome, **more)

    def _write(self, **values: object) -> None:
        line = json.dumps({"n": self._number, "at": time.monotonic(), **values})
        os.write(self._descriptor, line.encode() + b"\n")


def read(who: str, path: Path) -> list[Record]:
    """What one client did, in its order; the last may have no end."""
    records: list[Record] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        values = json.loads(line)
        at, _ = values.pop("at"), values.pop("n")
        if "kind" in values:
            records.append(Record(who, began=at, **values))
            continue
        last = records[-1]
        last.outcome, last.ended = values["outcome"], at
        last.found, last.failed = values.get("found", ""), values.get("failed", [])
        last.text = values.get("text", "")
    return records


def lines(records: Sequence[Record], notes: Sequence[tuple[float, str, str]], zero: float) -> Iterator[str]:
    """All of it for people, in the order of time: notes are (when, who, what)."""
    told = list(notes)
    for one in records:
        told.append((one.began, one.who, f"{one} ..."))
        if one.ended != NEVER:
            told.append((one.ended, one.who, f"{one}: {one.outcome} {one.found[:12]} {one.text}".rstrip()))
    for at, who, what in sorted(told):
        yield f"{at - zero:8.3f}  {who:<10} {what}"


def counts(records: Sequence[Record]) -> Mapping[str, int]:
    """How many operations there were of each outcome."""
    return {outcome: sum(one.outcome == outcome for one in records) for outcome in (DONE, UNKNOWN, ABSENT, REFUSED)}
