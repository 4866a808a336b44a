"""A storage that lies in the middle of a real session: to clients, to storages that copy, and to its nameserver.

No wrong byte is ever taken for good, and what others have is used instead."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.conftest import MIB, errors, resident
from tests.attacks.liar import NAME, Liar, send

from goggles.client.api import Progress
from goggles.client.session import Session
from goggles.contracts import inventory
from goggles.contracts.data import LARGE, Stored
from goggles.contracts.orders import Held, PullOrder
from goggles.contracts.records import FileInfo
from goggles.errors import BadPath, Cancelled, ChecksumMismatch, GogglesError, LimitExceeded
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck
from goggles.wire.data import DataLink, Kind

QUICK = ("--grace", "5", "--heartbeat", "1", "--lease", "5")
SMALL, LONG = 5_000, 3 * MIB + 77  # of one piece, and of several


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """alice is honest; eve is added by the tests."""
    with Cluster(tmp_path_factory.mktemp("lied-to") / "site", ("alice",), nameserver_flags=QUICK) as made:
        yield made
        for name in ("nameserver", "alice"):
            assert [line for line in errors(made, name) if f"storage {NAME} " not in line] == []


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {"/tree/small": os.urandom(SMALL), "/tree/long": os.urandom(LONG)}


@pytest.fixture(scope="module")
def attached(site: Cluster, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with Liar(site, tmp_path_factory.mktemp("eve") / "root") as made:
        site.wait_active(["alice", NAME])
        with site.connect() as session:
            session.mkdir("/tree")
            for path, data in files.items():
                assert session.write(path, data).copies == 2
            site.wait_settled()
        yield made


@pytest.fixture
def liar(attached: Liar, site: Cluster) -> Iterator[Liar]:
    """eve, in good order and with a copy of everything, until a test says what to lie about."""
    attached.asked.clear()
    yield attached
    attached.lies.clear()
    site.wait_active(["alice", NAME])
    site.wait_settled()


@pytest.fixture
def fs(site: Cluster) -> Iterator[Session]:
    with site.connect(timeout=3) as session:
        yield session


# --- reading ---------------------------------------------------------------------------------


def other(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def stream(body: bytes, *then: Callable[[DataLink], None]) -> Callable[[DataLink, Any], None]:
    """OK, these bytes, and what comes then."""

    def answer(link: DataLink, request: Any) -> None:
        link.send_value(Kind.OK, (len(body),))
        for start in range(0, len(body), MIB):
            send(link, body[start : start + MIB])
        for one in then:
            one(link)

    return answer


def end(link: DataLink) -> None:
    link.send_value(Kind.END, ("", ""))


def endless(body: bytes) -> Callable[[DataLink], None]:
    def talk(link: DataLink) -> None:
        for _ in range(1_000_000):
            send(link, body)

    return talk


def together(body: bytes, *sizes: int) -> Callable[[DataLink, Any], None]:
    return lambda link, request: link.send_together(Kind.OK, sizes or (len(body),), [body] if body else [], ())


Lies = Callable[[bytes], Callable[[DataLink, Any], None]]
STREAMS: dict[str, Lies] = {
    "other bytes": lambda data: stream(other(data), end),
    "half of them": lambda data: stream(data[: len(data) // 2], end),
    "half, and they are others": lambda data: stream(other(data)[: len(data) // 2], end),
    "half, others, and an error": lambda data: stream(
        other(data)[: len(data) // 2], lambda link: link.send_value(Kind.ERROR, ("storage_failure", "bad disk", ""))
    ),
    "half, others, and nothing": lambda data: stream(other(data)[: len(data) // 2], lambda link: link.close()),
    "more than there are": lambda data: stream(data + b"more", end),
    "none": lambda data: stream(b"", end),
    "no end": lambda data: stream(data, endless(b"x" * 1000)),
    "empty pieces for ever": lambda data: stream(b"", endless(b"")),
    "a request": lambda data: lambda link, request: link.send_value(Kind.REQUEST, ("read",)),
    "another kind in the middle": lambda data: stream(data[:10], lambda link: link.send_value(Kind.OK, (5,))),
    "an error that is none": lambda data: lambda link, request: link.send_value(Kind.ERROR, (1, 2)),
    "another version": lambda data: lambda link, request: link.send_value(Kind.ERROR, ("stale", "replaced", "")),
    "nothing is there": lambda data: lambda link, request: link.send_value(Kind.ERROR, ("not_found", "gone", "")),
}
TOGETHER: dict[str, Lies] = {
    "other bytes": lambda data: together(other(data)),
    "half of them": lambda data: together(data[: len(data) // 2]),
    "half, and they are others": lambda data: together(other(data)[: len(data) // 2]),
    "more than there are": lambda data: together(data + b"more"),
    "none": lambda data: together(b""),
    "others than announced": lambda data: together(data, len(data) + 1),
    "two answers": lambda data: together(data, 1, len(data) - 1),
    "an error that is none": lambda data: lambda link, request: link.send_value(Kind.ERROR, (1, 2)),
    "odd": lambda data: lambda link, request: link.send_value(Kind.OK, None),
}
READS = [("/tree/long", name) for name in STREAMS] + [("/tree/small", name) for name in TOGETHER]


def tell(liar: Liar, path: str, name: str, data: bytes) -> None:
    if path == "/tree/long":
        liar.lies["read"] = STREAMS[name](data)
    else:
        liar.lies["read_many"] = TOGETHER[name](data)
        liar.lies["read"] = STREAMS[name if name in STREAMS else "other bytes"](data)


def until_asked(liar: Liar, action: Callable[[], None]) -> None:
    """Storages are asked in a random order."""

    def asked() -> bool:
        liar.asked.clear()
        action()
        return bool(liar.asked)

    wait_until("the liar is asked", asked, 30)


@pytest.mark.parametrize(("path", "name"), READS)
def test_a_get_comes_from_the_other_storage(
    liar: Liar, fs: Session, files: dict[str, bytes], tmp_path: Path, path: str, name: str
) -> None:
    tell(liar, path, name, files[path])

    def get() -> None:
        fs.get(path, tmp_path / "file", overwrite=True)
        assert (tmp_path / "file").read_bytes() == files[path]

    until_asked(liar, get)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_tree_comes_from_the_other_storage(
    liar: Liar, fs: Session, files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    tell(liar, "/tree/small", name, files["/tree/small"])

    def get() -> None:
        local = tmp_path / os.urandom(4).hex()
        assert fs.get_tree("/tree", local).failed == []
        assert {f"/tree/{one.name}": one.read_bytes() for one in local.iterdir()} == files

    until_asked(liar, get)


@pytest.mark.parametrize("name", STREAMS)
def test_what_cat_gives_is_right_or_it_says_that_it_is_not(
    liar: Liar, fs: Session, files: dict[str, bytes], name: str
) -> None:
    """What has come out can not be taken back; what is short, or breaks off, is made up for by the other storage."""
    path = "/tree/long"
    tell(liar, path, name, files[path])
    wrong = "other" in name or "others" in name or name in ("another kind in the middle",)

    def cat() -> None:
        try:
            assert b"".join(fs.read(path)) == files[path]
        except ChecksumMismatch:
            assert wrong

    until_asked(liar, cat)


@pytest.mark.parametrize("name", [name for name in STREAMS if "other" not in name])
def test_a_range_is_as_long_as_it_should_be(liar: Liar, fs: Session, files: dict[str, bytes], name: str) -> None:
    """Ranges have no digest; a storage that does not give them all, or gives more, gives way to the other."""
    path = "/tree/long"
    tell(liar, path, name, files[path][MIB : MIB + 2_000])

    def part() -> None:
        with fs.open(path) as file:
            file.seek(MIB)
            assert file.read(2_000) == files[path][MIB : MIB + 2_000]

    until_asked(liar, part)


# --- writing ---------------------------------------------------------------------------------


def says_stored(link: DataLink, request: Any) -> None:
    """Takes it all, keeps nothing, passes nothing on, and says that everybody has it."""
    hops = request[2][0][3] if request[0] == "write_many" else request[3]
    kind, _ = link.receive()
    digest, size = hashlib.sha256(), 0
    while kind is Kind.DATA:
        digest.update(link._spare.data)
        size += link._spare.used
        kind, value = link.receive()
    if request[0] == "write":
        size, _ = value
    names = (NAME, *(hop[0] for hop in hops))
    said = tuple(Stored(name, size, digest.hexdigest()).to_wire() for name in names)
    link.send_value(Kind.OK, (said,) if request[0] == "write_many" else said)


@pytest.mark.parametrize("size", [SMALL, LONG], ids=["small", "long"])
def test_what_is_only_said_to_be_stored_is_not_committed(liar: Liar, site: Cluster, fs: Session, size: int) -> None:
    """Where eve is first of the chain nobody has the bytes; where she is second, alice has them."""
    liar.lies["write"] = liar.lies["write_many"] = says_stored

    def put() -> None:
        data = os.urandom(size)
        try:
            fs.write("/tree/put", data)
        except GogglesError:
            return
        assert b"".join(fs.read("/tree/put")) == data
        found = fs.stat("/tree/put")
        assert isinstance(found, FileInfo)
        assert "alice" in found.storages

    until_asked(liar, put)
    liar.lies.clear()
    if fs.isfile("/tree/put"):
        fs.rm("/tree/put")


STAGED = [None, (), 5, ("x",), (-5,), (1 << 60,), (float("nan"),), (True,), (MIB, MIB)]


def test_what_is_said_of_an_interrupted_upload_is_not_believed(
    liar: Liar, site: Cluster, fs: Session, tmp_path: Path
) -> None:
    source, answers = tmp_path / "source", cycle(STAGED)
    source.write_bytes(os.urandom(LARGE + 5))
    for turn in range(len(STAGED)):
        cancel = threading.Event()

        def progress(report: Progress, cancel: threading.Event = cancel) -> None:
            if report.done >= 6 * MIB:
                cancel.set()

        with pytest.raises(Cancelled):
            fs.put(source, f"/tree/resumed{turn}", progress=progress, cancel=cancel)
        liar.lies["staged"] = lambda link, request: link.send_value(Kind.OK, next(answers))
        liar.asked.clear()
        fs.put(source, f"/tree/resumed{turn}")
        assert "staged" in liar.asked
        liar.lies.clear()
        fs.get(f"/tree/resumed{turn}", tmp_path / "back", overwrite=True)
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
        fs.rm(f"/tree/resumed{turn}")


# --- copies ----------------------------------------------------------------------------------


@pytest.fixture
def other_site(tmp_path: Path) -> Iterator[Cluster]:
    """A site of its own, compared with its disks at the end."""
    with Cluster(tmp_path / "site", ("alice",), nameserver_flags=("--grace", "2", "--heartbeat", "1")) as made:
        yield made
        for name in ("nameserver", *made.storages):
            assert [line for line in errors(made, name) if f"storage {NAME} " not in line] == []
    roots = {name: made.root(name) for name in made.storages}
    assert fsck(made.database, roots | ({NAME: tmp_path / "eve"} if (tmp_path / "eve").exists() else {})) == []


def test_a_copy_is_made_from_the_other_storage(other_site: Cluster, tmp_path: Path) -> None:
    """eve gives each puller something else; what comes is compared, and asked for again."""
    with Liar(other_site, tmp_path / "eve") as liar, other_site.connect() as fs:
        other_site.wait_active(["alice", NAME])
        files = {f"/{number}": os.urandom(200_000 + number) for number in range(5)}
        for path, data in files.items():
            fs.write(path, data)
        chosen = cycle(("other bytes", "half of them", "empty pieces for ever", "none", "a request"))
        odd = cycle((None, (), ("x",), (5, 6)))

        def lie(link: DataLink, request: Any) -> None:
            if len(liar.asked) % 2:
                link.send_value(Kind.OK, next(odd))
            else:
                STREAMS[next(chosen)](b"x" * request[3])(link, request)

        liar.lies["read"] = lie
        other_site.start_storage("bob")
        for path in files:
            fs.setrep(path, 3)
        other_site.wait_active(["alice", "bob", NAME])
        wait_until("all of them on bob", lambda: fs.du()[0].owed == 0, 90)
        assert liar.asked
        other_site.wait_settled()
        for path, data in files.items():
            assert (other_site.root("bob") / path[1:]).read_bytes() == data


def test_a_copy_that_is_only_said_to_be_made_does_not_count(other_site: Cluster, tmp_path: Path) -> None:
    liar = Liar(other_site, tmp_path / "eve")
    workers: Any = liar.storage._workers
    honest, told = workers._fetch, list[str]()

    def other_digest(pull: PullOrder) -> None:
        workers._tell(pull.upload, pull.size, "0" * 64)

    def other_size(pull: PullOrder) -> None:
        workers._tell(pull.upload, pull.size + 1, pull.hash)

    def nothing(pull: PullOrder) -> None:
        """All that is said is right, but there are no bytes."""

    lies = cycle((other_digest, other_size, nothing))

    def fetch(pull: PullOrder) -> None:
        told.append(pull.path)
        next(lies)(pull)

    workers._fetch = fetch
    with other_site.connect() as fs:
        for name in "abc":
            fs.write(f"/{name}", name.encode())
        with liar:
            wait_until("eve was told to copy", lambda: len(told) >= 3, 60)
            assert all(b"".join(fs.read(f"/{name}")) == name.encode() for name in "abc")
            assert {name: (other_site.root("alice") / name).read_bytes() for name in "abc"} == {
                name: name.encode() for name in "abc"
            }
            workers._fetch = honest
            wait_until("all copies are there", lambda: fs.du()[0].owed == 0, 60)
            other_site.wait_settled()
            assert {name: (tmp_path / "eve" / name).read_bytes() for name in "abc"} == {
                name: name.encode() for name in "abc"
            }


VERDICTS = ["good 00 ²", "good", "", "good " * 3_000, "\n\x1b[31m", "good " + "0" * 64 + " 5", "bad x -1", "missing"]


def test_what_a_storage_says_that_it_has_read_is_not_believed_where_it_can_not_be(liar: Liar, fs: Session) -> None:
    vault: Any = liar.storage.vault
    said = iter(VERDICTS)
    vault.check = lambda path, version: next(said, "")
    try:
        for _ in VERDICTS:
            told = dict(fs.verify("/tree/small"))
            assert told.pop("alice") == "good"
            assert told.get(NAME) != "good"
            assert told.get(NAME) != "still reading"
            wait_until("eve has a copy again", lambda: holders(fs, "tree/small") == {"alice", NAME}, 30)
    finally:
        del vault.check


# --- self-check ------------------------------------------------------------------------------

Said = Callable[..., Any]  # (method, arguments): what the nameserver answers eve in her session


@pytest.fixture
def checking(other_site: Cluster, tmp_path: Path) -> Iterator[tuple[Liar, Said, Session]]:
    """eve after her upgrade, with copies of three files, before she has said anything of them."""
    with other_site.connect() as fs:
        with Liar(other_site, tmp_path / "eve"):
            other_site.wait_active(["alice", NAME])
            for name in "abc":
                fs.write(f"/{name}", name.encode() * 1000)
            other_site.wait_settled()
        liar = Liar(other_site, tmp_path / "eve")
        attachment: Any = liar.storage.attachment
        honest = attachment._self_check
        attachment._self_check = lambda welcome: None
        with liar:
            wait_until("eve is asked what she has", lambda: other_site.states().get(NAME) == "checking")
            yield liar, lambda method, *args: attachment.say(method, *args), fs
            attachment._self_check = honest
            attachment.recheck()
            other_site.wait_active(["alice", NAME])
            assert other_site.storages["alice"].running
            other_site.wait_settled()
            for name in "abc":
                assert b"".join(fs.read(f"/{name}")) == name.encode() * 1000
                assert (other_site.root("alice") / name).read_bytes() == name.encode() * 1000


def held(fs: Session, name: str, **more: Any) -> Held:
    found = fs.stat(f"/{name}")
    assert isinstance(found, FileInfo)
    told = Held("file", f"/{name}", found.size, found.hash, found.version, found.generation)
    return replace(told, **more)


def tell_all(said: Said, *things: Held) -> Any:
    return said("inventory", inventory.pack(things))


def finish(said: Said, *put_off: Held) -> str:
    """The rest of the self-check; the verdict."""
    verdict, _ = said("verdict", 0)
    if verdict == "go":
        said("condemned", inventory.pack(put_off))
        said("activate")
    return str(verdict)


def holders(fs: Session, name: str) -> set[str]:
    found = fs.stat(f"/{name}")
    assert isinstance(found, FileInfo)
    return set(found.storages)


@pytest.mark.parametrize("wrong", [{"size": 5}, {"hash": "0" * 64}, {"version": "0" * 32, "hash": "1" * 64}], ids=str)
def test_what_an_inventory_has_wrong_counts_for_nothing(
    checking: tuple[Liar, Said, Session], wrong: dict[str, Any]
) -> None:
    _, said, fs = checking
    lies = [held(fs, name, **wrong) for name in "abc"]
    assert tuple(tell_all(said, *lies)) == (0, 1, 2), "put off, until the whole is found to be safe"
    assert finish(said, *lies) in ("held", "go")
    wait_until("eve counts for nothing", lambda: all(holders(fs, name) == {"alice"} for name in "abc"), 10)


def test_names_that_lead_elsewhere_are_refused_and_the_rest_of_the_session_is_as_it_was(
    checking: tuple[Liar, Said, Session], tmp_path: Path
) -> None:
    _, said, fs = checking
    for path in ("/../x", "/a/../../x", "/a/..", "a", "", "/\0", "/x" * 3000, "/.goggles/site.json"):
        for method in ("inventory", "condemned"):
            for more in ({}, {"version": "", "hash": ""}, {"kind": "directory"}):
                with pytest.raises((BadPath, LimitExceeded)):
                    said(method, inventory.pack([held(fs, "a", path=path, **more)]))
    truth = [held(fs, name) for name in "abc"]
    assert tuple(tell_all(said, *truth)) == ()
    assert finish(said) == "go"
    assert all(holders(fs, name) == {"alice", NAME} for name in "abc")


def test_more_than_a_page_is_refused_and_the_same_page_for_ever_fills_nothing(
    checking: tuple[Liar, Said, Session], other_site: Cluster
) -> None:
    _, said, fs = checking
    page = [held(fs, "a"), *(held(fs, "b", path=f"/x{number}", version="", hash="") for number in range(499))]
    with pytest.raises(LimitExceeded):
        tell_all(said, *page, *page, *page)
    for turn in range(150):
        if turn == 20:
            before = resident(other_site)
        tell_all(said, *page)
    assert resident(other_site) - before < 20
    fs.write("/meanwhile", b"others are served")
    fs.rm("/meanwhile")


def test_what_is_told_of_copies_that_are_not_there_is_found_when_they_are_read(
    checking: tuple[Liar, Said, Session], tmp_path: Path
) -> None:
    """All digests are right, but she has nothing, or something else: readers get the others' bytes."""
    _, said, fs = checking
    (tmp_path / "eve" / "a").unlink()
    (tmp_path / "eve" / "b").write_bytes(b"x" * 1000)
    assert tuple(tell_all(said, *(held(fs, name) for name in "abc"))) == ()
    assert finish(said) == "go"
    assert holders(fs, "a") == {"alice", NAME}

    def got() -> bool:
        for name in "ab":
            fs.get(f"/{name}", tmp_path / "back", overwrite=True)
            assert (tmp_path / "back").read_bytes() == name.encode() * 1000
            fs.verify(f"/{name}")
        return all(content(tmp_path / "eve" / name) == name.encode() * 1000 for name in "ab")

    wait_until("what she had not is made anew", got, 60)


def content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
