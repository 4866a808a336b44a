"""The scrub: order, pace, what it tells, and where it goes on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence

import pytest

from goggles.bulk import BulkReader, aligned
from goggles.clock import ManualClock
from goggles.contracts.orders import Held, ScrubState
from goggles.errors import Unavailable
from goggles.paths import DfsPath
from goggles.storage import scrubbing
from goggles.storage.inorder import files_after
from goggles.storage.pacing import Pace
from goggles.storage.scrubbing import DAY, LEAST, Scrubber, speed

MIB = 1 << 20


class OwnTime(ManualClock):
    """Whoever waits moves the time on."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.advance(0.0 if event.is_set() else seconds)
        return event.is_set()


class Listener:
    """The nameserver: `wrong` are contents that it does not like."""

    def __init__(self) -> None:
        self.heard: list[Held] = []
        self.state = ScrubState()
        self.wrong: set[str] = set()
        self.there = True

    def __call__(self, batch: Sequence[Held], state: ScrubState) -> list[int]:
        if not self.there:
            raise Unavailable("away")
        self.heard += batch
        self.state = state
        return [place for place, held in enumerate(batch) if held.hash in self.wrong]

    @property
    def paths(self) -> list[str]:
        return [held.path for held in self.heard]


@pytest.fixture
def time():
    return OwnTime()


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def scrubber(box, time, listener):
    """Call it for a scrubber as after a start; the first time it is due at once."""

    def make(days: float = 14.0, most: int = 0, busy=lambda: False) -> Scrubber:
        made = Scrubber(box.vault, days, most, listener, busy, time)
        if not (box.root / ".goggles/scrub.json").exists():
            time.advance(3_600.0)
        return made

    return make


def test_every_file_is_read_and_told_with_its_version_in_a_fixed_order(box, scrubber, listener):
    versions = {path: box.put(path, path.encode()) for path in ("/b", "/a/z", "/a/b/c", "/ab", "/a b", "/B")}
    scrubber().step()
    assert listener.paths == ["/B", "/a/b/c", "/a/z", "/a b", "/ab", "/b"]
    assert [(held.version, held.hash, held.size) for held in listener.heard] == [
        (versions[path], box.sha(path.encode()), len(path)) for path in listener.paths
    ]
    assert (listener.state.files, listener.state.size) == (6, sum(map(len, versions)))
    assert listener.state.ended >= listener.state.began > 0


@pytest.mark.parametrize(
    "place", ["/", "/a", "/a/b/c", "/a/b/nothing", "/a/bb", "/ab", "/zz", "/a/b/c/now a directory"]
)
def test_it_goes_on_after_any_place(box, place):
    for path in ("/b", "/a/z", "/a/b/c", "/ab", "/a b", "/a-", "/a/b/nothing more"):
        box.put(path, b"x")
    key = lambda path: [part.encode() for part in path[1:].split("/")]  # noqa: E731 - the order, in a line
    everything = list(files_after(box.vault.root))
    assert everything == sorted(everything, key=key)
    assert len(everything) == 7
    expected = [path for path in everything if place == "/" or key(path) > key(place)]
    assert list(files_after(box.vault.root, DfsPath(place))) == expected


def test_links_and_the_systems_own_folder_are_not_read(box, scrubber, listener, tmp_path):
    box.put("/a", b"x")
    (tmp_path / "outside").write_bytes(b"secret")
    (box.root / "link").symlink_to(tmp_path / "outside")
    (box.root / "folder").symlink_to(tmp_path)
    os.mkfifo(box.root / "pipe")
    scrubber().step()
    assert listener.paths == ["/a"]


def test_bytes_that_turned_bad_are_told_and_stay_where_they_are(box, scrubber, listener):
    version = box.put("/a", b"good bytes")
    (box.root / "a").write_bytes(b"BAD bytes!")
    listener.wrong = {box.sha(b"BAD bytes!")}
    scrubber().step()
    assert [(held.path, held.version, held.hash) for held in listener.heard] == [
        ("/a", version, box.sha(b"BAD bytes!"))
    ]
    assert listener.state.bad == 1
    assert box.disk() == {"/a": b"BAD bytes!"}
    assert box.quarantine() == set()


def test_after_a_restart_it_goes_on_where_the_nameserver_had_heard_of_it(box, scrubber, listener, monkeypatch):
    monkeypatch.setattr(scrubbing, "BATCH", 2)
    for number in range(7):
        box.put(f"/f{number}", b"x" * (number + 1))
    made = scrubber()
    told = listener.__class__.__call__

    def lost_after_two(self, batch, state):
        self.there = len(self.heard) < 4
        return told(self, batch, state)

    monkeypatch.setattr(Listener, "__call__", lost_after_two)
    with pytest.raises(Unavailable):
        made.step()
    assert listener.paths == ["/f0", "/f1", "/f2", "/f3"]
    monkeypatch.setattr(Listener, "__call__", told)
    listener.there = True
    began = listener.state.began
    box.reopen()
    scrubber().step()
    assert listener.paths == [f"/f{number}" for number in range(7)]
    assert (listener.state.files, listener.state.size, listener.state.began) == (7, 28, began)


def test_a_round_begins_when_the_days_are_over_and_not_before(box, scrubber, listener, time):
    box.put("/a", b"x")
    made = scrubber(days=14.0)
    made.step()
    began = listener.state.began
    time.advance(13.9 * DAY)
    made.step()
    assert listener.paths == ["/a"]
    time.advance(0.2 * DAY)
    made.step()
    assert listener.paths == ["/a", "/a"]
    assert listener.state.began > began + 13.9 * DAY
    assert listener.state.files == 1


def test_fewer_days_and_a_clock_that_was_wrong_do_not_put_it_off(box, scrubber, listener, time):
    box.put("/a", b"x")
    scrubber(days=1000.0).step()
    made = scrubber(days=1.0)
    made.step()
    time.advance(1.1 * DAY)
    made.step()
    assert listener.paths == ["/a", "/a"]


def test_switched_off_it_reads_nothing_and_says_so(box, scrubber, listener):
    box.put("/a", b"x")
    scrubber(days=0.0).step()
    assert (listener.paths, listener.state.days) == ([], 0.0)


@pytest.mark.parametrize(
    "raw", ["", "[]", "{}", '{"place": "../x", "due": 1, "state": {}}', '{"place": "", "due": "x"}']
)
def test_a_state_that_can_not_be_read_costs_a_round_and_no_more(box, scrubber, listener, time, raw):
    box.put("/a", b"x")
    (box.root / ".goggles/scrub.json").write_text(raw)
    made = scrubber()
    time.advance(3_601.0)
    made.step()
    assert listener.paths == ["/a"]
    assert json.loads((box.root / ".goggles/scrub.json").read_text())["place"] == ""


@pytest.mark.parametrize(
    ("total", "done", "left", "most", "expected"),
    [
        (14 * LEAST, 0, 1.0, 0, 14 * LEAST),
        (14 * LEAST, 7 * LEAST, 1.0, 0, 7 * LEAST),
        (10, 0, 1e6, 0, LEAST),
        (14 * LEAST, 0, 1.0, 3 * LEAST, 3 * LEAST),
        (10, 0, 1e6, 500, 500),
        (14 * LEAST, 0, -5.0, 0, 14 * LEAST),
        (0, 10, 1.0, 0, LEAST),
    ],
)
def test_the_speed_is_what_the_days_ask_for_within_its_bounds(total, done, left, most, expected):
    assert speed(total, done, left, most) == expected


def test_it_keeps_to_its_speed(box_class, tmp_path, time, listener):
    box = box_class(tmp_path / "large")
    box.capacity = 64 * MIB
    box.reopen()
    for number in range(4):
        box.put(f"/f{number}", os.urandom(2 * MIB))
    made = Scrubber(box.vault, 14.0, 256 << 10, listener, lambda: False, time)
    time.advance(3_600.0)
    before = time.monotonic()
    made.step()
    took = time.monotonic() - before
    assert took == pytest.approx(8 * MIB / (256 << 10), rel=0.05)
    box.vault.close()


def test_it_steps_aside_for_others_but_not_for_ever(box, scrubber, listener, time):
    box.put("/a", b"x")
    before = time.monotonic()
    scrubber(busy=lambda: True).step()
    assert listener.paths == ["/a"]
    assert time.monotonic() - before == pytest.approx(3_600.0 + 2 * scrubbing.PATIENCE)


def test_a_pace_saves_nothing_up(time):
    pace = Pace(time, threading.Event())
    time.advance(1_000.0)
    before = time.monotonic()
    pace.take(10, 10.0)
    pace.take(10, 10.0)
    assert time.monotonic() - before == pytest.approx(2.0)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, MIB, MIB + 1, 3 * MIB + 4096 + 17])
def test_a_file_is_read_whole_past_the_page_cache(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    reader, found = BulkReader(fd, aligned(MIB)), b""
    while piece := reader.read():
        found += bytes(piece)
    os.close(fd)
    assert (found == data, reader.place) == (True, size)
