"""States that a power cut may leave of a folder, made of what was recorded there (`goggles.testing.powercut`).

    for state in states(recorder, random.Random(1), 100):
        state.make(elsewhere)

Law: nothing is on disk before it was synced, and what was not may be there all the same.  fsync of a file brings its
bytes and its note, fsync of a directory the names in it, and neither the name of the synced thing itself.  What was not
synced is lost, kept, or torn, each thing by itself, with these limits, which every file system with a journal keeps: a
rename happens as a whole (a file may keep its old name beside the new one), things that were done to the same name or
to the same file or directory happen in their order, and a directory goes after what was taken out of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from goggles.storage import notes
from goggles.testing.powercut import Attribute, Bytes, Content, Name, Names, Recorder, Step, Sync

SECTOR = 512  # bytes that a disk writes whole or not at all


def states(recorder: Recorder, chance: random.Random, most: int, without: str | None = None) -> Iterator[State]:
    """Up to `most` states that a power cut may leave, at moments spread over all.

    `without`: as if what this does synced nothing."""
    needs = _needs(recorder.steps)
    for _ in range(most):
        upto = chance.randrange(len(recorder.steps) + 1)
        yield _Cut(recorder, recorder.steps[:upto], needs, chance, without).state()


def state_at(recorder: Recorder, moment: int, chance: random.Random) -> State:
    """One that a power cut may leave after so many steps."""
    return _Cut(recorder, recorder.steps[:moment], _needs(recorder.steps), chance, None).state()


def whole(recorder: Recorder) -> State:
    """What is there if everything reached the disk."""
    last = Sync(None, "")
    return _Cut(recorder, [*recorder.steps, last], _needs(recorder.steps), random.Random(0), None).state()


def _needs(steps: list[Step]) -> dict[int, list[int]]:
    """For each change of names those before it without which it can not have happened, by their places."""
    names = [(place, step) for place, step in enumerate(steps) if isinstance(step, Names)]
    return {
        place: [before for before, earlier in names if before < place and _follows(step, earlier)]
        for place, step in names
    }


@dataclass(slots=True)
class State:
    """One folder that a power cut may leave at `moment` (so many steps were done)."""

    moment: int
    names: dict[Name, int]
    files: dict[int, Content]

    def make(self, folder: Path) -> None:
        """Make it, in an empty folder."""
        made: dict[int, str] = {}
        self._make(0, str(folder), made)

    def _make(self, directory: int, folder: str, made: dict[int, str]) -> None:
        for (above, name), number in self.names.items():
            path = os.path.join(folder, name)
            if above != directory:
                continue
            if number in made:
                os.link(made[number], path)
            elif number in self.files:
                made[number] = path
                _write(path, self.files[number])
            else:
                os.mkdir(path)
                self._make(number, path, made)


def _write(path: str, content: Content) -> None:
    with open(path, "wb") as file:
        file.write(content.data)
    if content.note is not None:
        os.setxattr(path, notes.NAME, content.note)
    os.utime(path, ns=(content.modified, content.modified))


class _Cut:
    """One power cut behind `steps`."""

    def __init__(
        self,
        recorder: Recorder,
        steps: list[Step],
        needs: dict[int, list[int]],
        chance: random.Random,
        without: str | None,
    ) -> None:
        self._recorder = recorder
        self._steps = steps
        self._needs = needs
        self._chance = chance
        self._without = without
        self._keep = chance.choice([0.0, 0.0, 0.5, 0.5, 1.0])  # how much of what was not synced is there
        self._twice = chance.random() < 0.15  # whether files may keep their old names beside the new ones
        self._synced = self._find_synced()

    def _is_sync(self, step: Step) -> bool:
        return isinstance(step, Sync) and step.where != self._without

    def _find_synced(self) -> set[int]:
        """The places of the steps that are on disk for sure."""
        waiting: dict[int, list[int]] = {}
        synced: set[int] = set()
        for place, step in enumerate(self._steps):
            if isinstance(step, Sync):
                nodes = [step.node] if step.node is not None else list(waiting)
                for node in nodes if self._is_sync(step) else []:
                    synced.update(waiting.pop(node, []))
                continue
            touched = {above for above, _ in step.changes} if isinstance(step, Names) else {step.node}
            for node in touched:
                waiting.setdefault(node, []).append(place)
        pending = list(synced)
        while pending:
            new = set(self._needs.get(pending.pop(), ())) - synced
            synced |= new
            pending += new
        return synced

    def state(self) -> State:
        names = dict(self._recorder.start.names)
        lost: set[int] = set()
        for place, step in enumerate(self._steps):
            if isinstance(step, Names):
                self._rename(place, step, names, lost)
        return State(len(self._steps), names, self._files())

    def _files(self) -> dict[int, Content]:
        files = {n: Content(c.data, c.note, c.modified) for n, c in self._recorder.start.files.items()}
        files |= {n: Content(modified=modified) for n, modified in self._recorder.born.items()}
        pending: dict[int, list[Bytes]] = {}
        for place, step in enumerate(self._steps):
            if isinstance(step, Attribute) and (place in self._synced or self._there()):
                files[step.node].note = step.value
            elif isinstance(step, Bytes) and place in self._synced:
                _apply(files[step.node], step)
            elif isinstance(step, Bytes):
                pending.setdefault(step.node, []).append(step)
        for number, writes in pending.items():
            self._tear(files[number], writes)
        return files

    def _there(self) -> bool:
        return self._chance.random() < self._keep

    def _rename(self, place: int, step: Names, names: dict[Name, int], lost: set[int]) -> None:
        if place not in self._synced and (not self._there() or not lost.isdisjoint(self._needs[place])):
            lost.add(place)
            return
        stays = self._twice and len(step.changes) == 2 and self._chance.random() < 0.5
        for key, number in step.changes.items():
            if number is not None:
                names[key] = number
            elif not (stays and self._may_stay(place, key, step)):
                names.pop(key, None)

    def _may_stay(self, place: int, key: Name, step: Names) -> bool:
        """Whether the old name of a file that was renamed is still there: its directory was not synced since, and
        nothing has happened to it."""
        if step.before[key] not in self._recorder.born:
            return False
        for later in self._steps[place + 1 :]:
            if isinstance(later, Sync) and self._is_sync(later) and later.node in (None, key[0]):
                return False
            if isinstance(later, Names) and (_nodes(later) & _nodes(step) or key in later.changes):
                return False
        return True

    def _tear(self, content: Content, writes: list[Bytes]) -> None:
        """Writes that were not synced: a disk has any of them, or parts, or the size without the bytes."""
        way = self._chance.choice(["lost", "there", "torn", "holes", "mixed"])
        if way == "torn":
            writes = writes[: self._chance.randrange(len(writes) + 1)]
        for place, write in enumerate(writes):
            if way in ("there", "torn") or (way == "mixed" and self._chance.random() < 0.5):
                _apply(content, write)
            elif way == "holes":
                _apply(content, Bytes(write.node, write.offset, bytes(len(write.data)), write.modified))
            if way == "torn" and place == len(writes) - 1 and write.data:
                cut = self._chance.randrange(len(write.data)) // SECTOR * SECTOR
                content.data = content.data[: write.offset + cut]


def _apply(content: Content, write: Bytes) -> None:
    content.data = content.data[: write.offset].ljust(write.offset, b"\0") + write.data
    content.modified = write.modified


def _nodes(step: Names) -> set[int]:
    return {number for number in (*step.changes.values(), *step.before.values()) if number is not None}


def _follows(step: Names, earlier: Names) -> bool:
    if step.changes.keys() & earlier.changes.keys() or _nodes(step) & _nodes(earlier):
        return True
    gone = {number for key, number in step.before.items() if step.changes[key] is None and number is not None}
    return bool(gone & {above for above, _ in earlier.changes})
