"""Whatever a power cut leaves of a storage's folder: what was answered is there, and nothing that was not meant.

One day of a storage is recorded with every operation on its folder (`goggles.testing.powercut`); then states that a
power cut may leave are made and opened.  Each sync is needed: as soon as what one of them does is left out, a state
turns up that breaks a promise.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goggles import failpoints
from goggles.clock import ManualClock
from goggles.contracts import orders
from goggles.contracts.orders import Order
from goggles.errors import GogglesError
from goggles.storage import containment
from goggles.storage.vault import Vault
from goggles.testing import aftermath
from goggles.testing.aftermath import State
from goggles.testing.powercut import Recorder

STATES = 150
SITE = "5" * 32
STAGED, QUARANTINE, GONE = "staged", "quarantine", "gone"
Places = dict[str, frozenset[str]]  # by version: where it may be


class Killed(BaseException):
    """The end of a process: nothing of ours catches it."""


def die() -> None:
    raise Killed


class Day:
    """A storage at work below `folder`; what it has promised by when."""

    def __init__(self, folder: Path) -> None:
        self.recorder = Recorder(folder)
        self.root = folder / "root"
        self.digests: dict[str, str] = {}
        self.meant: dict[str, set[str]] = {}  # by version: paths that it was ever to have
        self.may: Places = {}
        self.promises: list[tuple[int, Places, int]] = []  # from which step on: where what may be, and the epoch
        self.epoch = 0
        self._count = 0

    def open(self) -> None:
        self.vault = Vault.open(self.root, 1 << 30, ManualClock())

    def say(self, **may: frozenset[str]) -> None:
        self.may = {**self.may, **may}
        self.promises.append((self.recorder.now, dict(self.may), self.epoch))

    def adopt(self, epoch: int) -> None:
        self.vault.adopt(SITE, self.vault.site.storage_id, epoch, "token")
        self.epoch = epoch
        self.say()

    def data(self) -> tuple[str, bytes]:
        """A new version and its bytes."""
        self._count += 1
        version = f"{self._count:032x}"
        data = version.encode() * (30 * self._count)
        self.digests[version] = hashlib.sha256(data).hexdigest()
        return version, data

    def stage(self) -> str:
        version, data = self.data()
        staged = self.vault.stage(version, len(data))
        staged.write(data[:500])
        staged.write(data[500:])
        staged.finish(self.digests[version], version)
        self.say(**{version: frozenset({STAGED})})
        return version

    def together(self, count: int) -> list[str]:
        made = [self.data() for _ in range(count)]
        writes = [self.vault.stage(version, len(data)) for version, data in made]
        for write, (version, data) in zip(writes, made, strict=True):
            write.write(data)
            write.flush(self.digests[version], version)
        for write in writes:
            write.name()
        self.vault.sync_staging()
        for write in writes:
            write.settle()
        self.say(**{version: frozenset({STAGED}) for version, _ in made})
        return [version for version, _ in made]

    def arrive(self, dies: bool = False) -> str:
        version, data = self.data()
        self.do(orders.expect((version,)))
        with self.vault.arrivals.append(version, 0) as file:
            file.write(data)
        if dies:
            with self.killed_at("storage.ingest.before_sync"):
                self.vault.arrivals.ingest(version, len(data), self.digests[version], version)
        self.vault.arrivals.ingest(version, len(data), self.digests[version], version)
        self.say(**{version: frozenset({STAGED})})
        return version

    def do(self, *given: Order, **to: str) -> None:
        """Carry out orders, after which these versions (v1=...) are at these places."""
        moved = dict(to)
        for version, place in moved.items():
            self.meant.setdefault(version, set()).add(place)
        self.say(**{version: self.may[version] | {place} for version, place in moved.items()})
        assert [result for result in self.vault.apply(given) if result != ("ok",)] == []
        for version in moved:
            self.may[version] = frozenset({moved[version]})
        self.may = {version: may for version, may in self.may.items() if GONE not in may}
        self.say()

    def put(self, path: str, old: str = "") -> str:
        version = self.stage()
        gone = {old: GONE} if old else {}
        self.do(orders.publish(version, path, version, 1, old), **{version: path}, **gone)
        return version

    @contextlib.contextmanager
    def killed_at(self, point: str) -> Iterator[None]:
        """The process ends there in this block, and is started again."""
        failpoints.arm(point, die)
        with pytest.raises(Killed):
            yield
        failpoints.disarm(point)
        self.vault.close()
        self.open()


def work(day: Day) -> None:
    """Everything that a storage does to its folder."""
    day.open()
    first = day.stage()
    day.adopt(1)
    day.do(orders.publish(first, "/first", first, 1, ""), **{first: "/first"})
    day.do(orders.mkdir("/a/b/c"), orders.mkdir("/empty"))
    one, two, three = day.together(3)
    batch = [orders.publish(v, p, v, 1, "") for v, p in ((one, "/a/b/c/1"), (two, "/a/2"), (three, "/a/3"))]
    day.do(*batch, **{one: "/a/b/c/1", two: "/a/2", three: "/a/3"})
    second = day.put("/first", old=first)
    day.do(orders.move_file("/first", "/a/b/first", second), **{second: "/a/b/first"})
    day.do(orders.move("/a/b", "/moved"), **{second: "/moved/first", one: "/moved/c/1"})
    fourth = day.put("/other/c/4")
    day.do(orders.move("/moved", "/other"), **{second: "/other/first", one: "/other/c/1"})
    day.do(orders.remove("/a/2", two), **{two: GONE})
    day.do(orders.quarantine("/a/3", three), **{three: QUARANTINE})
    way(day, fourth)
    day.adopt(2)
    strangers(day)
    deaths(day)


def way(day: Day, fourth: str) -> None:
    """Files and directories in each other's way."""
    five = day.put("/five")
    six = day.stage()
    day.do(orders.publish(six, "/five/below", six, 1, ""), **{six: "/five/below", five: STAGED})
    day.do(orders.move_file("/gone", "/5", five), **{five: "/5"})
    seven = day.stage()
    day.do(
        orders.publish(seven, "/other/c", seven, 1, ""),
        **{seven: "/other/c", fourth: STAGED},
        **aside(day, "/other/c/1"),
    )
    day.do(orders.quarantine_staged(fourth), **{fourth: QUARANTINE})
    eight = day.put("/trashed/8")
    day.do(orders.remove_tree("/trashed"), **{eight: GONE})


def aside(day: Day, path: str) -> dict[str, str]:
    return {version: STAGED for version, may in day.may.items() if may == {path}}


def strangers(day: Day) -> None:
    """Files of other sites."""
    nine = day.arrive()
    day.do(orders.publish(nine, "/nine", nine, 1, ""), **{nine: "/nine"})
    ten = day.arrive(dies=True)
    day.do(orders.publish(ten, "/ten", ten, 1, ""), **{ten: "/ten"})


def deaths(day: Day) -> None:
    """The process dies before what it did was synced; the next one finds it done."""
    with day.killed_at("storage.settle.before_fsync"):
        day.do(orders.mkdir("/late/below"))
    day.do(orders.mkdir("/late/below"))
    day.put("/late/below/11")
    twelve = day.stage()
    with day.killed_at("storage.publish.after_rename"):
        day.do(orders.publish(twelve, "/late/12", twelve, 1, ""), **{twelve: "/late/12"})
    day.do(orders.publish(twelve, "/late/12", twelve, 1, ""), **{twelve: "/late/12"})


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    made = Day(tmp_path_factory.mktemp("day"))
    with made.recorder:
        work(made)
        made.vault.close()
    print(f"{len(made.recorder.steps)} steps, {len(made.recorder.syncs)} kinds of syncs")
    yield made


def wrong(day: Day, state: State, folder: Path) -> list[str]:
    """Which promises are broken in this state."""
    state.make(folder)
    due = [(may, epoch) for moment, may, epoch in day.promises if moment <= state.moment]
    may, epoch = due[-1] if due else ({}, 0)
    try:
        vault = Vault.open(folder / "root", 1 << 30, ManualClock())
    except GogglesError as error:
        return [f"it does not open: {error}"]
    try:
        found = inventory(day, vault, folder / "root")
        broken = [
            f"{v} is at {found.get(v)}, not {set(may[v])}" for v in may if not may[v] & (found.get(v, set()) | {GONE})
        ]
        broken += [
            f"{v} was never to be at {where}" for v, places in found.items() for where in places - allowed(day, v)
        ]
        if epoch and (vault.site.site_id, vault.site.epoch) < (SITE, epoch):
            broken.append(f"the folder says it is of {vault.site}")
        staged = [held.path for batch in vault.walk_staged() for held in batch if held.kind == "staged"]
        vault.apply([orders.discard(upload) for upload in staged])
        broken += [f"{held} is left over" for batch in vault.walk_staged() for held in batch if held.kind == "staged"]
    finally:
        vault.close()
    return broken


def allowed(day: Day, version: str) -> set[str]:
    return {STAGED, QUARANTINE} | day.meant.get(version, set())


def inventory(day: Day, vault: Vault, root: Path) -> dict[str, set[str]]:
    """Where each version is, with its own bytes; a note that lies is an error."""
    found: dict[str, set[str]] = {}
    for held in (held for batch in vault.walk() for held in batch if held.kind in ("file", "staged") and held.hash):
        path = root / (f".goggles/staging/{held.path}" if held.kind == "staged" else held.path.lstrip("/"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lies = held.hash != digest or (held.kind == "file" and day.digests.get(held.version) != digest)
        found.setdefault(f"{held.version}{' (with other bytes)' if lies else ''}", set()).add(
            STAGED if held.kind == "staged" else held.path
        )
    versions = {digest: version for version, digest in day.digests.items()}
    for path in (root / ".goggles/quarantine").glob("*/**/*"):
        if path.is_file():
            version = versions.get(hashlib.sha256(path.read_bytes()).hexdigest(), str(path))
            found.setdefault(version, set()).add(QUARANTINE)
    return found


def look(day: Day, folder: Path, states: Iterator[State]) -> list[str]:
    """What is wrong with the first of these states with which something is."""
    for number, state in enumerate(states):
        here = folder / str(number)
        here.mkdir()
        broken = wrong(day, state, here)
        if broken:
            return [f"after {state.moment} steps, before {day.recorder.steps[state.moment :][:1]}, {here}", *broken]
        shutil.rmtree(here, ignore_errors=True)  # its trash is emptied meanwhile
    return []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made again and again to be looked at need not outlive this machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(containment, "sync_file_system", lambda _: None)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_power_cut_leaves_holds_what_was_promised(day: Day, tmp_path: Path, seed: int) -> None:
    assert look(day, tmp_path, aftermath.states(day.recorder, random.Random(seed), STATES)) == []


def after(work_of: Callable[[Day], object], folder: Path) -> list[str]:
    """What a power cut breaks on a day with this work alone."""
    short = Day(folder / "day")
    short.recorder.folder.mkdir()
    with short.recorder:
        short.open()
        work_of(short)
        short.vault.close()
    (folder / "states").mkdir()
    return look(short, folder / "states", aftermath.states(short.recorder, random.Random(1), 2 * STATES))


@pytest.mark.usefixtures("quick")
def test_the_folder_of_a_new_storage_does_not_vanish_with_what_was_staged_in_it(tmp_path: Path) -> None:
    assert after(lambda day: bool(day.stage()), tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_a_day_of_the_quarantine_does_not_vanish_with_what_was_put_into_it(tmp_path: Path) -> None:
    def taken(day: Day) -> None:
        version = day.put("/a")
        day.do(orders.quarantine("/a", version), **{version: QUARANTINE})

    assert after(taken, tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_a_file_is_not_moved_into_a_directory_that_may_vanish(tmp_path: Path) -> None:
    assert after(lambda day: [day.put(f"/new{number}/below/file") for number in range(3)], tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_a_directory_that_a_killed_process_made_does_not_vanish_with_what_is_put_into_it(tmp_path: Path) -> None:
    def killed(day: Day) -> None:
        with day.killed_at("storage.settle.before_fsync"):
            day.do(orders.mkdir("/late"))
        day.put("/late/file")

    assert after(killed, tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_an_arrival_whose_folder_could_not_be_synced_is_synced_when_it_comes_again(tmp_path: Path) -> None:
    def again(day: Day) -> None:
        failpoints.arm("storage.ingest.before_sync", die)
        with pytest.raises(Killed):
            day.arrive()
        failpoints.disarm()
        version = f"{1:032x}"
        day.vault.arrivals.ingest(version, 960, day.digests[version], version)
        day.say(**{version: frozenset({STAGED})})

    assert after(again, tmp_path) == []


def test_nothing_escaped_the_recorder(day: Day, tmp_path: Path) -> None:
    """All steps together give the folder as it is."""
    aftermath.whole(day.recorder).make(tmp_path)
    assert contents(tmp_path) == contents(day.recorder.folder)


def contents(folder: Path) -> dict[str, tuple[bytes, bytes, int]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): (
            path.read_bytes(),
            os.getxattr(path, "user.goggles") if "user.goggles" in os.listxattr(path) else b"",
            path.stat().st_mtime_ns,
        )
        for path in paths
    }


# Those without which no promise is broken, and why they are there.
SPARE = {
    "_probe": "only a trial whether the disk can do it",
    "Arrivals.make": "a place that is lost is asked for again; only time would be",
    "Carrier._merge": "a file system with a journal keeps the order of a removal and of what was taken out before",
}


def spare(where: str) -> bool:
    return any(name in where for name in SPARE)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_without_any_one_of_the_syncs_a_promise_is_broken(day: Day, tmp_path: Path) -> None:
    needless = []
    for where in sorted(day.recorder.syncs):
        here = tmp_path / hashlib.sha256(where.encode()).hexdigest()[:8]
        here.mkdir()
        most = STATES if spare(where) else 20 * STATES
        found = look(day, here, aftermath.states(day.recorder, random.Random(where), most, without=where))
        print(f"without {where}: {found[1] if found else 'nothing breaks'}")
        needless += [] if found else [where]
    assert needless == [where for where in sorted(day.recorder.syncs) if spare(where)]
