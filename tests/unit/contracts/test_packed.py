"""Many records in one piece: what goes in comes out, and what is no such piece is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goggles.contracts.packed import ERROR, KEYS, entries_of, pack_rows, plain_rows, unpack
from goggles.contracts.records import DIRECTORY, FILE, DirInfo, Entry, FileInfo
from goggles.errors import GogglesError, NotFound, ProtocolError

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
numbers = st.integers(0, 1 << 60)
lists = st.lists(names, max_size=3).map(tuple)
pairs = st.lists(st.tuples(names, names), max_size=2).map(tuple)
times = st.floats(0, 1e10)
files = st.builds(
    FileInfo,
    path=names,
    type=st.just(FILE),
    size=numbers,
    hash=names,
    generation=numbers,
    copies=numbers,
    live=numbers,
    storages=lists,
    created=times,
    modified=times,
    uploader=names,
    source=names,
    offsite=st.booleans(),
    version=names,
    elsewhere=pairs,
    unavailable=lists,
)
directories = st.builds(
    DirInfo,
    path=names,
    type=st.just(DIRECTORY),
    files=lists,
    entries=numbers,
    copies=st.none() | numbers,
    created=times,
    modified=times,
)


def pack(entries: list[Entry | GogglesError]) -> bytes:
    return pack_rows(map(row_of, entries))


def row_of(entry: Entry | GogglesError) -> tuple[str, tuple[object, ...]]:
    kind = ERROR if isinstance(entry, GogglesError) else entry.type
    return kind, tuple(getattr(entry, key) for key in KEYS[kind])


@settings(max_examples=200, deadline=None)
@given(st.lists(files | directories))
def test_what_goes_in_comes_out_in_its_order(entries: list[Entry]):
    assert unpack(pack(entries)) == entries


def test_errors_stand_in_their_places():
    directory = DirInfo("/a", DIRECTORY, (), 0, None, 1.0, 2.0)
    found = unpack(pack([directory, NotFound("no", "look"), directory]))
    assert found[0] == found[2] == directory
    assert isinstance(found[1], NotFound)
    assert (found[1].message, found[1].hint) == ("no", "look")
    with pytest.raises(NotFound, match="no"):
        entries_of(found)


@settings(max_examples=50, deadline=None)
@given(st.lists(files | directories))
def test_rows_as_plain_tuples_are_the_pairs_of_the_records(entries: list[Entry]):
    assert plain_rows(map(row_of, entries)) == tuple(entry.to_wire() for entry in entries)


def test_an_error_of_a_newer_program_is_one_all_the_same():
    data = json.loads(pack([NotFound("no", "")]))
    data[""]["same"]["code"] = "from_tomorrow"
    (found,) = unpack(json.dumps(data).encode())
    assert type(found) is GogglesError


def test_keys_of_a_newer_peer_are_ignored_and_those_an_older_one_lacks_have_their_default():
    file = FileInfo("/a", FILE, 1, "h", 1, 2, 2, ("alice",), 1.0, 2.0, "ann", "site", version="v")
    data = json.loads(pack([file]))
    data[FILE]["same"]["colour"] = "red"
    del data[FILE]["same"]["elsewhere"]
    assert unpack(json.dumps(data).encode()) == [file]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"order": "FILE", "count": 1}',
        b'{"order": ["FILE"], "count": 1, "FILE": {"same": {}, "columns": {}}}',
        b'{"order": "what", "count": 1, "what": {}}',
        b'{"order": "", "count": 2, "": {"same": {}, "columns": {"code": ["a"], "message": ["b"], "hint": ["c"]}}}',
    ],
)
def test_what_is_none_of_our_format_is_refused(data: bytes):
    with pytest.raises(ProtocolError):
        unpack(data)
