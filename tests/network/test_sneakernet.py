"""A drive is filled, written down, carried, and taken in at another site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goggles.errors import BadRequest, GogglesError, NotFound
from goggles.testing.cluster import wait_until
from goggles.testing.network import Network

FLAGS = ("--heartbeat", "0.5", "--grace", "2")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path, {"south": ("s1",), "north": ("n1",)}, FLAGS) as made:
        made.link("south", "north")
        made["south"].start_storage("drive", ["--ingestable", "no"])
        made["south"].wait_active(("drive",))
        yield made


def manifest(network: Network, *flags: Any) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    after = 0
    while after >= 0:
        header, page, after = network.admin("south", "get_store_manifest", "drive", *flags, after)
        assert dict(header) == {"librarian_name": "south", "store_name": "drive", "format": 1}
        entries += [dict(entry) for entry in page]
    return entries


def take_in(network: Network, entries: list[dict[str, Any]], root: Path) -> list[Any]:
    """What a client does with a manifest; the answers to its end."""
    pairs = tuple(tuple(entry.items()) for entry in entries)
    answers = network.admin("north", "stage_manifest_entries", "south", pairs)
    with network["north"].connect(name="admin") as fs:
        for entry, answer in zip(entries, answers, strict=True):
            if answer[0] == "wanted":
                fs.mkdir(entry["name"].rpartition("/")[0] or "/", parents=True, exist_ok=True)
                fs.put(root / entry["instance_path"][1:], entry["name"])
    return list(network.admin("north", "complete_manifest_entries", "south", pairs))


def test_a_drive_is_filled_carried_and_taken_in(network: Network) -> None:
    south, north = network["south"].connect(), network["north"].connect()
    files = {f"/run/{number}": os.urandom(1000 + number) for number in range(20)}
    south.mkdir("/run")
    for path, data in files.items():
        south.write(path, data)
    assert all(south.stat(path).storages == ("s1",) for path in files), "a drive takes no new files by itself"
    plan = (("clone_from", "s1"), ("clone_to", ("drive",)), ("files_per_run", 8))
    begun = []
    for number in range(3):
        begun.append(network.admin("south", "run_plan", "create_local_clone", plan, f"fill {number}"))
        wait_until("copied", lambda: south.du()[0].uploads == 0, 20)
    assert begun == [8, 8, 4]
    wait_until("all on it", lambda: all(set(south.stat(path).storages) == {"drive", "s1"} for path in files), 20)
    assert all((south.stat(path).live, south.stat(path).copies) == (1, 1) for path in files)

    entries = manifest(network, "north", True, True)
    assert {entry["name"] for entry in entries} == set(files)
    again = manifest(network, "north", True, True)  # the first one got lost
    assert again == [{**entry, "instance_available": False} for entry in entries]
    assert manifest(network, "", False, False) == [], "nothing on it counts any more"
    assert all(south.stat(path).unavailable == ("drive",) for path in files)
    network["south"].storages["drive"].stop()

    assert {answer[0] for answer in take_in(network, entries, network["south"].root("drive"))} == {"done"}
    for path, data in files.items():
        assert b"".join(north.read(path)) == data
        assert north.stat(path).uploader == south.stat(path).uploader
        assert north.stat(path).created == pytest.approx(south.stat(path).created)
        assert north.stat(path).source == "south"
    wait_until("known", lambda: all(south.stat(path).elsewhere == (("north", "n1"),) for path in files), 30)
    before = {path: north.stat(path).version for path in files}
    assert {answer[0] for answer in take_in(network, entries, network["south"].root("drive"))} == {"done"}
    assert {path: north.stat(path).version for path in files} == before, "a second time changes nothing"
    assert manifest(network, "north", False, False) == [], "all of it has arrived"


def test_a_full_drive_is_disabled_and_the_rest_waits(network: Network) -> None:
    south = network["south"].connect()
    network["south"].storages["drive"].stop()
    network["south"].start_storage("drive", ["--ingestable", "no", "--capacity", "5000"])
    network["south"].wait_active(("drive",))
    for number in range(4):
        south.write(f"/f{number}", os.urandom(2000))
    plan = (("clone_from", "s1"), ("clone_to", "drive"), ("disable_store_on_full", True))
    assert network.admin("south", "run_plan", "create_local_clone", plan, "fill") == 2
    stores = {dict(one)["name"]: dict(one) for one in network.admin("south", "get_store_list")}
    assert (stores["drive"]["enabled"], stores["drive"]["ingestable"], stores["s1"]["enabled"]) == (False, False, True)
    network.admin("south", "set_store_state", "drive", True)
    assert dict(network.admin("south", "get_store_list")[0])["enabled"]


def test_a_file_has_one_copy_on_all_drives_together(network: Network) -> None:
    south = network["south"].connect()
    network["south"].storages["drive"].stop()
    for name, room in (("drive", "5000"), ("second", "50000")):
        network["south"].start_storage(name, ["--ingestable", "no", "--capacity", room])
    network["south"].wait_active(("drive", "second"))
    for number in range(4):
        south.write(f"/f{number}", os.urandom(2000))
    plan = (("clone_from", "s1"), ("clone_to", ("drive", "second")), ("disable_store_on_full", True))
    begun = 0
    for number in range(3):
        begun += network.admin("south", "run_plan", "create_local_clone", plan, f"fill {number}")
        wait_until("copied", lambda: south.du()[0].uploads == 0, 20)
    assert begun == 4, "what is on a drive that is full, and disabled, needs no second one"
    wait_until("each on one", lambda: all(len(south.stat(f"/f{n}").storages) == 2 for n in range(4)), 20)
    manifest(network, "north", True, True)
    assert network.admin("south", "run_plan", "create_local_clone", plan, "carried away") == 0


def test_a_disabled_storage_takes_nothing_and_is_read(network: Network) -> None:
    south = network["south"].connect(timeout=5)
    south.write("/before", b"x")
    network.admin("south", "set_store_state", "s1", False)
    with pytest.raises(GogglesError):
        south.write("/after", b"y")
    assert b"".join(south.read("/before")) == b"x"
    network["south"].nameserver.kill()  # type: ignore[union-attr]
    network["south"].start_nameserver()
    network["south"].wait_active(("s1",))
    with pytest.raises(GogglesError):
        south.write("/after", b"y")
    network.admin("south", "set_store_state", "s1", True)
    south.write("/after", b"y")


ENTRY = {"name": "/x", "create_time": 1.0, "size": 1, "checksum": "0" * 64, "uploader": "a", "source": "b"}
ENTRY |= {"instance_path": "/x"}


WRONG: list[dict[str, Any]] = [
    {"name": "relative"},
    {"name": "/a/../../etc/passwd"},
    {"name": "/.goggles/site.json"},
    {"name": "/"},
    {"name": 5},
    {"size": -1},
    {"size": "many"},
    {"checksum": "md5:::abc"},
    {"create_time": "yesterday"},
    {"uploader": "x" * 300},
    {"outgoing_transfer_id": "short"},
]


def test_a_manifest_is_checked_before_it_is_believed(network: Network) -> None:
    pairs = tuple(tuple((ENTRY | wrong).items()) for wrong in [{}, *WRONG])
    answers = network.admin("north", "stage_manifest_entries", "south", pairs)
    assert answers[0] == ("wanted", "")
    assert {answer[0] for answer in answers[1:]} <= {"bad_request", "bad_path"}


def test_what_is_not_there_is_not_completed(network: Network) -> None:
    (answer,) = network.admin("north", "complete_manifest_entries", "south", (tuple(ENTRY.items()),))
    assert answer[0] == NotFound.code
    with pytest.raises(BadRequest):
        network.admin("north", "stage_manifest_entries", "", (tuple(ENTRY.items()),))
