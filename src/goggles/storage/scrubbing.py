"""All files of a storage are read again, slowly, round after round.

Law: it reads, tells and changes nothing: what is in each file goes to the nameserver, which compares it with the tree,
has whatever differs read once more, and decides.  A place counts as done once the nameserver has heard of it.

Format: `.goggles/scrub.json`, written whole and renamed into place: the last path done ('' between rounds), when the
next round is due, and the figures of `ScrubState`.  Without it a round begins anew, which loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from goggles.bulk import BulkReader, aligned
from goggles.clock import Clock
from goggles.contracts.orders import FILE, Held, ScrubState
from goggles.errors import Cancelled, GogglesError, NotFound, Stale
from goggles.paths import ROOT, DfsPath, parse
from goggles.storage import notes
from goggles.storage.containment import explained
from goggles.storage.inorder import files_after
from goggles.storage.pacing import Pace
from goggles.storage.vault import Vault

log = logging.getLogger(__name__)
DAY = 86_400.0
CHUNK = 1 << 20
EACH = 8 << 10  # bytes that a file counts for beside its own: it has to be found and opened
LEAST = 1 << 20  # bytes a second: what is little is done soon
SPARE = 0.9  # share of its days in which a round should be done
FIRST = 3_600.0  # seconds until a storage that is new here begins
BATCH = 200
OFTEN = 30.0  # seconds after which the nameserver is told at the latest
PAUSE = 60.0  # seconds between looks whether there is something to do
AGAIN = 5.0  # seconds until a nameserver that was not there is looked for again
BUSY, PATIENCE = 0.1, 2.0  # seconds of a step aside, and of all of them before a piece is read all the same
UNREAD = -1  # size of a file that could not be read

Tell = Callable[[Sequence[Held], ScrubState], Sequence[int]]  # what was read; places of those that are not right


@dataclass(frozen=True, slots=True)
class Progress:
    """What is kept.  `due`: seconds since 1970, UTC."""

    place: str
    due: float
    state: ScrubState


def speed(total: int, done: int, left: float, most: float) -> float:
    """Bytes a second at which what is not `done` of `total` bytes takes `left` seconds; at most `most` (0: any)."""
    wanted = max(LEAST, (total - done) / max(left, 1.0))
    return min(wanted, most) if most else wanted


class Scrubber:
    """Reads files in a thread of its own, from `start` to `stop`.

    `tell` raises while the nameserver does not count on this storage; `busy` says whether others wait for the disk."""

    def __init__(
        self, vault: Vault, days: float, most: int, tell: Tell, busy: Callable[[], bool], clock: Clock
    ) -> None:
        self._vault = vault
        self._span = days * DAY
        self._most = most
        self._tell = tell
        self._busy = busy
        self._clock = clock
        self._stopping = threading.Event()
        self._pace = Pace(clock, self._stopping)
        self._file = vault.own / "scrub.json"
        self._progress = self._read()
        self._pending: list[Held] = []
        self._flushed = 0.0
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def _run(self) -> None:
        said, soon = "", max(1.0, self._span / 20) if self._span else PAUSE
        while not self._stopping.is_set():
            pause = min(PAUSE, soon)
            try:
                self.step()
                said = ""
            except GogglesError as error:
                log.log(logging.DEBUG if said == str(error) else logging.INFO, "the scrub waits: %s", error)
                said, pause = str(error), min(AGAIN, soon)
            except Exception:
                log.exception("the scrub failed; it goes on")
            self._clock.wait(self._stopping, pause)

    def step(self) -> None:
        """What there is to do now: (the rest of) a round, or a word on how it stands; raises what `tell` does."""
        self._pending = []
        self._tell((), self._progress.state)
        if not self._span:
            return
        now, kept = self._clock.now(), self._progress
        if not kept.place and now < min(kept.due, now + self._span):
            if kept.due > now + self._span:  # the clock was wrong, or the days are fewer now
                self._keep(replace(kept, due=now + self._span))
            return
        self._round(now)

    # --- a round ---------------------------------------------------------------------------

    def _round(self, now: float) -> None:
        kept, self._flushed = self._progress, self._clock.monotonic()
        if not kept.place:
            log.info("scrub: a round begins")
            began = replace(kept.state, began=now, files=0, size=0, bad=0)
            self._keep(replace(kept, place=ROOT, state=began))
        buffer = aligned(CHUNK)
        place = DfsPath(self._progress.place)
        for path in files_after(self._vault.root, place):
            held = self._look(path, buffer)
            if held is not None:
                self._pending.append(held)
            place, late = path, self._clock.monotonic() - self._flushed > OFTEN
            if len(self._pending) >= BATCH or late:
                self._flush(place)
        self._flush(place)
        self._ended()

    def _ended(self) -> None:
        state = replace(self._progress.state, ended=self._clock.now())
        self._keep(Progress("", max(state.began + self._span, state.ended), state))
        log.info("scrub: a round is done: %d files, %d bytes read, %d bad copies", state.files, state.size, state.bad)
        self._tell((), state)

    def _flush(self, place: DfsPath) -> None:
        """The nameserver hears of what was read up to `place`."""
        batch, kept = tuple(self._pending), self._progress
        state = replace(
            kept.state,
            files=kept.state.files + len(batch),
            size=kept.state.size + sum(max(0, held.size) for held in batch),
        )
        wrong = self._tell(batch, state)
        for number in wrong:
            log.error("scrub: %s is not what it should be", batch[number].path)
        self._keep(replace(kept, place=place, state=replace(state, bad=state.bad + len(wrong))))
        if wrong:
            self._tell((), self._progress.state)
        self._pending, self._flushed = [], self._clock.monotonic()

    # --- a file ----------------------------------------------------------------------------

    def _look(self, path: DfsPath, buffer: memoryview) -> Held | None:
        """What a file holds; None where it has gone.  What is read is one open file,
        with its own note: one that is replaced meanwhile is still the version that the note says."""
        try:
            with self._vault.read(path, "") as file, explained(path):
                fd = file.fileno()
                note = notes.as_written(fd)
                digest, size = self._digest(fd, buffer)
        except (NotFound, Stale):
            return None
        except Cancelled:
            raise
        except GogglesError as error:
            log.error("scrub: %s can not be read: %s", path, error)
            return Held(FILE, path, UNREAD, "", "", 0)
        known = (note.version, note.generation) if note is not None else ("", 0)
        return Held(FILE, path, size, digest, *known)

    def _digest(self, fd: int, buffer: memoryview) -> tuple[str, int]:
        digest, reader = hashlib.sha256(), BulkReader(fd, buffer)
        self._wait(EACH)
        while data := reader.read():
            digest.update(data)
            self._wait(len(data))
        return digest.hexdigest(), reader.place

    def _wait(self, count: int) -> None:
        """Keep to the pace; others first."""
        state, size = self._progress.state, sum(max(0, held.size) for held in self._pending)
        left = state.began + SPARE * self._span - self._clock.now()
        self._pace.take(count, speed(self._vault.used, state.size + size, left, self._most))
        aside = 0.0
        while self._busy() and aside < PATIENCE and not self._clock.wait(self._stopping, BUSY):
            aside += BUSY

    # --- what is kept ----------------------------------------------------------------------

    def _read(self) -> Progress:
        days = self._span / DAY
        try:
            known = json.loads(self._file.read_text())
            place, state = str(known["place"]), ScrubState(**known["state"])
            return Progress(place and parse(place), float(known["due"]), replace(state, days=days))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError, GogglesError) as error:
            log.warning("%s can not be read: %s; the scrub begins anew", self._file, error)
        return Progress("", self._clock.now() + min(FIRST, self._span), ScrubState(days=days))

    def _keep(self, progress: Progress) -> None:
        self._progress = progress
        hidden = self._file.with_name(self._file.name + ".new")
        with explained(str(self._file)):
            _write(hidden, json.dumps({**asdict(progress), "state": dict(progress.state.to_wire())}))
            os.replace(hidden, self._file)


def _write(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
