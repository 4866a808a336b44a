"""Search for files: by name, time, uploader and source, page by page.

Law: a search looks at a bounded number of rows and says where to go on; what is in the trash is not found.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, select

from goggles.contracts.records import FILE, Pairs
from goggles.errors import BadRequest
from goggles.meta.tables import entries
from goggles.nameserver.entry import Entry, entry_of
from goggles.nameserver.marks import Elsewhere
from goggles.nameserver.namespace import Namespace
from goggles.nameserver.site import Site
from goggles.nameserver.tree import Tree

E = entries.c
MOST, USUAL = 1_000, 64  # files in one answer
LOOKS = 20_000  # rows that one call looks at
PAGE = 1_000
ESCAPES = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for.  `name`: a path, a file's own name, or a pattern of either with * ? [ ]; times are seconds
    since 1970, UTC."""

    name: str | None = None
    create_time_start: float | None = None
    create_time_end: float | None = None
    uploader: str | None = None
    source: str | None = None
    max_results: int = USUAL
    after: int = 0

    @classmethod
    def from_wire(cls, pairs: Pairs) -> Query:
        """BadRequest where something in it makes no sense."""
        try:
            known = {key: value for key, value in pairs if value is not None}
            query: Any = cls(**known)
        except (TypeError, ValueError) as error:
            raise BadRequest(f"that is no query: {error}"[:200]) from error
        for key, kind in (("name", str), ("uploader", str), ("source", str)):
            if not isinstance(getattr(query, key), kind | None):
                raise BadRequest(f"{key} must be text")
        for key in ("create_time_start", "create_time_end"):
            if not isinstance(getattr(query, key), float | int | None):
                raise BadRequest(f"{key} must be seconds since 1970")
        if not isinstance(query.max_results, int) or not 1 <= query.max_results <= MOST:
            raise BadRequest(f"max_results must be from 1 to {MOST}")
        if not isinstance(query.after, int):
            raise BadRequest("after must be a number")
        return cast(Query, query)

    def conditions(self) -> list[ColumnElement[bool]]:
        """What the database can decide."""
        found: list[ColumnElement[bool]] = [E.kind == "f"]
        name = None if self.name is None else self.name.rstrip("/").rpartition("/")[2]
        if name:
            like = name if not WILD.search(name) else None
            if like is not None:
                found.append(E.name == like)
            elif prefix := WILD.split(name)[0]:
                found.append(E.name.like(prefix.translate(ESCAPES) + "%", escape="\\"))
        if self.create_time_start is not None:
            found.append(E.created_at >= self.create_time_start)
        if self.create_time_end is not None:
            found.append(E.created_at <= self.create_time_end)
        if self.uploader is not None:
            found.append(E.uploader == self.uploader)
        if self.source is not None:
            found.append(E.source == self.source)
        return found

    def fits(self, path: str) -> bool:
        """Whether the path is the one that is meant, or is covered by the pattern."""
        if self.name is None:
            return True
        subject = path if "/" in self.name else path.rpartition("/")[2]
        pattern = self.name if self.name.startswith("/") or "/" not in self.name else f"*/{self.name}"
        return fnmatch.fnmatchcase(subject, pattern) if WILD.search(pattern) else subject == pattern


class Searching:
    """Looks through the tree."""

    def __init__(self, site: Site, names: Namespace) -> None:
        self._site = site
        self._names = names

    def search(self, query: Query) -> tuple[list[Pairs], int]:
        """A page of what was found, each with all that is known of its copies; where to go on, -1 at the end."""
        found: list[tuple[Entry, str]] = []
        after, looked = query.after, 0
        with self._site.look() as tree:
            while len(found) < query.max_results and looked < LOOKS:
                rows = self._page(tree, query, after)
                for row in rows:
                    after, looked = row.id, looked + 1
                    path = tree.path_of(row.id)
                    if path is not None and query.fits(path):
                        found.append((entry_of(row), path))
                    if len(found) == query.max_results:
                        break
                if len(rows) < PAGE and (not rows or after == rows[-1].id):
                    return self._records(tree, found), -1
            return self._records(tree, found), after

    def _page(self, tree: Tree, query: Query, after: int) -> Sequence[Any]:
        statement = select(entries).where(*query.conditions(), E.id > after).order_by(E.id).limit(PAGE)
        return tree.tx.execute(statement).all()

    def _records(self, tree: Tree, found: list[tuple[Entry, str]]) -> list[Pairs]:
        ids = [entry.id for entry, _ in found]
        infos = self._names.file_infos(tree, [(entry, path) for entry, path in found])  # type: ignore[misc]
        copies, others, deletable = tree.copies_here(ids), tree.holders_elsewhere(ids), tree.deletable(ids)
        records = []
        for (entry, _), info in zip(found, infos, strict=True):
            known = others.get(entry.id, Elsewhere([], []))
            instances = [(*copy, True) for copy in copies.get(entry.id, [])]
            instances += [(store, entry.size, since, verified, False) for store, since, verified in known.gone]
            records.append(
                (
                    *info.to_wire(),
                    ("deletion", "allowed" if entry.id in deletable else "disallowed"),
                    ("instances", tuple(_instance(entry, *copy) for copy in sorted(instances))),
                    ("remote_instances", tuple(_remote(*copy) for copy in sorted(known.remote))),
                )
            )
        return records


def _instance(entry: Entry, storage: str, size: int, made: float, verified: float, available: bool) -> Pairs:
    known: dict[str, Any] = {"storage": storage, "available": available, "size": size, "checksum": entry.sha256}
    return tuple((known | {"created": made, "verified": verified, "type": FILE}).items())


def _remote(librarian: str, store: str, copied: float, verified: float, sender: str) -> Pairs:
    known = {"librarian": librarian, "store": store, "copied_at": copied, "verified_at": verified, "sender": sender}
    return tuple(known.items())
