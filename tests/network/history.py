"""What was done when, and what went against a promise: of a campaign whose clients are threads."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class History:
    """What was done when, and what went against a promise."""

    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    acknowledged: int = 0
    unknown: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, who: str, text: str) -> None:
        line = f"{time.monotonic() - self.began:8.3f}  {who:<10} {text}"
        with self.lock:
            self.lines.append(line)

    def count(self, *, known: bool) -> None:
        with self.lock:
            self.acknowledged += known
            self.unknown += not known

    def broken(self, who: str, text: str) -> None:
        self.note(who, f"BROKEN: {text}")
        with self.lock:
            self.wrong.append(f"{who}: {text}")
