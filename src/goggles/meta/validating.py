"""What must hold in every database at every moment, checked.

Law: it only reads, and it reads every row; an empty answer means that all invariants hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from goggles.meta.tables import ROOT_ID, TRASH_ID, entries, instances, owed, storages, tombstones, totals

E, I = entries.c, instances.c  # noqa: E741 - columns of entries and of instances
FILE, DIRECTORY = E.kind == "f", E.kind == "d"
SHOWN = 10  # of each kind of fault


def validate(tx: Connection) -> list[str]:
    """Every broken invariant in words, at most ten of a kind."""
    return [*_tree(tx), *_rows(tx), *_pointers(tx), *_books(tx)]


def _tree(tx: Connection) -> Iterator[str]:
    yield from _found(tx, "has no directory above it", _without_directory())
    tops = tx.execute(select(E.id).where(E.parent_id.is_(None), DIRECTORY).order_by(E.id)).scalars().all()
    if list(tops) != [ROOT_ID, TRASH_ID]:
        yield f"entries without a parent are {list(tops)}, not the root and the trash"
    reached = select(E.id).where(E.parent_id.is_(None)).cte("reached", recursive=True)
    below = entries.alias()
    reached = reached.union_all(select(below.c.id).where(below.c.parent_id == reached.c.id))
    yield from _found(tx, "is not reached from the top", select(E.id).where(E.id.not_in(select(reached.c.id))))


def _without_directory() -> Select[Any]:
    above = entries.alias()
    joined = entries.outerjoin(above, and_(above.c.id == E.parent_id, above.c.kind == "d"))
    return select(E.id).select_from(joined).where(above.c.id.is_(None), E.parent_id.is_not(None))


def _rows(tx: Connection) -> Iterator[str]:
    bad_file = or_(E.version.is_(None), E.copies.is_(None), E.generation < 1, E.size < 0, func.length(E.sha256) != 64)
    bad_directory = or_(E.version.is_not(None), E.generation != 0, E.size != 0, E.sha256 != "")
    yield from _found(tx, "is neither a file nor a directory", select(E.id).where(E.kind.not_in(("f", "d"))))
    yield from _found(tx, "is a file and lacks something", select(E.id).where(FILE, bad_file))
    yield from _found(tx, "is a directory and has what only files have", select(E.id).where(DIRECTORY, bad_directory))
    buried = select(E.id).join(tombstones, tombstones.c.version == E.version)
    yield from _found(tx, "has a version that was let go", buried)


def _pointers(tx: Connection) -> Iterator[str]:
    yield from _found(tx, "has an instance and is no file", _not_a_file(I.entry_id))
    yield from _found(tx, "is owed copies and is no file", _not_a_file(owed.c.entry_id))
    unknown = select(I.entry_id).where(I.storage_id.not_in(select(storages.c.id)))
    yield from _found(tx, "is on a storage that nobody knows", unknown)
    other_size = select(E.id).join(instances, I.entry_id == E.id).where(I.size != E.size)
    yield from _found(tx, "has an instance of another size", other_size)


def _not_a_file(column: ColumnElement[int]) -> Select[Any]:
    return select(column).where(column.not_in(select(E.id).where(FILE)))


def _books(tx: Connection) -> Iterator[str]:
    files, size = tx.execute(select(func.count(), func.coalesce(func.sum(E.size), 0)).where(FILE)).one()
    directories = tx.execute(select(func.count()).where(DIRECTORY, E.id > TRASH_ID)).scalar_one()
    written = tx.execute(select(totals.c.files, totals.c.directories, totals.c.size)).one()
    if tuple(written) != (files, directories, size):
        yield f"the books say {tuple(written)} files, directories and bytes, and there are {(files, directories, size)}"


def _found(tx: Connection, what: str, statement: Select[Any]) -> Iterator[str]:
    for number in tx.execute(statement.limit(SHOWN)).scalars():
        yield f"entry {number} {what}"
