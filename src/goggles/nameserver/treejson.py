"""The tree as a tree.json of the seeds' form: in at the first start, out at each clean stop and on request.

Format: one JSON object; for each path {"path", "type": "FILE", "size", "hash"} or {"path", "type": "DIRECTORY",
"files": [names]}.

Law: an import is all or nothing; an export appears whole or not at all, is written in constant memory, and gives the
same tree when it is imported.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, func, select

from goggles import checksums
from goggles.contracts.data import DEFAULT_COPIES
from goggles.contracts.records import DIRECTORY, FILE
from goggles.errors import BadRequest, GogglesError, LocalFileError
from goggles.meta.tables import TRASH_ID, entries
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.entry import Entry
from goggles.nameserver.tree import Tree
from goggles.paths import ROOT, DfsPath, join, parse, split

PAGE = 1_000


def import_file(connection: Connection, source: Path, now: float, copies: int = DEFAULT_COPIES) -> int:
    """Read a tree.json into an empty tree; the number of entries, 0 where the tree is not empty."""
    if connection.execute(select(func.count()).select_from(entries)).scalar_one() > TRASH_ID:
        return 0
    tree = Tree(connection, DirCache(), now)
    items = _read(source)
    for path in sorted(path for path, item in items.items() if item["type"] == DIRECTORY and path != ROOT):
        tree.mkdir(path, parents=True, exist_ok=True)
    for path, item in sorted(items.items()):
        if item["type"] == FILE:
            _add(tree, path, item, copies)
    tree.flush()
    return len(items)


def _read(source: Path) -> dict[DfsPath, dict[str, Any]]:
    try:
        found = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalFileError(f"{source} can not be read: {error.strerror}") from error
    except ValueError as error:
        raise BadRequest(f"{source} is not JSON: {error}", "restore it, or start without --treejson") from error
    if not isinstance(found, dict):
        raise BadRequest(f"{source} is no tree: it must be one object with a member for each path")
    return dict(_check(source, key, item) for key, item in found.items())


def _check(source: Path, key: str, item: Any) -> tuple[DfsPath, dict[str, Any]]:
    where = f"{source}: entry {key[:200]!r}"
    try:
        path = parse(key)
    except GogglesError as error:
        raise BadRequest(f"{where}: {error}") from error
    if not isinstance(item, dict) or item.get("type") not in (FILE, DIRECTORY):
        raise BadRequest(f"{where} needs a type, FILE or DIRECTORY")
    if item.get("path", key) not in (key, path):
        raise BadRequest(f"{where} says that its path is {str(item['path'])[:200]!r}")
    size = item.get("size")
    if item["type"] == FILE and not (isinstance(size, int) and size >= 0 and checksums.is_digest(item.get("hash"))):
        raise BadRequest(f"{where} needs a size and a hash (sha256 in hexadecimal)")
    return path, item


def _add(tree: Tree, path: DfsPath, item: dict[str, Any], copies: int) -> None:
    above, name = split(path)
    tree.mkdir(above, parents=True, exist_ok=True)
    written = tree.commit_file(
        tree.need_dir(above).id,
        name,
        size=item["size"],
        sha256=item["hash"],
        version=secrets.token_hex(16),
        uploader="tree.json",
        source="tree.json",
        copies=copies,
        holders=[],
    )
    tree.set_owed(written.entry.id, 0)


def export_file(connection: Connection, target: Path) -> None:
    """Write the tree to `target`."""
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    tree = Tree(connection, DirCache(), 0.0)
    try:
        with open(hidden, "x", encoding="utf-8") as file:
            _write(tree, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, target)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise LocalFileError(f"{target} can not be written: {error.strerror}") from error


def _write(tree: Tree, file: TextIO) -> None:
    file.write("{")
    for place, (path, item) in enumerate(_items(tree, ROOT)):
        file.write(",\n" if place else "\n")
        file.write(f"{json.dumps(path)}: {json.dumps(item)}")
    file.write("\n}\n")


def _items(tree: Tree, path: DfsPath) -> Iterator[tuple[DfsPath, dict[str, Any]]]:
    """Every entry from `path` down.  A directory comes after what is in it, when all its names are known."""
    names: list[str] = []
    for entry in _entries(tree, path):
        names.append(entry.name)
        below = join(path, entry.name)
        if entry.is_dir:
            yield from _items(tree, below)
        else:
            yield below, {"path": below, "type": FILE, "size": entry.size, "hash": entry.sha256}
    yield path, {"path": path, "type": DIRECTORY, "files": names}


def _entries(tree: Tree, path: DfsPath) -> Iterator[Entry]:
    after = ""
    while True:
        page = tree.listing(path, after, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].name
