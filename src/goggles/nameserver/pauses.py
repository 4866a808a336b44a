"""When to try again what may fail for a long time.

Law: the first time at once; while that does not help after growing pauses; after some calm at once again.
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST, LONGEST = 5.0, 300.0  # seconds
CALM = 60.0  # seconds without a failure, beyond twice the last pause, after which it counts as mended


@dataclass(slots=True)
class Pauses:
    """The pauses of one thing.  Times are monotonic seconds."""

    pause: float = 0.0
    tried: float = 0.0

    def due(self, now: float) -> float:
        """It failed: when it is to be tried again."""
        if now > self.tried + 2 * self.pause + CALM:
            self.pause = 0.0
        self.tried = now + self.pause
        self.pause = min(LONGEST, max(SHORTEST, 2 * self.pause))
        return self.tried
