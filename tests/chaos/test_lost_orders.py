"""The nameserver dies between a commit and the orders that go with it: disks follow the tree all the same."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from goggles.client.sending import Source, send
from goggles.contracts.data import WriteTicket
from goggles.errors import GogglesError, UploadLost
from goggles.testing.cluster import Cluster
from goggles.testing.fsck import fsck

MANY = 1_200  # more than a storage tells of in one call of its self-check
FLAGS = ["--heartbeat", "0.5", "--copies", "1"]


def fill(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(MANY):
        (folder / f"{index:04}").write_bytes(content)
    return folder


def test_what_was_replaced_unseen_is_not_left_behind(tmp_path: Path) -> None:
    """What a self-check publishes puts aside files that the same self-check has not come by yet."""
    with Cluster(tmp_path / "cluster", ("alice",), nameserver_flags=FLAGS) as cluster:
        with cluster.connect(timeout=60) as fs:
            fs.put_tree(fill(tmp_path / "many", b"first"), "/many")
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        dying = cluster.start_nameserver(environment={"GOGGLES_FAILPOINTS": "nameserver.commit.before_orders=crash@1"})
        cluster.wait_active(("alice",))
        with cluster.connect(timeout=2) as fs, contextlib.suppress(GogglesError):
            fs.put_tree(fill(tmp_path / "many", b"second"), "/many")
        assert not dying.running
        cluster.storages["alice"].kill()
        cluster.start_nameserver()
        cluster.start_storage(
            "alice", environment={"GOGGLES_FAILPOINTS": "storage.selfcheck.before_inventory=sleep:0.5"}
        )
        cluster.wait_active(("alice",))
        cluster.wait_settled()
        assert fsck(cluster.database, {"alice": cluster.root("alice")}) == []


def test_bytes_for_an_earlier_nameserver_are_not_left_behind(tmp_path: Path) -> None:
    """They come after the self-check looked, and the storage's own connection to the nameserver is a dead one."""
    local = tmp_path / "local"
    local.write_bytes(b"late")
    with Cluster(tmp_path / "cluster", ("alice",), nameserver_flags=FLAGS) as cluster:
        with cluster.connect(timeout=60) as fs, Source(local) as source:
            fs.write("/before", b"something")
            ticket = WriteTicket.from_wire(fs._calls("open_write", "/late", source.size, 0, ()))
            assert cluster.nameserver is not None
            cluster.nameserver.kill()
            cluster.start_nameserver()
            cluster.wait_active(("alice",))
            late = replace(ticket, chain=tuple(replace(hop, after=0) for hop in ticket.chain))
            sent = send(fs._links, late, source, lambda _: None, None)
        assert [stored.code for stored in sent.stored] == [UploadLost.code]
        assert fsck(cluster.database, {"alice": cluster.root("alice")}) == []
