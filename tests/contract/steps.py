"""The tree over a real database, in the few steps that these tests are made of."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from goggles.meta.database import Database
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.entry import Entry
from goggles.nameserver.tree import Tree
from goggles.paths import DfsPath, parse

DIGEST = "ab" * 32


@contextmanager
def changing(database: Database, cache: DirCache | None = None, now: float = 5.0) -> Iterator[Tree]:
    """A group of verbs, as the nameserver runs it."""
    with database.write() as connection:
        tree = Tree(connection, DirCache() if cache is None else cache, now)
        yield tree
        tree.flush()
    tree.committed()


@contextmanager
def looking(database: Database, cache: DirCache | None = None) -> Iterator[Tree]:
    with database.read() as connection:
        tree = Tree(connection, DirCache() if cache is None else cache, 5.0)
        yield tree
        tree.committed()


def put(tree: Tree, path: str, size: int = 3, holders: tuple[int, ...] = ()) -> Entry:
    above, _, name = path.rpartition("/")
    parent = tree.need_dir(parse(above or "/")).id
    common = {"version": secrets.token_hex(16), "uploader": "u", "source": "s", "copies": 2}
    return tree.commit_file(parent, name, size=size, sha256=DIGEST, holders=holders, **common).entry


def p(path: str) -> DfsPath:
    return parse(path)
