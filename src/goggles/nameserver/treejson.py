"""The tree as a tree.json of the seeds' form: in at the first start, out at each clean stop and on request.

Format: one JSON object; for each path {"path", "type": "FILE", "size", "hash"} or {"path", "type": "DIRECTORY",
"files": [names]}.  Members may come in any order; directories that only stand in the paths of others are made.
Beside the paths stands one member of ours, "/.goggles": {"type": "SITE", "site_id"}: so the storages of a site whose
database was lost know it again.

Law: an import is all or nothing; an export appears whole or not at all, is written in constant memory, and gives the
same tree when it is imported.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, insert, literal, select, update

from goggles import checksums, failpoints
from goggles.contracts.data import DEFAULT_COPIES
from goggles.contracts.records import DIRECTORY, FILE
from goggles.errors import BadRequest, GogglesError, LocalFileError
from goggles.meta.tables import ROOT_ID, TRASH_ID, entries, owed, tombstones
from goggles.meta.tables import site as site_table
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.entry import Entry
from goggles.nameserver.tree import Tree
from goggles.paths import ROOT, DfsPath, join, parse, show, split

PAGE = 1_000
SITE_KEY = "/.goggles"
SITE_ID = re.compile(r"[0-9a-f]{32}\Z")
MAX_SIZE = 1 << 60
SOURCE = "tree.json"
Items = dict[DfsPath, dict[str, Any]]

# --- in --------------------------------------------------------------------------------------


def import_file(connection: Connection, source: Path, now: float, copies: int = DEFAULT_COPIES) -> int:
    """Read a tree.json into an empty tree that has never lost a file; the number of entries, 0 where there is more.

    The files are new versions, of generation 1, and are owed all their copies.  BadRequest names the entry that is
    wrong; LocalFileError where the file can not be read."""
    for used in (select(entries.c.id).where(entries.c.id > TRASH_ID), select(tombstones.c.version)):
        if connection.execute(used.limit(1)).first() is not None:
            return 0
    items, site = _read(source)
    _check_lists(source, items)
    directories = _directories(source, items)
    if site:
        connection.execute(update(site_table).values(site_id=site))
    tree = Tree(connection, DirCache(), now)
    ids = _add_directories(tree, directories)
    for page in _pages(path for path, item in items.items() if item["type"] == FILE):
        _add_files(tree, [_file_row(path, items[path], ids[split(path)[0]], now, copies) for path in page])
    missing = select(entries.c.id, literal(0), literal(now)).where(entries.c.kind == "f")
    connection.execute(insert(owed).from_select(["entry_id", "live", "since"], missing))
    tree.flush()
    return len(items)


def _read(source: Path) -> tuple[Items, str]:
    """(the entries by path, the id of the site or '')."""
    try:
        found = json.loads(source.read_bytes(), object_pairs_hook=_unique)
    except OSError as error:
        raise LocalFileError(f"{source} can not be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{source} is not JSON: {error}", "restore it, or start without --treejson") from error
    if not isinstance(found, dict):
        raise BadRequest(f"{source} is no tree: it must be one object with a member for each path")
    site = _site_id(source, found.pop(SITE_KEY, None))
    items: Items = {}
    for key, item in found.items():
        path, checked = _check(_where(source, key), key, item)
        if path in items:
            raise BadRequest(f"{_where(source, key)} stands there twice, in two spellings")
        items[path] = checked
    return items, site


def _site_id(source: Path, item: Any) -> str:
    if item is None:
        return ""
    site = item.get("site_id") if isinstance(item, dict) else None
    if not isinstance(site, str) or not SITE_ID.match(site):
        raise BadRequest(f"{_where(source, SITE_KEY)} needs a site_id of 32 hexadecimal digits")
    return site


def site_member(site_id: str) -> dict[str, Any]:
    """What a tree.json says of its site."""
    return {"path": SITE_KEY, "type": "SITE", "site_id": site_id}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{show(twice[:200])} stands there twice")
    return made


def _where(source: Path, path: str) -> str:
    return f"{source}: entry {show(path[:200])}"


def _check(where: str, key: str, item: Any) -> tuple[DfsPath, dict[str, Any]]:
    try:
        path = parse(key)
    except GogglesError as error:
        raise BadRequest(f"{where}: {error}") from error
    if not isinstance(item, dict) or item.get("type") not in (FILE, DIRECTORY):
        raise BadRequest(f"{where} needs a type, FILE or DIRECTORY")
    if item.get("path", key) not in (key, path):
        raise BadRequest(f"{where} says that its path is {show(str(item['path'])[:200])}")
    return path, _check_file(where, item) if item["type"] == FILE else _check_directory(where, item)


def _check_file(where: str, item: dict[str, Any]) -> dict[str, Any]:
    size, digest = item.get("size"), item.get("hash")
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise BadRequest(f"{where} needs a size in bytes, a whole number from 0 to 2^60")
    if not isinstance(digest, str) or not checksums.is_digest(digest.lower()):
        raise BadRequest(f"{where} needs a hash, a sha256 of 64 hexadecimal digits")
    return {"type": FILE, "size": size, "hash": digest.lower()}


def _check_directory(where: str, item: dict[str, Any]) -> dict[str, Any]:
    names = item.get("files", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadRequest(f"{where}: its files must be a list of names")
    return {"type": DIRECTORY, "files": names}


def _directories(source: Path, items: Items) -> set[DfsPath]:
    """All that must be made, also those that only stand in the paths of others."""
    wanted = {ROOT}
    for path, item in items.items():
        here = path if item["type"] == DIRECTORY else split(path)[0]
        while here not in wanted:
            wanted.add(here)
            here = split(here)[0]
    for path in wanted:
        if items.get(path, {}).get("type") == FILE:
            raise BadRequest(f"{_where(source, path)} is a FILE, and must be a DIRECTORY for what stands below it")
    return wanted


def _check_lists(source: Path, items: Items) -> None:
    for path, item in items.items():
        for name in item.get("files", ()):
            if path.rstrip("/") + "/" + name not in items:
                raise BadRequest(f"{_where(source, path)} lists {show(name[:200])}, which has no entry of its own")


def _add_directories(tree: Tree, directories: set[DfsPath]) -> dict[DfsPath, int]:
    """Make them all; their ids by path."""
    for path in sorted(directories - {ROOT}):
        tree.mkdir(path)
    return {path: tree.need_dir(path).id for path in directories}


def _file_row(path: DfsPath, item: dict[str, Any], parent: int, now: float, copies: int) -> dict[str, Any]:
    row = {"parent_id": parent, "name": split(path)[1], "kind": "f", "copies": copies, "generation": 1}
    row |= {"size": item["size"], "sha256": item["hash"], "version": secrets.token_hex(16)}
    return row | {"created_at": now, "modified_at": now, "uploader": SOURCE, "source": SOURCE}


def _add_files(tree: Tree, rows: list[dict[str, Any]]) -> None:
    tree.tx.execute(insert(entries), rows)
    tree.count(files=len(rows), size=sum(row["size"] for row in rows))


def _pages(paths: Iterable[DfsPath]) -> Iterator[list[DfsPath]]:
    left = iter(paths)
    while page := list(itertools.islice(left, PAGE)):
        yield page


# --- out -------------------------------------------------------------------------------------


def export_file(connection: Connection, target: Path) -> None:
    """Write the tree to `target`; LocalFileError where that is not possible, and then the old file is still there."""
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(hidden, "x", encoding="utf-8") as file:
            _write(Tree(connection, DirCache(), 0.0), file)
            file.flush()
            failpoints.hit("nameserver.export.before_fsync")
            os.fsync(file.fileno())
        failpoints.hit("nameserver.export.before_rename")
        os.replace(hidden, target)
        failpoints.hit("nameserver.export.after_rename")
        sync_folder(target.parent)
    except OSError as error:
        raise LocalFileError(f"{target} can not be written: {error.strerror}") from error
    finally:
        hidden.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """The names in it are on disk afterwards."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(tree: Tree, file: TextIO) -> None:
    """Each directory, then what is in it.  Read twice, so that no list of names is ever held as a whole."""
    site = tree.tx.execute(select(site_table.c.site_id)).scalar_one()
    file.write(f"{{\n{json.dumps(SITE_KEY)}: {json.dumps(site_member(site))},\n")
    _write_directory(tree, file, ROOT, ROOT_ID)
    walk = [(ROOT, tree.children(ROOT_ID))]
    while walk:
        here, rest = walk[-1]
        entry = next(rest, None)
        if entry is None:
            walk.pop()
            continue
        file.write(",\n")
        path = join(here, entry.name)
        if entry.is_dir:
            _write_directory(tree, file, path, entry.id)
            walk.append((path, tree.children(entry.id)))
        else:
            _write_file(file, path, entry)
    file.write("\n}\n")


def _write_directory(tree: Tree, file: TextIO, path: DfsPath, number: int) -> None:
    shown = json.dumps(path)
    file.write(f'{shown}: {{"path": {shown}, "type": "{DIRECTORY}", "files": [')
    for place, entry in enumerate(tree.children(number)):
        file.write((", " if place else "") + json.dumps(entry.name))
    file.write("]}")


def _write_file(file: TextIO, path: DfsPath, entry: Entry) -> None:
    item = {"path": path, "type": FILE, "size": entry.size, "hash": entry.sha256}
    file.write(f"{json.dumps(path)}: {json.dumps(item)}")
