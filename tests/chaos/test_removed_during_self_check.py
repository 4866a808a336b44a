"""A directory is removed with all in it while a storage is about to become active: it looks once more."""

from __future__ import annotations

from pathlib import Path

from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck

NAMES = ("alice", "bob")
SLOWLY = {"GOGGLES_FAILPOINTS": "storage.selfcheck.before_activate=sleep:4*1"}


def test_what_is_removed_at_the_end_of_a_self_check_is_not_left_behind(tmp_path: Path) -> None:
    with Cluster(tmp_path, NAMES, nameserver_flags=["--heartbeat", "0.3"]) as cluster, cluster.connect() as fs:
        fs.mkdir("/gone")
        fs.write("/gone/file", b"bytes")
        cluster.wait_settled()
        bob = cluster.root("bob")
        cluster.storages["bob"].kill()
        fs.mkdir("/new")
        cluster.start_storage("bob", environment=SLOWLY)
        wait_until("the verdict on bob's files", (bob / "new").is_dir)
        assert cluster.states()["bob"] == "checking"
        fs.rmdir("/gone", recursive=True)
        cluster.wait_active(NAMES)
        wait_until("bob has removed it, too", lambda: not (bob / "gone").exists())
        cluster.wait_active(NAMES)
        cluster.wait_settled()
        assert fsck(cluster.database, {name: cluster.root(name) for name in NAMES}) == []
