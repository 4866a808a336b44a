"""Many tickets in one piece: what goes in comes out, and what is no such piece is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goggles.contracts.data import Committed, Hop, ReadTicket, WriteTicket
from goggles.contracts.tickets import KEYS, pack, unpack
from goggles.errors import GogglesError, NotFound, ProtocolError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers(0, 1 << 60)
ports = st.integers(1, 65_535)
hops = st.lists(st.builds(Hop, texts, texts, ports, st.binary(max_size=80), numbers), min_size=1, max_size=3).map(tuple)
RECORDS: dict[type, Any] = {
    WriteTicket: st.builds(WriteTicket, texts, numbers, numbers, hops, st.booleans()),
    ReadTicket: st.builds(ReadTicket, texts, numbers, texts, numbers, texts, st.floats(0, 1e10), hops),
    Committed: st.builds(Committed, texts, numbers, texts, numbers, numbers),
}
kinds = pytest.mark.parametrize("kind", list(RECORDS))
TICKET = WriteTicket("1" * 32, 7, 2, (Hop("alice", "host", 1, b"\xff{", 3), Hop("bob", "host", 2, b"", 0)), True)


@kinds
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_goes_in_comes_out(kind: type, data: st.DataObject) -> None:
    answers = data.draw(st.lists(RECORDS[kind] | st.builds(NotFound, texts, texts), max_size=8))
    found = unpack(kind, pack(kind, answers))
    assert [one for one in found if not isinstance(one, GogglesError)] == [
        one for one in answers if not isinstance(one, GogglesError)
    ]
    for said, sent in zip(found, answers, strict=True):
        if isinstance(sent, GogglesError):
            assert isinstance(said, NotFound) and (said.message, said.hint) == (sent.message, sent.hint)


def test_every_field_is_carried() -> None:
    assert unpack(WriteTicket, pack(WriteTicket, [TICKET])) == [TICKET]
    assert set(KEYS[WriteTicket]) | {"chain"} == set(WriteTicket.__dataclass_fields__)


def test_a_key_that_is_not_known_is_passed_over_and_a_default_may_be_missing() -> None:
    found = orjson.loads(pack(WriteTicket, [TICKET]))
    found["keys"][found["keys"].index("resumed")] = "newer"
    assert unpack(WriteTicket, orjson.dumps(found))[0] == WriteTicket("1" * 32, 7, 2, TICKET.chain)


def wrong(**change: Any) -> bytes:
    return orjson.dumps({**orjson.loads(pack(WriteTicket, [TICKET])), **change})


def row(at: int, value: Any) -> bytes:
    """The ticket with another value there; -1: its hops."""
    found = orjson.loads(pack(WriteTicket, [TICKET]))
    found["rows"][0][at] = value
    return orjson.dumps(found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        wrong(keys=3),
        wrong(keys=["size"]),
        wrong(keys=["size"] * 9),
        wrong(places=[]),
        wrong(places=[["alice", "host", "1"], ["bob", "host", 2]]),
        wrong(places=[["alice", "host"], ["bob", "host", 2]]),
        wrong(keys=["upload", "size", "copies"]),
        wrong(rows=7),
        wrong(rows=[7]),
        wrong(rows=[[]]),
        wrong(rows=[{"code": "not_found"}]),
        row(0, 1),
        row(1, "7"),
        row(1, True),
        row(-1, None),
        row(-1, []),
        row(-1, [[2, "", 0]]),
        row(-1, [[-1, "", 0]]),
        row(-1, [[True, "", 0]]),
        row(-1, [[0, "\u0100", 0]]),
        row(-1, [[0, 5, 0]]),
        row(-1, [[0, "", "0"]]),
        row(-1, [[0, ""]]),
    ],
)
def test_what_is_not_of_the_form_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(WriteTicket, data)


@kinds
@given(value=st.recursive(st.none() | st.booleans() | numbers | texts, lambda inner: st.lists(inner, max_size=4)))
def test_rows_of_any_shape(kind: type, value: Any) -> None:
    data = orjson.dumps({"keys": KEYS[kind], "places": [["alice", "host", 1]], "rows": [value]})
    try:
        found = unpack(kind, data)
    except ProtocolError:
        return
    assert all(isinstance(one, (kind, GogglesError)) for one in found)
