"""What is read of other programs and of files, fed with anything at all.

What a storage says it has of an upload, lists, manifests, settings, and what a storage says of itself."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from goggles import kinds
from goggles.client.librarian.admin import load_manifest
from goggles.client.librarian.manifests import _check_form, _content
from goggles.client.sending import Source, go_on, staged
from goggles.contracts.data import STEP, Hop, WriteTicket
from goggles.contracts.orders import StorageHello
from goggles.contracts.packed import KEYS, unpack
from goggles.contracts.records import DIRECTORY, FILE
from goggles.errors import (
    BadRequest,
    ChecksumMismatch,
    ConnectionLost,
    GogglesError,
    LimitExceeded,
    ProtocolError,
    SettingsError,
)
from goggles.exceptions import LibrarianError
from goggles.kinds import Kind as Writing
from goggles.librarian.answers import reception
from goggles.librarian.offers import offered
from goggles.nameserver.doors import storage_hello
from goggles.settings import PROGRAMS, options, resolve
from goggles.storage.receiving import staged_further
from goggles.wire.data import DataLink, Kind

quick = settings(derandomize=True, deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
PLAIN = (
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.floats(allow_nan=False) | st.binary() | st.text()
)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=15)
ANSWERS = VALUES | st.integers().map(lambda number: (number,)) | st.text().map(lambda text: (text,))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)
SIZE = STEP + 5  # few bytes are left to send, which fit into the buffer of a socket
TICKET = WriteTicket("0" * 32, SIZE, 1, (Hop("eve", "localhost", 1, b"grant", 0),), resumed=True)


# --- an upload that is gone on with ----------------------------------------------------------


class OneLink:
    """Links to a storage that has said `frames` already, whatever it is asked."""

    def __init__(self, *frames: tuple[Kind, Any]) -> None:
        self._frames = frames

    @contextlib.contextmanager
    def to(self, name: str, address: object, stall: float = 5.0) -> Iterator[DataLink]:
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        liar = DataLink(theirs, "eve")  # type: ignore[arg-type]
        with ours, theirs:
            for frame in self._frames:
                liar.send_value(*frame)
            theirs.shutdown(socket.SHUT_WR)
            yield Plain(ours, name)  # type: ignore[arg-type]


class Plain(DataLink):
    """Without TLS."""

    def readable(self, seconds: float = 0.0) -> bool:
        return False


@quick
@given(st.sampled_from([Kind.OK, Kind.ERROR, Kind.END, Kind.REQUEST]), ANSWERS)
@example(Kind.OK, (-5,))
@example(Kind.OK, (True,))
@example(Kind.OK, (1 << 62,))
def test_how_much_a_storage_has_of_an_upload(kind: Kind, answer: Any) -> None:
    try:
        there = staged(OneLink((kind, answer)), TICKET)  # type: ignore[arg-type]
        assert 0 <= there <= SIZE
        assert there % STEP == 0
        assert kind is Kind.OK
    except GogglesError:
        pass
    hops = (("eve", "localhost", 1, b"grant", 0),)
    try:
        assert staged_further(OneLink((kind, answer)), hops) >= 0  # type: ignore[arg-type]
    except GogglesError:
        assert kind is Kind.ERROR


@settings(quick, max_examples=50)
@given(ANSWERS, ANSWERS)
def test_what_a_storage_has_of_an_upload(tmp_path_factory: pytest.TempPathFactory, has: Any, stored: Any) -> None:
    place = tmp_path_factory.getbasetemp() / "fuzzed-source"
    if not place.exists():
        place.write_bytes(b"x" * SIZE)
    with Source(place) as source:
        links: Any = OneLink((Kind.OK, has), (Kind.OK, stored))
        with pytest.raises((ChecksumMismatch, ProtocolError, ConnectionLost)):
            go_on(links, TICKET, source, lambda count: None, None, STEP)
        digest = source.digest(STEP, None).hexdigest()
        links = OneLink((Kind.OK, (digest,)), (Kind.OK, stored))
        with contextlib.suppress(ProtocolError, ConnectionLost):
            sent = go_on(links, TICKET, source, lambda count: None, None, STEP)
            assert all(isinstance(one.code, str) for one in sent.stored)


# --- lists -----------------------------------------------------------------------------------

FIELDS = st.sampled_from([*KEYS[FILE], *KEYS[DIRECTORY], *KEYS[""], "x"])
TABLE = st.fixed_dictionaries(
    {"same": st.dictionaries(FIELDS, JSON, max_size=6) | JSON},
    optional={"columns": st.dictionaries(FIELDS, st.lists(JSON, max_size=3) | JSON, max_size=6) | JSON},
)
LISTS = st.fixed_dictionaries(
    {
        "count": st.integers(-1, 4),
        "order": st.sampled_from([FILE, DIRECTORY, ""]) | st.lists(st.sampled_from([FILE, ""])),
    },
    optional={FILE: TABLE, DIRECTORY: TABLE, "": TABLE},
)
GOOD = {
    FILE: {"path": "/d/x", "type": FILE, "size": 1, "hash": "", "generation": 1, "copies": 1, "live": 1, "storages": []}
    | {"created": 1.0, "modified": 1.0, "uploader": "", "source": ""},
    DIRECTORY: {"path": "/d/x", "type": DIRECTORY, "files": [], "entries": 0, "copies": None}
    | {"created": 1.0, "modified": 1.0},
    "": {"code": "not_found", "message": "no", "hint": ""},
}


def dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return b"{"


def need_list(data: bytes) -> None:
    try:
        found = unpack(data)
    except ProtocolError:
        return
    assert len(found) <= 10_000


@quick
@given(LISTS)
def test_packed_lists_of_any_shape(value: dict[str, Any]) -> None:
    need_list(dumped(value))


@quick
@given(st.sampled_from([FILE, DIRECTORY, ""]), FIELDS, JSON, st.booleans())
@example("", "code", [], False)
@example("", "code", {}, True)
@example(FILE, "storages", 5, True)
def test_packed_lists_with_one_thing_wrong(kind: str, key: str, value: Any, column: bool) -> None:
    table: dict[str, Any] = {"same": {**GOOD[kind], key: value}, "columns": {}}
    if column:
        table = {"same": GOOD[kind], "columns": {key: value}}
    need_list(dumped({"count": 1, "order": kind, kind: table}))
    need_list(dumped({"count": 2, "order": [kind, kind], kind: table}))


# --- manifests -------------------------------------------------------------------------------

ENTRY = {"name": "/x", "size": 1, "checksum": "0" * 64, "uploader": "u", "source": "s", "instance_path": "/x"}


@quick
@given(JSON.map(json.dumps) | st.text(max_size=80) | st.binary(max_size=40))
@example("[" * 100_000)
@example('{"librarian_name": "x", "store_files": {}}')
@example('{"librarian_name": "x", "store_files": [1' + "0" * 5000 + "]}")
def test_a_manifest_that_is_a_file(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    place = tmp_path_factory.getbasetemp() / "fuzzed-manifest.json"
    place.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        _content(load_manifest(place))
    except (BadRequest, LibrarianError) as error:
        assert str(error)


@quick
@given(st.dictionaries(st.sampled_from([*ENTRY, "create_time", "more"]), JSON, max_size=4), JSON)
def test_an_entry_of_a_manifest(known: dict[str, Any], other: Any) -> None:
    for entry in ({**ENTRY, **known}, known, other):
        try:
            _check_form(entry)
        except BadRequest as error:
            assert str(error)


# --- settings --------------------------------------------------------------------------------

EVERY: list[Writing] = list(
    {id(one.kind): one.kind for program in PROGRAMS.values() for one in options(program)}.values()
)
WORDS = st.text(max_size=30) | st.sampled_from(["1e400", "-0", "0x10", "1_0", "٣", "²", "nan", "inf", "~nobody-here/x"])


@quick
@given(st.sampled_from(EVERY), WORDS | st.integers().map(str) | JSON.map(json.dumps), JSON)
@example(kinds.MANAGERS, '{"globus": {}' + " " * 5 + "}", None)
@example(kinds.MANAGERS, "{" + '"a":{' * 50_000, None)
@example(kinds.MANAGERS, "/", None)
@example(kinds.MANAGERS, "\ud800", None)
@example(kinds.WEB, "http://[", None)
@example(kinds.PATH, "\ud800", None)
def test_the_value_of_a_setting(kind: Writing, text: str, value: Any) -> None:
    """It is one, or a ValueError, which becomes an error that names the setting."""
    read: Callable[[Any], Any] = kind.read
    for one, given_value in ((read, text), (kind.from_file, value), (kind.from_file, text)):
        try:
            one(given_value)
        except ValueError:
            continue


@settings(quick, max_examples=60)
@given(st.sampled_from(sorted(PROGRAMS)), st.data(), WORDS)
def test_a_flag_or_a_variable(program: str, data: st.DataObject, text: str) -> None:
    cls = PROGRAMS[program]
    option = data.draw(st.sampled_from([one.name for one in options(cls)]))
    for flags, environ in (({option: text}, {}), ({}, {f"GOGGLES_{option.upper()}": text})):
        try:
            resolve(cls, flags, environ)
        except SettingsError as error:
            assert str(error).isprintable() or "\n" in str(error)


# --- what a storage says of itself, and what is made of it -----------------------------------

HELLO = StorageHello("eve", "localhost", 9, 1 << 30, "", "e" * 32, "", 0, "", 1 << 30, "x", 2e9)


@quick
@given(JSON.map(json.dumps) | st.text(max_size=50))
@example("[]")
@example("{")
@example('{"goggles": 5}')
@example("[" * 16_000)
@example('{"a":' * 3_000)
def test_the_ways_to_a_storage_are_ways_or_it_is_refused(facilities: str) -> None:
    """They are told to other sites, which may not fail by them."""
    try:
        hello = storage_hello(dataclasses.replace(HELLO, facilities=facilities).to_wire())
    except (BadRequest, LimitExceeded):
        return
    assert isinstance(json.loads(offered(hello.facilities)), dict)


@quick
@given(JSON.map(json.dumps) | st.text(max_size=50), VALUES)
@example("[" * 16_000, ())
@example("1" * 10_000, ())
def test_what_another_site_says_of_its_storage(facilities: str, value: Any) -> None:
    told = {"store": "s", "host": "h", "port": 1, "facilities": facilities, "free": 1, "answers": ()}
    for answer in (tuple(told.items()), value, tuple({**told, "facilities": value}.items())):
        with contextlib.suppress(GogglesError):
            reception("there", answer, 0)
