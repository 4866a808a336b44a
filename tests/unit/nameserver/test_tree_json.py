"""tree.json: what is taken in, what is refused, and what is written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from goggles.errors import BadRequest, LocalFileError
from goggles.meta import tables
from goggles.meta.database import Database
from goggles.meta.database import _first_rows as first_rows
from goggles.meta.validating import validate
from goggles.nameserver import treejson
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.tree import Tree
from goggles.paths import parse

DIGEST = "ab" * 32
FILE = {"type": "FILE", "size": 5, "hash": DIGEST}
DIRECTORY: dict[str, Any] = {"type": "DIRECTORY", "files": []}


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Connection]:
    """A transaction on an empty tree."""
    database = Database.open(tmp_path / "tree.db")
    with database.write() as connection:
        tables.metadata.create_all(connection)
        first_rows(connection, "test", 1.0)
        yield connection
    database.close()


def take_in(tx: Connection, tmp_path: Path, content: object) -> int:
    source = tmp_path / "tree.json"
    source.write_text(content if isinstance(content, str) else json.dumps(content))
    return treejson.import_file(tx, source, 9.0, copies=3)


def test_entries_come_in_any_order_and_directories_between_are_made(tx: Connection, tmp_path: Path) -> None:
    content = {
        "/a/b/f": {"hash": DIGEST.upper(), "path": "/a/b/f", "size": 5, "type": "FILE"},
        "/x/y/": DIRECTORY,
        "/a": {"files": ["b"], "type": "DIRECTORY"},
        "/": {"files": ["a"], "path": "/", "type": "DIRECTORY"},
        "/a/b": {"type": "DIRECTORY"},
    }
    assert take_in(tx, tmp_path, content) == 5
    tree = Tree(tx, DirCache(), 9.0)
    entry = tree.need_file(parse("/a/b/f"))
    assert (entry.size, entry.sha256, entry.generation, entry.copies, entry.created) == (5, DIGEST, 1, 3, 9.0)
    assert tree.need_dir(parse("/x/y")).is_dir
    assert tree.totals() == (1, 4, 5) and tree.owed_first(9, skip=()) == [entry.id]
    assert validate(tx) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"/a": {"type": "DIRECTORY"}, "/a": {"type": "DIRECTORY"}}', "'/a' stands there twice"),
        ([], "one object"),
        ({"a": FILE}, "entry 'a'"),
        ({"/.goggles/x": FILE}, "reserved"),
        ({"/a/../b": FILE}, "entry '/a/../b'"),
        ({"/a\nb": FILE}, "control characters"),
        ({"/a": FILE, "/a/": FILE}, "two spellings"),
        ({"/a": None}, "'/a' needs a type"),
        ({"/a": {"type": "LINK"}}, "'/a' needs a type"),
        ({"/a": FILE | {"path": "/b"}}, "says that its path is '/b'"),
        ({"/a": FILE | {"size": -1}}, "needs a size"),
        ({"/a": FILE | {"size": True}}, "needs a size"),
        ({"/a": FILE | {"size": 1.0}}, "needs a size"),
        ({"/a": FILE | {"size": 1 << 61}}, "needs a size"),
        ({"/a": FILE | {"hash": "ab"}}, "needs a hash"),
        ({"/a": {"type": "FILE", "size": 1}}, "needs a hash"),
        ({"/a": DIRECTORY | {"files": "abc"}}, "list of names"),
        ({"/a": DIRECTORY | {"files": ["b"]}}, "lists 'b'"),
        ({"/": FILE}, "must be a DIRECTORY"),
        ({"/.goggles": {"type": "SITE", "site_id": "x"}}, "needs a site_id"),
        ({"/a": FILE, "/a/b/c": FILE}, "'/a' is a FILE"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_taken_in(tx: Connection, tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        take_in(tx, tmp_path, content)
    assert said in str(caught.value)
    assert Tree(tx, DirCache(), 9.0).totals() == (0, 0, 0) and validate(tx) == []


def test_the_site_becomes_the_one_that_wrote_the_file(tx: Connection, tmp_path: Path) -> None:
    take_in(tx, tmp_path, {"/.goggles": {"type": "SITE", "site_id": "c" * 32}, "/a": DIRECTORY})
    assert tx.execute(select(tables.site.c.site_id)).scalar_one() == "c" * 32


def test_a_tree_with_anything_in_it_is_left_alone(tx: Connection, tmp_path: Path) -> None:
    Tree(tx, DirCache(), 9.0).mkdir(parse("/here"))
    assert take_in(tx, tmp_path, {"/a": FILE}) == 0
    assert Tree(tx, DirCache(), 9.0).find(parse("/a")) is None


def test_what_was_removed_does_not_come_back_from_an_old_tree_json(tx: Connection, tmp_path: Path) -> None:
    tx.execute(insert(tables.tombstones), {"version": "1" * 32, "sha256": DIGEST, "size": 5, "removed_at": 8.0})
    assert take_in(tx, tmp_path, {"/a": FILE}) == 0
    assert Tree(tx, DirCache(), 9.0).find(parse("/a")) is None


def test_a_file_that_can_not_be_read_is_a_clear_error(tx: Connection, tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="can not be read"):
        treejson.import_file(tx, tmp_path, 9.0)


def test_the_export_has_the_form_of_the_seeds_and_no_trash(tx: Connection, tmp_path: Path) -> None:
    take_in(tx, tmp_path, {"/d/ü": FILE, "/gone/f": FILE})
    Tree(tx, DirCache(), 9.0).remove_tree(parse("/gone"))
    treejson.export_file(tx, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written.pop("/.goggles")["site_id"] == tx.execute(select(tables.site.c.site_id)).scalar_one()
    assert written == {
        "/": {"path": "/", "type": "DIRECTORY", "files": ["d"]},
        "/d": {"path": "/d", "type": "DIRECTORY", "files": ["ü"]},
        "/d/ü": {"path": "/d/ü", "type": "FILE", "size": 5, "hash": DIGEST},
    }


def test_an_export_as_deep_as_a_path_can_be(tx: Connection, tmp_path: Path) -> None:
    deep = "/a" * 1_200
    assert take_in(tx, tmp_path, {deep: DIRECTORY}) == 1
    treejson.export_file(tx, tmp_path / "out.json")
    assert deep in json.loads((tmp_path / "out.json").read_text())


def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(tx: Connection, tmp_path: Path) -> None:
    target = tmp_path / "out" / "tree.json"
    target.parent.mkdir()
    target.mkdir()
    with pytest.raises(LocalFileError, match="can not be written"):
        treejson.export_file(tx, target)
    assert os.listdir(target.parent) == ["tree.json"]
    with pytest.raises(LocalFileError):
        treejson.export_file(tx, tmp_path / "missing" / "tree.json")
