"""Anything at all, fed to everything that reads what comes from outside; what may be raised is named.

Derandomized, so that a run is the same everywhere; `--hypothesis-seed` finds other cases.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rpyc.core import brine

from goggles.client.listings import need_entries_of
from goggles.contracts import grants
from goggles.contracts.data import ReadTicket, Stored, WriteTicket
from goggles.contracts.orders import Held, StorageHello
from goggles.contracts.packed import unpack
from goggles.errors import (
    BadPath,
    BadRequest,
    ConnectionLost,
    GogglesError,
    LimitExceeded,
    PermissionDenied,
    ProtocolError,
    SettingsError,
    Stale,
)
from goggles.librarian import schedule
from goggles.librarian.sneakernet import ManifestEntry, checked
from goggles.nameserver.doors import held_batch, storage_hello
from goggles.nameserver.treejson import _read
from goggles.paths import DfsPath, parse, parts
from goggles.settings import PROGRAMS, resolve
from goggles.storage import notes
from goggles.wire import faults, together
from goggles.wire.data import Buffer, DataLink
from goggles.wire.room import Room
from goggles.wire.stream import TlsChannel
from goggles.wire.values import MAX_DEPTH, loads

quick = settings(derandomize=True, deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
PLAIN = (
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.binary() | st.text()
)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=6).map(tuple), max_leaves=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def broken(data: bytes, at: int, new: int) -> bytes:
    """`data` with one byte changed."""
    place = at % max(1, len(data))
    return data[:place] + bytes([new]) + data[place + 1 :]


# --- values ----------------------------------------------------------------------------------


@quick
@given(VALUES)
def test_what_rpyc_writes_is_read_as_it_was(value: Any) -> None:
    assert loads(brine.dump(value)) == value


@quick
@given(st.binary(max_size=200))
@example(b"\x10" * 100_000)
@example(b"\x15\xff\xff\xff\xff")
@example(b"\x0f\xff\xff\xff\xff")
@example(b"\x08" * 1000)
@example(b"\x16\x00")
def test_no_bytes_are_more_than_unreadable(data: bytes) -> None:
    try:
        loads(data)
    except ProtocolError:
        return


@quick
@given(VALUES, st.integers(0), st.integers(0, 255), st.integers(0, 40))
def test_nor_are_values_with_a_byte_changed_or_cut_off(value: Any, at: int, new: int, cut: int) -> None:
    data = brine.dump(value)
    for damaged in (broken(data, at, new), data[: max(0, len(data) - cut)], data + data):
        try:
            loads(damaged)
        except ProtocolError:
            continue


@pytest.mark.parametrize("odd", [slice(1, 2), frozenset((1,)), 1j, ..., NotImplemented, 10**300])
def test_what_is_no_value_does_not_cross(odd: Any) -> None:
    for value in (odd, (odd,), (1, (odd, 2))):
        with pytest.raises(ProtocolError):
            loads(brine.dump(value))


def test_depth_and_number_of_values_are_bounded() -> None:
    nested: Any = ()
    for _ in range(MAX_DEPTH - 1):
        nested = (nested,)
    assert loads(brine.dump(nested)) == nested
    with pytest.raises(ProtocolError):
        loads(brine.dump(((nested,),)))
    assert len(loads(brine.dump((0,) * 1000), most=1000)) == 1000
    with pytest.raises(ProtocolError):
        loads(brine.dump((0,) * 1001), most=1000)


# --- frames ----------------------------------------------------------------------------------


class Source:
    """A stream with these bytes in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.closed = False

    def read(self, count: int, started: bool = False) -> bytes:
        if count > len(self.data):
            raise EOFError("the end")
        found, self.data = self.data[:count], self.data[count:]
        return found

    def close(self) -> None:
        self.closed = True


@quick
@given(st.binary(max_size=100), st.booleans(), st.integers(0, 1 << 32 - 1), st.integers(0, 255))
def test_a_frame_is_read_or_the_connection_ends(data: bytes, packed: bool, length: int, flag: int) -> None:
    body = zlib.compress(data) if packed else data
    whole = struct.pack("!LB", len(body), packed) + body + b"\n"
    room = Room(1 << 20, 1 << 20)
    assert TlsChannel(Source(whole), room.share("x")).recv() == data
    for odd in (whole[:-1], struct.pack("!LB", length & 0xFFFFFFFF, flag) + data, broken(whole, length, flag)):
        try:
            TlsChannel(Source(odd), room.share("x")).recv()
        except (EOFError, LimitExceeded):
            continue


@settings(quick, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 8), st.binary(max_size=40)), max_size=4), st.binary(max_size=10))
def test_the_data_plane_reads_frames_or_ends(frames: list[tuple[int, bytes]], more: bytes) -> None:
    left, right = socket.socketpair()
    sent = b"".join(struct.pack("!IB", len(body), kind) + body for kind, body in frames) + more
    writer = threading.Thread(target=lambda: (left.sendall(sent), left.close()))
    writer.start()
    link, buffer = DataLink(right, "the peer"), Buffer()  # type: ignore[arg-type]
    try:
        while True:
            link.receive(buffer)
    except (ProtocolError, ConnectionLost):
        assert link.broken
    finally:
        writer.join()
        right.close()


# --- what is in them -------------------------------------------------------------------------


@quick
@given(VALUES)
def test_requests_for_small_files(value: Any) -> None:
    for read, word in ((together.announced, "write_many"), (together.asked, "read_many")):
        for request in (value, (word, 0, value), (word, 0, (value,)), (word, value, ())):
            try:
                read(request if isinstance(request, tuple) else (request,))
            except BadRequest:
                continue


@quick
@given(VALUES)
def test_answers_about_small_files(value: Any) -> None:
    try:
        found = together.stored_all("x", value)
    except ProtocolError:
        return
    assert all(isinstance(one, Stored) for one in found)


@quick
@given(VALUES)
def test_errors_of_the_other_side(value: Any) -> None:
    assert isinstance(faults.load(value), GogglesError)
    assert isinstance(faults.load(((), (), (("code", value), ("message", value), ("hint", value)), "")), GogglesError)


@quick
@given(st.dictionaries(st.sampled_from([*Held.__dataclass_fields__, *StorageHello.__dataclass_fields__]), VALUES))
def test_records_of_storages(known: dict[str, Any]) -> None:
    with contextlib.suppress(BadRequest, LimitExceeded):
        storage_hello(tuple(known.items()))


HELD = ["file", "/x", 1, "", "", 0, 0, ""]


@quick
@given(st.lists(st.integers(0, 7).flatmap(lambda at: JSON.map(lambda odd: [*HELD[:at], odd, *HELD[at + 1 :]]))) | JSON)
@example("[" * 100_000)
def test_what_a_storage_says_it_holds(told: Any) -> None:
    data = told.encode() if isinstance(told, str) else json.dumps(told).encode()
    try:
        found = held_batch(data)
    except (BadRequest, LimitExceeded):
        return
    assert all(isinstance(one.size, int) and one.size >= 0 for one in found)


@quick
@given(st.binary(max_size=300), st.binary(max_size=32))
def test_grants(sealed: bytes, key: bytes) -> None:
    good = grants.Grant("read", "v", "/p", 1, "s", "h", 1e12).seal(b"key")
    for odd in (sealed, good + sealed[:1] + b"x", good[: len(sealed) % len(good)], b"x" + sealed + good):
        with pytest.raises((Stale, PermissionDenied)):
            grants.check(odd, [b"key", key or b"other"], kind="read", storage="s", holder="h", now=0)


@quick
@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"sha256": 5, "size": "x", "mtime_ns": null, "version": [], "generation": 1e400}')
def test_notes_on_files(data: bytes) -> None:
    try:
        note = notes.parse(data)
    except ValueError:
        return
    assert len(note.sha256) == 64


# --- lists -----------------------------------------------------------------------------------

TABLES = st.fixed_dictionaries(
    {"count": st.integers(-2, 5) | JSON, "order": st.sampled_from(["FILE", "DIRECTORY", "", "X"]) | JSON},
    optional={
        kind: st.fixed_dictionaries(
            {"same": st.dictionaries(st.sampled_from(["path", "type", "size", "storages"]), JSON) | JSON},
            optional={"columns": st.dictionaries(st.sampled_from(["path", "size"]), st.lists(JSON, max_size=4)) | JSON},
        )
        | JSON
        for kind in ("FILE", "DIRECTORY", "")
    },
)


def as_bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return b"{"


@quick
@given(TABLES.map(as_bytes) | st.binary(max_size=100))
@example(b"[" * 100_000)
@example(b'{"count": 1e308, "order": "FILE", "FILE": {"same": {}, "columns": {}}}')
@example(b'{"count": 999999999999, "order": "FILE", "FILE": {"same": {"path": "/x"}, "columns": {}}}')
def test_packed_lists(data: bytes) -> None:
    try:
        found = unpack(data)
        need_entries_of(DfsPath("/d"), "", [one for one in found if not isinstance(one, GogglesError)])
    except ProtocolError:
        return


@quick
@given(VALUES)
def test_tickets(value: Any) -> None:
    """Their readers are for what a nameserver of ours says: shapes that are none are plain errors of Python."""
    for kind in (ReadTicket, WriteTicket):
        try:
            kind.from_wire(value)
        except (TypeError, ValueError, KeyError):
            continue


# --- paths, settings, trees ------------------------------------------------------------------


@quick
@given(st.text() | VALUES)
@example("/" + "a/" * 5000)
@example("/\ud800")
def test_paths(text: Any) -> None:
    try:
        path = parse(text)
    except BadPath as error:
        assert str(error).isprintable()
        return
    names = parts(path)
    assert parse(path) == path
    assert len(path.encode()) <= 4096
    assert all(name not in ("", ".", "..") and "/" not in name and "\0" not in name for name in names)


@settings(quick, max_examples=100)
@given(JSON.map(json.dumps) | st.text(max_size=100), st.dictionaries(st.text(max_size=10), JSON, max_size=3))
@example("[" * 100_000, {})
def test_a_tree_of_the_seeds(tmp_path_factory: pytest.TempPathFactory, text: str, tree: dict[str, Any]) -> None:
    place = tmp_path_factory.getbasetemp() / "fuzzed-tree.json"
    for written in (text, json.dumps({f"/{key}": value for key, value in tree.items()})):
        place.write_bytes(written.encode("utf-8", "surrogatepass"))
        try:
            _read(place)
        except BadRequest as error:
            assert str(error)


@settings(quick, max_examples=100)
@given(
    JSON.map(json.dumps) | st.text(max_size=100), st.dictionaries(st.sampled_from(["port", "name", "zone", "x"]), JSON)
)
@example("[" * 100_000, {})
def test_settings(tmp_path_factory: pytest.TempPathFactory, text: str, known: dict[str, Any]) -> None:
    for suffix in ("json", "toml"):
        place: Path = tmp_path_factory.getbasetemp() / f"fuzzed.{suffix}"
        for written in (text, json.dumps(known), "\n".join(f"{key} = {json.dumps(one)}" for key, one in known.items())):
            place.write_bytes(written.encode("utf-8", "surrogatepass"))
            for program in PROGRAMS.values():
                with pytest.raises(SettingsError):
                    resolve(program, {}, {}, place)


@quick
@given(st.dictionaries(st.sampled_from([*ManifestEntry.__dataclass_fields__]), VALUES) | VALUES)
def test_manifests(known: Any) -> None:
    entry = {"name": "/x", "size": 1, "checksum": "0" * 64, "uploader": "u", "source": "s", "create_time": 1.0}
    for pairs in (known, tuple({**entry, **known}.items()) if isinstance(known, dict) else known):
        try:
            checked(pairs)
        except (BadRequest, BadPath):
            continue


@quick
@given(JSON)
def test_schedules(value: Any) -> None:
    for data in (value, {"recheck": value}, {"a": {"kind": value}}):
        try:
            schedule.read(data)
        except SettingsError:
            continue
