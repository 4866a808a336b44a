"""A storage that can not carry out an order does not spend its days on self-checks.

Law: what failed is tried again by a self-check, at once and then after growing pauses; once the trouble is over, the
site mends itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.chaos.test_failpoints_elsewhere import content

from goggles.testing.cluster import Cluster
from goggles.testing.fsck import fsck

pytestmark = pytest.mark.slow
FLAGS = ["--heartbeat", "0.3", "--grace", "2", "--lease", "5"]
BROKEN = {"GOGGLES_FAILPOINTS": "storage.move.before_rename=error"}
WHILE = 25.0  # seconds; self-checks after 0, 5 and 10 more, and the one of the start


def test_self_checks_that_do_not_help_are_made_more_and_more_seldom(tmp_path: Path) -> None:
    with Cluster(tmp_path, ("alice", "bob"), nameserver_flags=FLAGS) as cluster, cluster.connect() as fs:
        fs.mkdirs(["/a", "/b"])
        files = {f"/b/{number}": str(number).encode() * 99 for number in range(5)}
        for path, data in files.items():
            fs.write(path.replace("/b/", "/a/"), data)
        cluster.wait_settled()
        cluster.kill_storage("alice")
        broken = cluster.start_storage("alice", environment=BROKEN)
        cluster.wait_active(cluster.names)
        for path in files:
            fs.mv(path.replace("/b/", "/a/"), path)
        time.sleep(WHILE)
        checks = broken.log.read_text().count("self-check done")
        assert 3 <= checks <= 6, f"{checks} self-checks, with the first one of each start"
        assert {path: content(fs, path) for path in files} == files, "bob has them all"
        assert fs.du()[0].orders > 0, "and nobody takes it for done"
        cluster.kill_storage("alice")
        cluster.start_storage("alice")
        cluster.wait_active(cluster.names)
        cluster.wait_settled()
        assert {path: content(fs, path) for path in files} == files
        assert fsck(cluster.database, {name: cluster.root(name) for name in cluster.names}) == []
