"""Copies that were ordered before a restart of the nameserver are no load for it.

Law: what waits for an order of a session that is over does not hold up those that are ordered now."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.chaos.test_failpoints_elsewhere import content

from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck

pytestmark = pytest.mark.slow
FLAGS = ["--grace", "2", "--heartbeat", "0.3", "--lease", "20", "--copies", "1", "--repair_streams", "32"]
SLOW = {"GOGGLES_FAILPOINTS": "storage.stage.before_fsync=sleep:0.5"}
FILES = 48


def test_copies_ordered_before_a_restart_do_not_hold_up_those_after_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, ("alice", "bob"), nameserver_flags=FLAGS) as cluster, cluster.connect() as fs:
        fs.mkdir("/d")
        cluster.storages["bob"].stop()
        files = {f"/d/{number}": str(number).encode() * 100 for number in range(FILES)}
        for path, data in files.items():
            fs.write(path, data)
        slow = cluster.start_storage("bob", environment=SLOW)
        cluster.wait_active(("alice", "bob"))
        fs.setrep("/d", 2)
        for path in files:
            fs.setrep(path, 2)
        wait_until("copies under way", lambda: fs.du()[0].owed < FILES, 30)
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        cluster.start_nameserver()
        began = time.monotonic()
        cluster.wait_active(("alice", "bob"))
        cluster.wait_settled(45)
        assert slow.running, "what was ordered before is still with it"
        assert time.monotonic() - began < 45
        assert {path: content(fs, path) for path in files} == files
        assert fsck(cluster.database, {name: cluster.root(name) for name in cluster.names}) == []


def test_no_more_copies_than_it_may_make_at_once_are_ordered_from_a_storage(tmp_path: Path) -> None:
    flags = [*FLAGS[:-1], "3"]
    with Cluster(tmp_path, ("alice", "bob"), nameserver_flags=flags) as cluster, cluster.connect() as fs:
        fs.mkdir("/d")
        cluster.storages["bob"].stop()
        for number in range(FILES):
            fs.write(f"/d/{number}", b"x" * 1_000)
        cluster.start_storage("bob", environment=SLOW)
        cluster.wait_active(("alice", "bob"))
        for number in range(FILES):
            fs.setrep(f"/d/{number}", 2)
        cluster.wait_settled()
        assert cluster.nameserver is not None
        lines = cluster.nameserver.log.read_text().splitlines()
        assert most_at_once(lines) == 3


def most_at_once(lines: list[str]) -> int:
    """How many copies were under way at the same time, as the nameserver's log tells of them."""
    under_way = most = 0
    for line in lines:
        under_way += ("[story] copying " in line) - ("[story] copied " in line)
        most = max(most, under_way)
    return most
