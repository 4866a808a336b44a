"""What a storage says it holds, many things in one piece of JSON: tuples of pairs take more than five times as long.

Format: [[kind, path, size, hash, version, generation, modified, was], ...], the fields of `Held` in their order.  What
is missing at the end of a row has its default, what a newer peer says after it is ignored.

Law: PAGE of them fit into one value of the wire, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any

import orjson

from goggles.contracts.orders import Held
from goggles.errors import BadRequest, LimitExceeded

PAGE = 250  # two paths of 4,096 bytes each, in which every character is escaped
TYPES = [str, str, int, str, str, int, int, str]
_values = attrgetter(*[field.name for field in fields(Held)])
NEEDED = sum(field.default is MISSING for field in fields(Held))


def pack(things: Iterable[Held]) -> bytes:
    return orjson.dumps([_values(held) for held in things])


def unpack(data: bytes, most: int) -> list[Held]:
    """BadRequest, LimitExceeded where there are more than `most`.  What they say may be anything of these types."""
    try:
        rows = orjson.loads(data)
    except ValueError as error:
        raise BadRequest(f"a list of what a storage holds that can not be read: {error}") from error
    if not isinstance(rows, list):
        raise BadRequest("what a storage holds is told as a list")
    if len(rows) > most:
        raise LimitExceeded(f"a batch may have {most} items, this has {len(rows)}")
    return [_thing(row) for row in rows]


def _thing(row: Any) -> Held:
    values = row[: len(TYPES)] if isinstance(row, list) else []
    if len(values) < NEEDED or list(map(type, values)) != TYPES[: len(values)]:
        raise BadRequest("a thing held is told by its kind, path, size, hash, version and generation")
    return Held(*values)
