"""A tree.json from the folders of storages, when the database is gone.

Law: it only reads the folders.  Of a path that several storages have with different bytes, what was published there
goes before what was only found there, then what was written last, then what more storages have; the others are named,
and stay where they are.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from goggles import failpoints
from goggles.contracts.orders import Held
from goggles.contracts.records import DIRECTORY, FILE
from goggles.errors import LocalFileError
from goggles.nameserver.treejson import SITE_KEY, site_member, sync_folder
from goggles.paths import ROOT, DfsPath, parts, split

Content = tuple[int, str]  # size, sha256


@dataclass(slots=True)
class Restored:
    """What was found: files by path, directories, and the paths about which storages disagree."""

    files: dict[DfsPath, Held] = field(default_factory=dict)
    directories: set[DfsPath] = field(default_factory=lambda: {ROOT})
    disputed: list[str] = field(default_factory=list)


def gather(inventories: Sequence[Iterable[Held]]) -> Restored:
    """Merge what the storages have."""
    found: dict[DfsPath, list[Held]] = {}
    restored = Restored()
    for inventory in inventories:
        for held in inventory:
            if held.kind == "directory":
                restored.directories.add(DfsPath(held.path))
            elif held.kind == "file" and held.hash:
                found.setdefault(DfsPath(held.path), []).append(held)
    for path, copies in found.items():
        restored.files[path] = _best(copies)
        if len({(held.size, held.hash) for held in copies}) > 1:
            restored.disputed.append(path)
        restored.directories.update(_above(path))
    return restored


def _best(copies: list[Held]) -> Held:
    votes = Counter((held.size, held.hash) for held in copies)
    return max(copies, key=lambda held: (bool(held.version), held.modified, votes[held.size, held.hash], held.version))


def _above(path: DfsPath) -> Iterable[DfsPath]:
    names = parts(path)[:-1]
    return [DfsPath("/" + "/".join(names[:depth])) for depth in range(len(names) + 1)]


def write(restored: Restored, target: Path, site_id: str = "") -> None:
    """Write the tree.json (of the site `site_id`, where that is known); LocalFileError where that is not possible."""
    names: dict[DfsPath, list[str]] = {path: [] for path in restored.directories}
    for path in [*restored.files, *restored.directories]:
        if path != ROOT:
            above, name = split(path)
            names[above].append(name)
    tree: dict[str, object] = {
        path: {"path": path, "type": DIRECTORY, "files": sorted(names[path])} for path in sorted(restored.directories)
    }
    if site_id:
        tree[SITE_KEY] = site_member(site_id)
    for path, held in sorted(restored.files.items()):
        tree[path] = {"path": path, "type": FILE, "size": held.size, "hash": held.hash}
    _replace(target, json.dumps(tree, indent=0))


def _replace(target: Path, text: str) -> None:
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(hidden, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        failpoints.hit("tools.restoretree.before_rename")
        os.replace(hidden, target)
        sync_folder(target.parent)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise LocalFileError(f"{target} can not be written: {error.strerror}") from error
