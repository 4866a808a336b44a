"""Many tickets, or what came of them, in one piece of JSON: a fifth of the time that tuples of pairs take.

Format: {"keys": [key, ...], "places": [[name, host, port], ...], "rows": [row, ...]}.  A row has the values of the
keys in their order and, of a ticket, as its last value the hops: [place, grant, after], where `place` counts in
`places` and each byte of a grant is the character with its number.  The row of an error is an object with `code`,
`message` and `hint`.  Keys that are missing have their default, unknown ones from a newer peer are ignored.

Law: what does not have this form is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeVar

import orjson

from goggles.contracts.data import Committed, Hop, ReadTicket, WriteTicket
from goggles.contracts.records import Record, keys_of
from goggles.errors import BY_CODE, GogglesError, ProtocolError

T = TypeVar("T", bound=Record)
HOPS: dict[type, str] = {WriteTicket: "chain", ReadTicket: "hops"}
KEYS: dict[type, tuple[str, ...]] = {
    kind: tuple(key for key in keys_of(kind) if key != HOPS.get(kind)) for kind in (WriteTicket, ReadTicket, Committed)
}
CLASSES: dict[str, tuple[type, ...]] = {  # of a value that is no text
    **dict.fromkeys(("size", "copies", "generation", "owed"), (int,)),
    "resumed": (bool,),
    "modified": (float, int),
}
TEXT = (str,)
Place = tuple[str, str, int]
BYTES = "latin-1"  # each byte is the character with its number


def pack(kind: type[T], answers: Iterable[T | GogglesError]) -> bytes:
    """The bytes of records of one kind, or errors in their places."""
    places: dict[Place, int] = {}
    values, row_of = attrgetter(*KEYS[kind]), _hops(kind, places)
    rows = [
        {"code": answer.code, "message": answer.message, "hint": answer.hint}
        if isinstance(answer, GogglesError)
        else (*values(answer), *row_of(answer))
        for answer in answers
    ]
    return orjson.dumps({"keys": KEYS[kind], "places": list(places), "rows": rows})


def _hops(kind: type, places: dict[Place, int]) -> Callable[[Any], tuple[Any, ...]]:
    """What puts the hops of a record behind its values; it fills `places`."""
    if kind not in HOPS:
        return lambda _: ()
    chain_of = attrgetter(HOPS[kind])

    def row(record: Any) -> tuple[Any, ...]:
        return (
            [
                (places.setdefault((hop.name, hop.host, hop.port), len(places)), hop.grant.decode(BYTES), hop.after)
                for hop in chain_of(record)
            ],
        )

    return row


def unpack(kind: type[T], data: bytes) -> list[T | GogglesError]:
    """The records, and the errors in their places; ProtocolError where that is none of our format."""
    try:
        found = orjson.loads(data)
        keys, places = found["keys"], [_place(*one) for one in found["places"]]
        return [_error(row) if isinstance(row, dict) else _record(kind, keys, row, places) for row in found["rows"]]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ProtocolError(f"tickets that can not be read: {error}") from error


def _record(kind: type[T], keys: list[str], row: list[Any], places: list[Place]) -> T:
    known = {key: value for key, value in zip(keys, row, strict=False) if key in KEYS[kind]}
    for key, value in known.items():
        if type(value) not in CLASSES.get(key, TEXT):
            raise ValueError(f"{key} is {type(value).__name__}")
    if len(row) != len(keys) + (kind in HOPS):
        raise ValueError(f"{len(keys)} values were announced, others came")
    if kind in HOPS:
        known[HOPS[kind]] = tuple([_hop(places, *hop) for hop in row[-1]])
        if not known[HOPS[kind]]:
            raise ValueError("a ticket that leads nowhere")
    return kind(**known)


def _hop(places: list[Place], place: int, grant: str, after: int) -> Hop:
    if type(place) is not int or type(after) is not int or place < 0:
        raise ValueError("a hop without its numbers")
    return Hop(*places[place], grant.encode(BYTES), after)


def _place(name: str, host: str, port: int) -> Place:
    if not (type(name) is type(host) is str and type(port) is int):
        raise ValueError("a place that is none")
    return name, host, port


def _error(row: dict[str, Any]) -> GogglesError:
    return BY_CODE.get(str(row["code"]), GogglesError)(str(row["message"]), str(row["hint"]))
