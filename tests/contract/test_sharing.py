"""What other librarians hold: where it may not be moved, how it is counted, and that it can be let go."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select
from tests.contract.steps import changing, p, put

from goggles.errors import Shared
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.meta.tables import ROOT_ID
from goggles.meta.validating import validate


def peer(database: Database, name: str = "there") -> int:
    row = {
        "name": name,
        "url": "there:8000",
        "port": 8000,
        "certificate_name": "",
        "authenticator": b"",
        "enabled": True,
    }
    row |= {"managers": "goggles", "added_at": 1.0, "last_seen": 0.0, "last_heard": 0.0}
    with database.write() as connection:
        return int(connection.execute(insert(peering.peers).values(row)).inserted_primary_key[0])


def counts(database: Database) -> dict[int, int]:
    with database.read() as connection:
        return {row.entry_id: row.count for row in connection.execute(select(peering.shared))}


def test_what_others_hold_keeps_its_path_and_its_bytes(database: Database) -> None:
    other = peer(database)
    with changing(database) as tree:
        tree.mkdir(p("/a/b"), parents=True)
        held, free = put(tree, "/a/b/held"), put(tree, "/a/free")
        assert tree.add_elsewhere(held.id, other, "alice", "here", 4.0)
        assert not tree.add_elsewhere(held.id, other, "alice", "here", 4.0)
    for action in (
        lambda tree: tree.move(p("/a/b/held"), p("/x")),
        lambda tree: tree.move(p("/a/b"), p("/x")),
        lambda tree: tree.move(p("/a"), p("/x")),
        lambda tree: tree.move(p("/a/free"), p("/a/b/held")),
        lambda tree: put(tree, "/a/b/held"),
    ):
        with pytest.raises(Shared), changing(database) as tree:
            action(tree)
    with changing(database) as tree:
        tree.move(p("/a/free"), p("/free"))
        assert [(row.peer_id, row.store) for row in tree.elsewhere([held.id, free.id])] == [(other, "alice")]
        assert tree.drop_elsewhere(held.id) == 1
        tree.move(p("/a"), p("/x"))
    assert counts(database) == {}


def test_sharing_is_counted_once_for_each_directory_above(database: Database) -> None:
    one, two = peer(database), peer(database, "two")
    with changing(database) as tree:
        tree.mkdir(p("/a/b/c"), parents=True)
        first, second = put(tree, "/a/b/c/first"), put(tree, "/a/second")
        for entry, at, store in ((first, one, "x"), (first, one, "y"), (first, two, "x"), (second, two, "x")):
            tree.add_elsewhere(entry.id, at, store, "here", 4.0)
        a, b = tree.need_dir(p("/a")).id, tree.need_dir(p("/a/b")).id
    found = counts(database)
    assert [found[number] for number in (a, b, first.id, second.id)] == [2, 1, 3, 1]
    with changing(database) as tree:
        tree.drop_elsewhere(first.id, one)
    assert counts(database)[first.id] == 1
    with changing(database) as tree:
        tree.rm(p("/a/b/c/first"))
    assert counts(database) == {ROOT_ID: 1, a: 1, second.id: 1}


def test_shared_files_may_be_removed_alone_and_with_their_directory(database: Database) -> None:
    other = peer(database)
    with changing(database) as tree:
        tree.mkdir(p("/a/b"), parents=True)
        for name in ("/a/b/1", "/a/b/2", "/a/3"):
            tree.add_elsewhere(put(tree, name).id, other, "alice", "here", 4.0)
    with changing(database) as tree:
        tree.remove_tree(p("/a/b"))
        tree.unshare(99_999)  # the end of a transfer of something that is gone
    with changing(database) as tree:
        assert tree.shared_count(ROOT_ID) == 1
        while tree.purge_trash(100).rows:
            pass
    with changing(database) as tree:
        tree.remove_tree(p("/a"))
        while tree.purge_trash(100).rows:
            pass
    assert counts(database) == {}
    with database.read() as connection:
        assert connection.execute(select(peering.remote_instances)).all() == []
        assert validate(connection) == []
