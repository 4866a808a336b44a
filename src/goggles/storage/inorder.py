"""The published files of a folder one after the other, in an order that stays the same.

Law: depth first, the names of a directory in byte order; so whoever stopped at a path goes on after it, whatever came
or went meanwhile.  No more than the names of the directories that lead to the place are in memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence

from goggles import paths
from goggles.errors import BadPath, GogglesError, NotADirectory, NotFound
from goggles.paths import RESERVED, ROOT, DfsPath, parts, show
from goggles.storage.containment import Root, explained

log = logging.getLogger(__name__)
_Found = tuple[DfsPath, bool, Sequence[str]]  # path, whether it is a directory, where to go on below it


def files_after(root: Root, place: DfsPath = ROOT) -> Iterator[DfsPath]:
    """The plain files whose turn comes after `place` (the root: all of them)."""
    pending = [_entries(root, ROOT, parts(place))]
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
            continue
        path, is_dir, rest = found
        if is_dir:
            pending.append(_entries(root, path, rest))
        else:
            yield path


def _entries(root: Root, directory: DfsPath, rest: Sequence[str]) -> Iterator[_Found]:
    """What comes in a directory, from the first name of `rest` on; a file of that name has had its turn."""
    first = os.fsencode(rest[0]) if rest else b""
    for name, is_dir in _listing(root, directory):
        path, raw = _joined(directory, name), os.fsencode(name)
        if path is None or raw < first or (directory == ROOT and name == RESERVED):
            continue
        if raw > first:
            yield path, is_dir, ()
        elif is_dir:
            yield path, True, rest[1:]


def _listing(root: Root, directory: DfsPath) -> list[tuple[str, bool]]:
    """(name, whether it is a directory) of its files and directories, in byte order."""
    try:
        with explained(f"listing {show(directory)}"), root.directory(directory) as fd, os.scandir(fd) as entries:
            kinds = [(e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in entries]
    except (NotFound, NotADirectory):
        return []  # removed meanwhile
    except GogglesError as error:
        log.error("left out: %s", error)
        return []
    return sorted(((n, is_dir) for n, is_dir, is_file in kinds if is_dir or is_file), key=lambda e: os.fsencode(e[0]))


def _joined(directory: DfsPath, name: str) -> DfsPath | None:
    try:
        return paths.parse(paths.join(directory, name))
    except BadPath:
        return None
