"""Storages that lie to their nameserver, and a nameserver and storages that lie to a client."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.attacks.conftest import calls
from tests.attacks.hostile import Calls, Refused

from goggles.client.session import Session, connect
from goggles.contracts.data import STEP, Hop, ReadTicket, WriteTicket
from goggles.errors import GogglesError, ProtocolError
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Level, Role
from goggles.testing.cluster import Certificates, Cluster
from goggles.wire.data import Buffer, DataLink, Kind
from goggles.wire.server import Doors, Server
from goggles.wire.service import Caller, Service, exposed

NAN, INF = float("nan"), float("inf")
HELLO = {"name": "eve", "host": "localhost", "port": 9, "capacity": 1 << 40, "zone": "", "storage_id": "e" * 32}
HELLO |= {
    "site_id": "",
    "epoch": 0,
    "epoch_token": "",
    "disk_free": 1 << 40,
    "program": "x",
    "certificate_expires": 2e9,
}
FACILITIES = ["", "{", "[]", '{"goggles": 5}', "null", "[" * 16_000]
HELD = {"kind": "file", "path": "/kept", "size": 4, "hash": "0" * 64, "version": "0" * 32, "generation": 1}
ODD = [-1, 1 << 62, 1 << 200, NAN, INF, -INF, True, "1", b"1", None, (), (("a", 1),), "x" * 20_000, "\0", "\x1b[31m"]


def said(line: Calls, method: str, *args: Any) -> str:
    try:
        line.value(method, *args)
    except Refused as error:
        return error.code
    return "done"


# --- storages --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", HELLO)
def test_what_a_storage_says_of_itself_must_be_possible(site: Cluster, fs: Session, key: str) -> None:
    """Nobody listens where it says it is, so that nothing is taken in the end; what counts is that nothing breaks."""
    with calls(site, "eve", Role.STORAGE) as line:
        for odd in ODD:
            code = said(line, "upgrade", tuple({**HELLO, key: odd}.items()))
            assert code in ("bad_request", "limit", "conflict", "unavailable", "bad_path"), (odd, code)
        for odd in FACILITIES:
            assert said(line, "upgrade", tuple({**HELLO, "facilities": odd}.items())) == "bad_request"
        for hello in [(), (("name", "eve"),), tuple(HELLO), (5,), ((),), (("a", "b", "c"),)]:
            assert said(line, "upgrade", hello) == "bad_request"
    assert [info.name for info in fs.du()[1]] == site.names


@pytest.mark.parametrize("key", HELD)
def test_an_inventory_that_lies_is_refused(site: Cluster, fs: Session, key: str) -> None:
    with calls(site, "alice", Role.STORAGE) as line:
        for odd in ODD:
            for method in ("inventory", "condemned"):
                code = said(line, method, "no session", told({**HELD, key: odd}))
                assert code in ("bad_request", "limit", "stale"), (method, odd, code)
        assert said(line, "inventory", "x", told(*[HELD] * 1001)) == "limit"
        for odd in (b"", b"{}", b"5", b"[5]", b"[[]]", b"[" * 100_000, b"\xff", (), "[]"):
            assert said(line, "inventory", "x", odd) == "bad_request", odd


def told(*things: dict[str, Any]) -> bytes:
    """As a storage tells them, but for what JSON can not say."""
    return json.dumps([list(thing.values()) for thing in things], default=repr).encode()


SESSIONLESS: list[tuple[str, tuple[Any, ...]]] = [
    ("inventory", (b"[]",)),
    ("walk_tree", (0,)),
    ("verdict", (0,)),
    ("condemned", (b"[]",)),
    ("activate", ()),
    ("heartbeat", (1, ())),
    ("scrubbed", (b"[]", ())),
    ("write_notification", ("0" * 32, 1, "0" * 64)),
]


@pytest.mark.parametrize(("method", "args"), SESSIONLESS, ids=[row[0] for row in SESSIONLESS])
def test_a_storage_speaks_only_under_its_own_session(
    site: Cluster, fs: Session, method: str, args: tuple[Any, ...]
) -> None:
    with calls(site, "bob", Role.STORAGE) as line:
        for session in ("", "0" * 32, "\0", "x" * 16_000):
            assert said(line, method, session, *args) == "stale"


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_numbers_that_are_none_are_refused_everywhere(site: Cluster, fs: Session, odd: float) -> None:
    with calls(site) as line, calls(site, "bob", Role.STORAGE) as storage:
        for method, args in [("validate_file", ("/kept", odd)), ("verify_many", (("/kept",), odd))]:
            assert said(line, method, *args) == "bad_request"
        assert said(storage, "scrubbed", "x", b"[]", (("began", odd),)) == "bad_request"


def test_free_room_that_can_not_be_is_not_believed(site: Cluster, fs: Session) -> None:
    with calls(site, "bob", Role.STORAGE) as line:
        for free, due in [(-1, "bad_request"), (1 << 80, "limit"), (NAN, "bad_request"), (True, "bad_request")]:
            assert said(line, "heartbeat", "x", free, ()) == due
        assert said(line, "heartbeat", "x", 1, (5, None)) == "bad_request"
    assert all(0 < info.free <= info.capacity for info in fs.du()[1])


def test_a_storage_that_says_it_has_what_it_has_not_changes_no_file(site: Cluster, fs: Session) -> None:
    """Its word counts only with the digest of the writer."""
    with calls(site) as writer, calls(site, "bob", Role.STORAGE) as line:
        upload = dict(writer.value("open_write", "/new", 4, 3))["upload"]
        for size, digest in [(4, "0" * 64), (1 << 60, "0" * 64), (-1, "0" * 64)]:
            assert said(line, "write_notification", "x", upload, size, digest) == "stale"
        assert said(line, "write_notification", "x", upload, 4, "\n" * 64) == "bad_request"
        assert said(writer, "commit", upload, 4, hashlib.sha256(b"mine").hexdigest()) == "unavailable"
        writer.value("abandon", upload)


# --- a nameserver that lies to a client -------------------------------------------------------

FILE = {"path": "/d/x", "type": "FILE", "size": 4, "hash": hashlib.sha256(b"evil").hexdigest(), "generation": 1}
FILE |= {"copies": 1, "live": 1, "storages": ["liar"], "created": 1.0, "modified": 1.0, "uploader": "u", "source": "s"}
FOLDER = {
    "path": "/d/y",
    "type": "DIRECTORY",
    "files": [],
    "entries": 1,
    "copies": None,
    "created": 1.0,
    "modified": 1.0,
}


def packed(*records: dict[str, Any]) -> bytes:
    order = [record["type"] for record in records]
    tables: dict[str, Any] = {}
    for kind in set(order):
        chosen = [record for record in records if record["type"] == kind]
        tables[kind] = {"same": {}, "columns": {key: [one[key] for one in chosen] for key in chosen[0]}}
    return orjson.dumps({"count": len(records), "order": order, **tables})


class Lies:
    """What the liar says next."""

    def __init__(self) -> None:
        self.scan: Callable[[str, str], Any] = lambda path, after: packed() if after else packed(FILE)
        self.stat: Any = packed(FOLDER)
        self.data: Callable[[DataLink], None] = lambda link: None
        self.ticket: Any = None
        self.anything: Any = None


LIES = Lies()


class Liar(Service):
    """A nameserver with a good certificate."""

    @exposed(Role.CLIENT)
    def hello(self) -> Any:
        return (("site", "goggles"),)

    @exposed(Role.CLIENT)
    def scan(self, path: str, after: str, limit: int, packed: bool = False) -> Any:
        return LIES.scan(path, after)

    @exposed(Role.CLIENT)
    def stat_many(self, paths: tuple[str, ...], packed: bool = False) -> Any:
        return LIES.stat

    @exposed(Role.CLIENT)
    def open_read(self, path: str) -> Any:
        return LIES.ticket

    @exposed(Role.CLIENT)
    def open_read_many(self, paths: tuple[str, ...]) -> Any:
        return tuple(LIES.ticket for _ in paths)

    @exposed(Role.CLIENT)
    def open_write(self, path: str, size: int, copies: int = 0, avoid: tuple[str, ...] = ()) -> Any:
        return LIES.ticket

    @exposed(Role.CLIENT)
    def report_bad(self, path: str, version: str, storage: str) -> None:
        return None

    @exposed(Role.CLIENT)
    def abandon(self, upload: str) -> None:
        return None


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Certificates, Server, Server]]:
    certificates, made = Certificates(tmp_path_factory.mktemp("certs")), []
    for name, role in [("nameserver", Role.NAMESERVER), ("liar", Role.STORAGE)]:
        contexts = Contexts(PkiFiles(certificates.ca, *certificates.files(name, role)))

        def data(link: DataLink, caller: Caller) -> None:
            while link.readable(30):
                link.receive()
                LIES.data(link)

        server = Server("127.0.0.1", 0, contexts, Doors(Liar, lambda who: Level.ADMIN, data))
        server.start()
        made.append(server)
    yield certificates, made[0], made[1]
    for server in made:
        server.stop()


@pytest.fixture
def client(servers: tuple[Certificates, Server, Server]) -> Iterator[Session]:
    certificates, nameserver, _ = servers
    LIES.__init__()  # type: ignore[misc]
    ann, key = certificates.files("ann", Role.CLIENT)
    with connect("localhost", nameserver.port, ca_cert=certificates.ca, certfile=ann, keyfile=key, timeout=1) as made:
        yield made


ESCAPES = [
    "/d/../../escaped",
    "/d/..",
    "/d/.",
    "/d//escaped",
    "/escaped",
    "escaped",
    "",
    "/d/a/b",
    "/d/\0",
    "/d/a\nb",
    "/",
]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("record", [FILE, FOLDER], ids=["file", "directory"])
def test_no_name_of_a_listing_leads_out_of_the_local_folder(
    client: Session, tmp_path: Path, name: str, record: dict[str, Any]
) -> None:
    LIES.scan = lambda path, after: packed({**record, "path": name})
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ProtocolError):
        client.get_tree("/d", tmp_path / "a" / "b" / "here")
    assert [p for p in tmp_path.rglob("*") if p.name not in ("a", "b", "here")] == []


@pytest.mark.parametrize("path", [5, None, ["/d/x"], {"a": 1}, True])
def test_names_that_are_none_are_refused(client: Session, path: Any) -> None:
    LIES.scan = lambda _, after: packed({**FILE, "path": path})
    with pytest.raises(ProtocolError):
        client.ls("/d")


def test_a_listing_that_has_no_end_has_one(client: Session) -> None:
    page = packed(*({**FILE, "path": f"/d/{number:04}"} for number in range(1000)))
    LIES.scan = lambda path, after: page
    with pytest.raises(ProtocolError):
        client.ls("/d")
    deep = {**FOLDER}
    LIES.scan = lambda path, after: packed({**deep, "path": f"{path}/y"})
    with pytest.raises(GogglesError):
        list(client.find("/d"))


SAME = {**FILE}
BOMBS = {
    "a trillion that are all the same": {"count": 10**12, "order": "FILE", "FILE": {"same": SAME, "columns": {}}},
    "one with no end": {"count": 10**12, "order": "FILE", "FILE": {"same": {}, "columns": {"path": ["/d/a"]}}},
    "fewer than none": {"count": -1, "order": "FILE", "FILE": {"same": SAME, "columns": {}}},
    "half a one": {"count": 1.5, "order": "FILE", "FILE": {"same": SAME, "columns": {}}},
    "more kinds than records": {"count": 1, "order": ["FILE"] * 20_000, "FILE": {"same": SAME, "columns": {}}},
    "no kind": {"count": 1, "order": "SOCKET", "SOCKET": {"same": {}, "columns": {}}},
    "no table": {"count": 1, "order": "FILE"},
    "a list": [1, 2],
    "a number": 5,
}
RAW = {"deep lists": b"[" * 1_000_000, "deep objects": b'{"a":' * 200_000, "nothing": b"", "garbage": b"\xff\xfe"}
PACKED = {**{name: orjson.dumps(bomb) for name, bomb in BOMBS.items()}, **RAW}


@pytest.mark.parametrize("bomb", PACKED)
def test_bombs_of_json_are_refused_at_once(client: Session, bomb: str) -> None:
    LIES.scan = lambda path, after: PACKED[bomb]
    LIES.stat = PACKED[bomb]
    for look in (lambda: client.ls("/d"), lambda: client.stat("/d")):
        began = time.monotonic()
        with pytest.raises(ProtocolError):
            look()
        assert time.monotonic() - began < 5


# --- storages that lie to a client ------------------------------------------------------------


def read_ticket(port: int) -> Any:
    hop = Hop("liar", "localhost", port, b"grant", 0)
    return ReadTicket("/d/x", 4, hashlib.sha256(b"true").hexdigest(), 1, "0" * 32, 1.0, (hop,)).to_wire()


def send(link: DataLink, body: bytes) -> None:
    buffer = Buffer()
    buffer.space[: len(body)] = body
    buffer.used = len(body)
    link.send_data(buffer)


ANSWERS: dict[str, Callable[[DataLink], None]] = {
    "other bytes": lambda link: link.send_together(Kind.OK, (4,), [b"evil"], ()),
    "more bytes": lambda link: link.send_together(Kind.OK, (400,), [b"x" * 400], ()),
    "fewer bytes": lambda link: link.send_together(Kind.OK, (4,), [b"x"], ()),
    "negative": lambda link: link.send_together(Kind.OK, (-4,), [b"evil"], ()),
    "two answers": lambda link: link.send_together(Kind.OK, (2, 2), [b"evil"], ()),
    "text": lambda link: link.send_together(Kind.OK, ("true",), [b"evil"], ()),
    "none": lambda link: link.send_together(Kind.OK, None, [], ()),
    "an error that is none": lambda link: link.send_value(Kind.ERROR, (1, 2)),
    "an error of odd things": lambda link: link.send_value(Kind.ERROR, (None, 5, b"x")),
    "a request": lambda link: link.send_value(Kind.REQUEST, ("write",)),
    "an end": lambda link: link.send_value(Kind.END, ()),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_wrong_bytes_never_become_a_file(
    client: Session, servers: tuple[Certificates, Server, Server], tmp_path: Path, answer: str
) -> None:
    LIES.stat, LIES.ticket = packed(FILE), read_ticket(servers[2].port)
    LIES.data = ANSWERS[answer]
    with pytest.raises(GogglesError):
        client.get("/d/x", tmp_path / "x")
    with pytest.raises(GogglesError):
        b"".join(client.read("/d/x"))
    summary = None
    LIES.stat = packed(FOLDER)
    LIES.scan = lambda path, after: packed() if after else packed(FILE)
    summary = client.get_tree("/d", tmp_path / "tree")
    assert len(summary.failed) == 1
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("records", [[], [FILE, FILE]], ids=["none", "two"])
def test_who_asks_for_one_file_is_told_of_one(
    client: Session, servers: tuple[Certificates, Server, Server], tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    LIES.stat, LIES.ticket = packed(*records), read_ticket(servers[2].port)
    for ask in (lambda: client.stat("/d/x"), lambda: client.get("/d/x", tmp_path / "x")):
        with pytest.raises(ProtocolError, match="asked for one"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_sends_without_end_is_not_listened_to(
    client: Session, servers: tuple[Certificates, Server, Server]
) -> None:
    def endless(link: DataLink) -> None:
        link.send_value(Kind.OK, (4,))
        for _ in range(1000):
            send(link, b"x" * 1000)

    LIES.ticket, LIES.data = read_ticket(servers[2].port), endless
    with pytest.raises(GogglesError):
        b"".join(client.read("/d/x"))
    with client.open("/d/x") as file, pytest.raises((GogglesError, OSError)):
        file.read(2)


@pytest.mark.parametrize(
    "answer", [None, 5, "text", (), (5,), (("name",),), ((("name", 5),),), ((("size", "x"),),)], ids=str
)
def test_an_upload_is_not_believed_done_by_odd_answers(
    client: Session, servers: tuple[Certificates, Server, Server], answer: Any
) -> None:
    hop = Hop("liar", "localhost", servers[2].port, b"grant", 0)
    LIES.ticket = WriteTicket("0" * 32, 4, 1, (hop,)).to_wire()

    def data(link: DataLink) -> None:
        link.send_value(Kind.OK, (answer,))

    LIES.data = data
    with pytest.raises(GogglesError):
        client.write("/d/x", b"true")


GONE_ON = [None, 5, (), ("x",), (-5,), (-STEP,), (NAN,), (True,), (1 << 62,), (STEP, STEP), ((STEP,),)]


@pytest.mark.parametrize("answer", GONE_ON, ids=str)
def test_nothing_is_gone_on_with_by_odd_answers(
    client: Session, servers: tuple[Certificates, Server, Server], tmp_path: Path, answer: Any
) -> None:
    """First to how much is there, then to what that is."""
    hop = Hop("liar", "localhost", servers[2].port, b"grant", 0)
    LIES.ticket = WriteTicket("0" * 32, 2 * STEP, 1, (hop,), resumed=True).to_wire()
    (tmp_path / "source").write_bytes(b"x" * 2 * STEP)
    for answers in ((answer, answer), ((STEP,), answer), ((STEP,), ("0" * 64,))):
        said = list(answers)
        LIES.data = lambda link, said=said: link.send_value(Kind.OK, said.pop(0) if said else None)  # type: ignore[misc]
        with pytest.raises(GogglesError):
            client.put(tmp_path / "source", "/d/x")
