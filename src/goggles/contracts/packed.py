"""Many files and directories in one piece of JSON, which takes a twentieth of the time that tuples of pairs take.

Format: {"count": n, "order": [kind, ...], kind: {"same": {key: value}, "columns": {key: [value, ...]}}, ...}.  `order`
has the kind of each record (one word where all are of it): FILE, DIRECTORY, "" for an error.  What is the same in all
records of a kind is said once.  Keys that are missing have their default, unknown ones from a newer peer are ignored.

Law: a list has up to MOST records: one that says everything once could announce any number of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import repeat
from typing import Any

import orjson

from goggles.contracts.records import DIRECTORY, FILE, DirInfo, Entry, FileInfo, keys_of
from goggles.errors import BY_CODE, GogglesError, ProtocolError

ERROR = ""
MOST = 10_000  # a page of a listing
Row = tuple[Any, ...]
Columns = Sequence[Sequence[Any]]  # the values of several records, key by key
KEYS: dict[str, tuple[str, ...]] = {
    FILE: tuple(keys_of(FileInfo)),
    DIRECTORY: tuple(keys_of(DirInfo)),
    ERROR: ("code", "message", "hint"),
}
TUPLES = frozenset({"storages", "elsewhere", "unavailable", "files"})  # JSON makes lists of them
DEFAULTS = {
    field.name: field.default for field in (*fields(DirInfo), *fields(FileInfo)) if field.default is not MISSING
}


def pack_rows(rows: Iterable[tuple[str, Row]]) -> bytes:
    """The bytes of rows of (kind, values in the order of its keys)."""
    order: list[str] = []
    found: dict[str, list[Row]] = {}
    for kind, values in rows:
        order.append(kind)
        found.setdefault(kind, []).append(values)
    return pack_columns(order, {kind: list(zip(*rows, strict=True)) for kind, rows in found.items()})


def pack_columns(order: Sequence[str], found: Mapping[str, Columns]) -> bytes:
    """The bytes of records whose kinds come in this order."""
    table: dict[str, Any] = {kind: _table(KEYS[kind], columns) for kind, columns in found.items()}
    return orjson.dumps({"count": len(order), "order": order[0] if len(found) == 1 else order, **table})


def plain_rows(rows: Iterable[tuple[str, Row]]) -> tuple[Row, ...]:
    """The same as tuples: a record as pairs, an error as (code, message, hint)."""
    return tuple([tuple(zip(KEYS[kind], values, strict=True)) if kind else values for kind, values in rows])


def _table(keys: Sequence[str], found: Columns) -> dict[str, dict[str, Any]]:
    same, columns = {}, {}
    for key, column in zip(keys, found, strict=True):
        if column.count(column[0]) == len(column):
            same[key] = column[0]
        else:
            columns[key] = column
    return {"same": same, "columns": columns}


class Packed:
    """What came, read as far as is needed to ask for more.  ProtocolError where that is none of our format."""

    def __init__(self, data: bytes) -> None:
        try:
            self._found = orjson.loads(data)
            self._order, self.count = self._found["order"], self._found["count"]
            if not 0 <= self.count <= MOST or (isinstance(self._order, list) and len(self._order) != self.count):
                raise ValueError(f"{self.count} of them")
        except (ValueError, TypeError, KeyError) as error:
            raise _unreadable(error) from error

    @property
    def last(self) -> str:
        """The path of the last record; of the first one, where all have the same."""
        try:
            table = self._found[self._order if isinstance(self._order, str) else self._order[-1]]
            path = table["columns"]["path"][-1] if "path" in table["columns"] else table["same"]["path"]
            if type(path) is not str:
                raise ValueError("a path is no text")
            return path
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise _unreadable(error) from error

    def records(self) -> list[Entry | GogglesError]:
        found, order, count = self._found, self._order, self.count
        try:
            if isinstance(order, str):
                return _records(order, found[order], count) if count else []
            records = {kind: iter(_records(kind, found[kind], order.count(kind))) for kind in set(order)}
            return [next(records[kind]) for kind in order]
        except (ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
            raise _unreadable(error) from error


def unpack(data: bytes) -> list[Entry | GogglesError]:
    """ProtocolError where that is none of our format."""
    return Packed(data).records()


def _unreadable(error: Exception) -> ProtocolError:
    return ProtocolError(f"a list of files that can not be read: {error}")


def _records(kind: str, table: dict[str, dict[str, Any]], count: int) -> list[Entry | GogglesError]:
    make: Any = {FILE: FileInfo, DIRECTORY: DirInfo, ERROR: _error}[kind]
    if count == 1 and not table["columns"]:
        same = {**DEFAULTS, **table["same"]}
        return [make(*[_frozen(same[key]) if key in TUPLES else same[key] for key in KEYS[kind]])]
    for column in table["columns"].values():
        if not isinstance(column, list) or len(column) != count:
            raise ValueError(f"{count} records were announced, others came")
    columns = [_column(key, table, count) for key in KEYS[kind]]
    return list(map(_error, *columns)) if kind == ERROR else _made(make, columns, count)


def _made(kind: Any, columns: Sequence[Iterator[Any]], count: int) -> list[Any]:
    """Records of a frozen class: its own way to set each field takes twice as long."""
    made = [kind.__new__(kind) for _ in range(count)]
    for key, column in zip(keys_of(kind), columns, strict=True):
        deque(map(getattr(kind, key).__set__, made, column), maxlen=0)
    return made


def _column(key: str, table: dict[str, dict[str, Any]], count: int) -> Iterator[Any]:
    if key in table["columns"]:
        column = table["columns"][key]
        return map(_frozen, column) if key in TUPLES else iter(column)
    value = table["same"][key] if key in table["same"] else DEFAULTS[key]
    return repeat(_frozen(value) if key in TUPLES else value, count)


def _frozen(value: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([tuple(one) if isinstance(one, list) else one for one in value]) if value else ()


def _error(code: str, message: str, hint: str) -> GogglesError:
    return BY_CODE.get(code, GogglesError)(message, hint)


def entries_of(found: list[Entry | GogglesError]) -> list[Entry]:
    """Where no error can be among them; the first is raised."""
    entries = [one for one in found if not isinstance(one, GogglesError)]
    for one in found if len(entries) < len(found) else ():
        if isinstance(one, GogglesError):
            raise one
    return entries
