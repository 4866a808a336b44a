"""How long the paths below a directory are, so that a rename makes none that the tree can not hold.

Law: the nearer bound is asked for first: directories alone, with room for the longest name in each; files only where
that is not enough.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, cast, func, select

from goggles.errors import BadPath
from goggles.meta.tables import entries
from goggles.paths import MAX_NAME, MAX_PATH, DfsPath

E = entries.c


def need_short_enough(tx: Connection, directory: int, source: DfsPath, target: DfsPath) -> None:
    """BadPath where the directory at `source` has something in it that would be too far down at `target`."""
    longer = len(target.encode())
    if longer <= len(source.encode()):
        return
    if longer + _longest(tx, directory, False) + 1 + MAX_NAME <= MAX_PATH:
        return
    if longer + _longest(tx, directory, True) > MAX_PATH:
        raise BadPath(
            f"{source} can not be renamed to {target}: the longest path in it would have more than {MAX_PATH} bytes",
            "choose a shorter name, or move what is far down in it first",
        )


def _longest(tx: Connection, directory: int, files: bool) -> int:
    """Bytes of the longest path below, from the directory on."""
    kinds = ("d", "f") if files else ("d",)
    below = select(cast(directory, BigInteger).label("id"), cast(0, BigInteger).label("size")).cte(
        "below", recursive=True
    )
    size = cast(below.c.size + 1 + func.octet_length(E.name), BigInteger)
    step = select(E.id, size).where(E.parent_id == below.c.id, E.kind.in_(kinds))
    return int(tx.execute(select(func.max(below.union_all(step).c.size))).scalar() or 0)
