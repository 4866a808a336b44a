"""The story of each file in the log: put, copied, moved, removed; in one line each, in the order of the decisions.

Law: `tell` only remembers, so it may be called with the global lock held; a thread of its own writes.  When the log is
slower than the site, lines are left out and their number is said; the site never waits for its log.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from goggles.clock import Clock, SystemClock
from goggles.log import tell_all
from goggles.nameserver.entry import Entry

log = logging.getLogger("goggles.story")
MAX_WAITING = 20_000
PAGE = 100  # lines in one write
PAUSE = 0.2  # seconds to let a log that is too slow catch up
TOGETHER = 0.02  # seconds for more lines to come, so that the thread does not wake for each
Line = tuple[float, str, str, dict[str, object]]  # when, event, message, facts


class Story:
    """Lines that wait to be written; `start`, then `stop`."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._waiting: deque[Line] = deque()
        self._left_out = 0
        self._owing = False
        self._stirred = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="story", daemon=True)

    def tell(self, event: str, message: str, **facts: object) -> None:
        """Have a line written: `message` for people, its places filled from `facts`; all of these for machines."""
        if not log.isEnabledFor(logging.INFO):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._left_out += 1
            return
        self._waiting.append((self._clock.now(), event, message, facts))
        if not self._stirred.is_set():
            self._stirred.set()

    # --- what there is to tell -------------------------------------------------------------

    def put(self, path: str, uploader: str, entry: Entry, on: list[str], copies: int) -> None:
        text = f"put %s: %d bytes by %s, on {_names(on)}"
        text += f", generation {entry.generation}" if entry.generation > 1 else ""
        owed = max(0, copies - len(on))
        text += f", copies owed: {owed}" if owed else ""
        known = {"sha256": entry.sha256, "generation": entry.generation, "storages": on, "owed": owed}
        self.tell("put", text, path=path, size=entry.size, uploader=uploader, **known)

    def copying(self, path: str, source: str, storage: str) -> None:
        self.tell("copying", "copying %s from %s to %s", path=path, source=source, storage=storage)

    def copied(self, path: str, storage: str) -> None:
        self.tell("copied", "copied %s to %s", path=path, storage=storage)

    def trimmed(self, path: str, storage: str) -> None:
        self.tell("trimmed", "one copy of %s too many: the one on %s goes", path=path, storage=storage)

    def standing(self, owed: bool, count: Callable[[], int]) -> None:
        """Said when files get short of copies, and when none is any more; `count` is asked only then."""
        if owed == self._owing or owed != bool(files := count()):
            return
        self._owing = owed
        if owed:
            self.tell("owed", "files that are short of a copy: %d", files=files)
        else:
            self.tell("whole", "every file has its copies")

    # --- writing it down -------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stopping.set()
        self._stirred.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stirred.wait()
            self._stopping.wait(PAUSE if self._left_out else TOGETHER)
            self._stirred.clear()
            self._write()
        self._write()

    def _write(self) -> None:
        while self._waiting:
            lines = [self._waiting.popleft() for _ in range(min(PAGE, len(self._waiting)))]
            tell_all(log, [_record(*line, self._thread.name) for line in lines])
        if self._left_out:
            count, self._left_out = self._left_out, 0
            log.warning("%d lines of this story were left out: more happened than could be written", count)


def _record(created: float, event: str, message: str, facts: dict[str, object], thread: str) -> logging.LogRecord:
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__ = {
        **_LIKE_ALL,
        "msg": message,
        "args": tuple(facts.values())[: message.count("%")],
        "created": created,
        "threadName": thread,
        "facts": {"event": event, **facts},
    }
    return record


# A record looks up its process and its thread when it is made, which takes as long as all the rest of a line.
_LIKE_ALL = vars(logging.LogRecord(log.name, logging.INFO, __file__, 0, "", None, None))


def _names(nodes: list[str]) -> str:
    """`alice`, `alice and bob`, `alice, bob and carol`."""
    return " and ".join(filter(None, [", ".join(nodes[:-1]), *nodes[-1:]])) or "nobody"
