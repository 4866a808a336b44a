"""Bad input: a clear error, nothing changed, nothing lost."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goggles.client.session import Session, connect
from goggles.errors import (
    AlreadyExists,
    BadPath,
    BadRequest,
    CertificateError,
    GogglesError,
    IsADirectory,
    LocalFileError,
    NotADirectory,
    NotEmpty,
    NotFound,
    SourceChanged,
    Unavailable,
)
from goggles.pki.authority import load_certificate
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Certificates, Cluster, free_port, wait_until

MIB = 1 << 20
Change = Callable[[Session, str], object]
BAD_NAMES = {
    "dotdot": "..",
    "dot": ".",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "delete": "a\x7fb",
    "256 bytes": "a" * 256,
    "256 bytes of unicode": "é" * 128,
    "invalid utf-8": os.fsdecode(b"a\xffb"),
    "own folder": ".goggles",
}
CHANGES: dict[str, Change] = {
    "mkdir": lambda fs, path: fs.mkdir(path),
    "put": lambda fs, path: fs.write(path, b"x"),
    "mv": lambda fs, path: fs.mv("/kept", path),
    "raw mkdir": lambda fs, path: fs._calls("mkdir", path, False, False, ""),
    "raw put": lambda fs, path: fs._calls("open_write", path, 1, 0, ()),
    "raw mv": lambda fs, path: fs._calls("mv", "/kept", path, ""),
}


@pytest.fixture(autouse=True)
def unchanged(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test on the shared site leaves it as it was."""
    if "fs" not in request.fixturenames:
        yield
        return
    fs: Session = request.getfixturevalue("fs")
    if not fs.exists("/kept"):
        fs.write("/kept", b"kept")
        fs.mkdir("/full/below", parents=True)
        fs.write("/full/file", b"x")
    before = list(fs.find("/"))
    yield
    assert list(fs.find("/")) == before
    assert fs.du()[0].uploads == 0


# --- names and paths -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change"),
    [(n, c) for n in BAD_NAMES for c in CHANGES if not (n == "invalid utf-8" and c.startswith("raw"))],
)
def test_bad_names_are_refused_by_the_client_and_by_the_nameserver(fs: Session, name: str, change: str) -> None:
    path = f"/{BAD_NAMES[name]}"
    with pytest.raises(GogglesError) as error:
        CHANGES[change](fs, path)
    assert isinstance(error.value, BadPath | BadRequest)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("path", ["", "relative", "//", "/kept/", "//kept", "/" + "/".join(["d" * 200] * 30)])
def test_paths_of_another_form_are_refused(fs: Session, path: str) -> None:
    with pytest.raises(GogglesError):
        fs._calls("mkdir", path, True, False, "")


@pytest.mark.parametrize("change", CHANGES)
def test_a_path_through_a_file_is_refused(fs: Session, change: str) -> None:
    with pytest.raises(GogglesError) as error:
        CHANGES[change](fs, "/full/file/below")
    assert isinstance(error.value, NotADirectory)


def test_what_is_of_the_wrong_kind_is_refused(fs: Session) -> None:
    cases: list[tuple[type[GogglesError], Callable[[], object]]] = [
        (IsADirectory, lambda: fs.write("/full", b"x")),
        (IsADirectory, lambda: fs.rm("/full")),
        (NotADirectory, lambda: fs.rmdir("/kept")),
        (NotEmpty, lambda: fs.rmdir("/full")),
        (NotFound, lambda: fs.rmdir("/none")),
        (NotFound, lambda: fs.setrep("/none", 2)),
        (BadRequest, lambda: fs.setrep("/kept", 0)),
        (BadRequest, lambda: fs.setrep("/kept", 1000)),
        (IsADirectory, lambda: fs.read("/full")),
    ]
    for wrong, call in cases:
        with pytest.raises(wrong):
            call()


@pytest.mark.parametrize("recursive", [False, True])
def test_the_root_stays(fs: Session, recursive: bool) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fs.rmdir("/", recursive=recursive),
        lambda: fs.mv("/", "/elsewhere"),
        lambda: fs.rm("/"),
    ]
    for call in calls:
        with pytest.raises(GogglesError):
            call()


# --- local files -----------------------------------------------------------------------------


def test_what_is_no_file_can_not_be_put(fs: Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for local in (tmp_path, tmp_path / "fifo", tmp_path / "none", Path("/dev/zero"), Path("/proc/self/mem")):
        with pytest.raises(LocalFileError) as error:
            fs.put(local, "/new")
        assert str(local.name) in error.value.message


@pytest.mark.parametrize("by", [-10, 10, 5 * MIB])
def test_a_file_that_changes_while_it_is_read_is_not_put(fs: Session, tmp_path: Path, by: int) -> None:
    local = tmp_path / "changing"
    local.write_bytes(os.urandom(12 * MIB))
    once = threading.Event()

    def progress(*_: object) -> None:
        if not once.is_set():
            once.set()
            os.truncate(local, 12 * MIB + by)

    with pytest.raises(SourceChanged):
        fs.put(local, "/new", progress=progress)
    assert once.is_set()


def test_a_get_to_where_it_can_not_go_leaves_nothing(fs: Session, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    for target, wrong in [
        (tmp_path / "there", AlreadyExists),
        (tmp_path / "folder", LocalFileError),
        (tmp_path / "none/below", LocalFileError),
        (tmp_path / "there/below", LocalFileError),
        (Path("/proc/new"), LocalFileError),
    ]:
        with pytest.raises(wrong):
            fs.get("/kept", target)
    with pytest.raises(IsADirectory):
        fs.get("/full", tmp_path / "new")
    with pytest.raises(NotFound):
        fs.get("/none", tmp_path / "new")
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "there"]


def test_a_get_to_a_name_that_is_too_long_for_the_disk_says_so(fs: Session, tmp_path: Path) -> None:
    with pytest.raises(LocalFileError):
        fs.get("/kept", tmp_path / ("x" * 300))


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_get_onto_a_disk_that_takes_no_more_leaves_nothing(site: Cluster, tmp_path: Path) -> None:
    with site.connect() as fs:
        (tmp_path / "source").write_bytes(os.urandom(4 * MIB))
        fs.put(tmp_path / "source", "/large")
        (tmp_path / "target").mkdir()
        with no_file_larger_than(MIB), pytest.raises(GogglesError) as error:
            fs.get("/large", tmp_path / "target/back")
        assert error.value.code in ("local_file", "no_space")
        assert list((tmp_path / "target").iterdir()) == []
        fs.rm("/large")


# --- programs --------------------------------------------------------------------------------


def refused(program: str, *flags: str, seconds: float = 20) -> str:
    """Run a server that must not start: one line, a clean exit code; what it said."""
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, "-m", f"goggles.cli.{program}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environment)
    said = done.stdout + done.stderr
    assert done.returncode in (1, 2), said
    assert "Traceback" not in said
    assert "internal" not in said
    assert len([line for line in said.splitlines() if line.startswith(f"vg-{program}: ")]) == 1, said
    return said


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def nameserver(certificates: Certificates, tmp_path: Path) -> list[str]:
    database = ["--port", "0", "--listen", "127.0.0.1", "--database", str(tmp_path / "goggles.db")]
    return [*database, *certificates.flags("nameserver", Role.NAMESERVER)]


@pytest.fixture
def storage(certificates: Certificates, tmp_path: Path) -> list[str]:
    flags = ["--name", "alice", "--port", "0", "--ns_port", str(free_port()), "--capacity", "1MiB"]
    return [*flags, "--rootpath", str(tmp_path / "alice"), *certificates.flags("alice", Role.STORAGE)]


@pytest.mark.parametrize("capacity", ["0", "-1", "much", "", "1e400", "\u0663"])
def test_a_storage_of_no_capacity_does_not_start(storage: list[str], tmp_path: Path, capacity: str) -> None:
    assert "capacity" in refused("storage", *storage, "--capacity", capacity)
    assert not (tmp_path / "alice").exists()


@pytest.mark.parametrize("program", ["nameserver", "storage"])
def test_a_port_that_is_taken_is_named(site: Cluster, request: pytest.FixtureRequest, program: str) -> None:
    said = refused(program, *request.getfixturevalue(program), "--listen", "127.0.0.1", "--port", str(site.port))
    assert str(site.port) in said


def test_flags_and_settings_that_nobody_knows_are_named(nameserver: list[str], tmp_path: Path) -> None:
    assert "--databse" in refused("nameserver", *nameserver, "--databse", "x")
    settings = tmp_path / "settings.toml"
    for text, word in [("colour = 1\n", "colour"), ("port = 'many'\n", "port"), ("= broken\n", "settings.toml")]:
        settings.write_text(text)
        assert word in refused("nameserver", *nameserver, "--settings", str(settings))
    assert "missing.toml" in refused("nameserver", *nameserver, "--settings", str(tmp_path / "missing.toml"))


def flags_with(flags: list[str], **changed: Path) -> list[str]:
    return [*flags, *(word for name, path in changed.items() for word in (f"--{name}", str(path)))]


def test_certificates_that_do_not_fit_are_told_apart(
    certificates: Certificates, nameserver: list[str], storage: list[str], tmp_path: Path
) -> None:
    bob_certificate, bob_key = certificates.files("bob", Role.STORAGE)
    (tmp_path / "garbage").write_text("nothing of this kind")
    said = {
        "missing": refused("nameserver", *flags_with(nameserver, certfile=tmp_path / "none")),
        "mixed up": refused("nameserver", *flags_with(nameserver, keyfile=bob_key)),
        "garbage": refused("nameserver", *flags_with(nameserver, certfile=tmp_path / "garbage")),
        "other name": refused("storage", *flags_with(storage, certfile=bob_certificate, keyfile=bob_key)),
    }
    assert len(set(said.values())) == len(said)
    assert not (tmp_path / "alice" / ".goggles" / "site.json").exists()


def test_a_nameserver_with_the_certificate_of_a_storage_does_not_start(
    certificates: Certificates, nameserver: list[str]
) -> None:
    certificate, key = certificates.files("bob", Role.STORAGE)
    assert "bob" in refused("nameserver", *flags_with(nameserver, certfile=certificate, keyfile=key), seconds=4)


def test_a_certificate_of_another_ca_of_the_same_name_is_refused(nameserver: list[str], tmp_path: Path) -> None:
    other = Certificates(tmp_path / "other")
    assert "not issued by" in refused("nameserver", *flags_with(nameserver, ca_cert=other.ca), seconds=4)


def test_an_expired_certificate_is_refused(certificates: Certificates, nameserver: list[str], tmp_path: Path) -> None:
    identity = Identity("goggles", Role.NAMESERVER, "nameserver")
    certificate, key = certificates._authority.issue(identity, ["localhost"], days=-1).write(tmp_path / "old")
    assert "expired" in refused("nameserver", *flags_with(nameserver, certfile=certificate, keyfile=key))


# --- the wrong people, and the port ------------------------------------------------------------


def test_who_shows_the_wrong_certificate_is_told_and_let_in_nowhere(site: Cluster, tmp_path: Path) -> None:
    other, own = Certificates(tmp_path / "other"), site.certificates
    stranger, storage = other.files("admin", Role.ADMIN), own.files("intruder", Role.STORAGE)
    identity = Identity("goggles", Role.ADMIN, "late")
    expired = own._authority.issue(identity, ["localhost"], days=-1).write(tmp_path / "late")
    for certificate, key in (stranger, expired, (storage[0], stranger[1]), (tmp_path / "none", tmp_path / "none")):
        with pytest.raises(CertificateError) as error:
            connect("localhost", site.port, ca_cert=own.ca, certfile=certificate, keyfile=key, timeout=1)
        assert error.value.hint
    with pytest.raises(GogglesError) as denied, _session(site, *storage) as session:
        session.ls("/")
    assert denied.value.code in ("denied", "certificate")
    with pytest.raises(CertificateError):
        connect("127.1", site.port, ca_cert=own.ca, certfile=storage[0], keyfile=storage[1], timeout=1)
    with pytest.raises(CertificateError, match="storage"):
        connect("localhost", site.ports["bob"], ca_cert=own.ca, certfile=storage[0], keyfile=storage[1], timeout=1)


def _session(site: Cluster, certificate: Path, key: Path) -> Session:
    return connect("localhost", site.port, ca_cert=site.certificates.ca, certfile=certificate, keyfile=key, timeout=1)


def test_a_revoked_certificate_is_let_in_no_more(cluster: Callable[..., Cluster]) -> None:
    site = cluster("alice")
    certificate, key = site.certificates.files("victor", Role.CLIENT)
    with _session(site, certificate, key) as session:
        session.ls("/")
    site.certificates._authority.revoke(load_certificate(certificate))

    def shut_out() -> bool:
        try:
            _session(site, certificate, key).close()
        except Unavailable as error:
            return "vg-certs check" in error.hint
        return False

    wait_until("victor is shut out", shut_out, 15)


def test_plain_tcp_garbage_and_silence_hold_nobody_up(site: Cluster, fs: Session) -> None:
    for port in (site.port, site.ports["alice"]):
        lines = [socket.create_connection(("localhost", port)) for _ in range(40)]
        for number, line in enumerate(lines):
            if number % 2:
                line.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(1000))
        with site.connect(timeout=5) as session:
            assert b"".join(session.read("/kept")) == b"kept"
        for line in lines:
            line.close()
    for name in ("nameserver", *site.names):
        assert "Traceback" not in (site.folder / f"{name}.log").read_text()


# --- the database ----------------------------------------------------------------------------


def test_a_database_that_can_not_be_used_is_left_as_it_is(nameserver: list[str], tmp_path: Path) -> None:
    database = tmp_path / "goggles.db"
    for content in (b"no database at all\n" * 500, b"SQLite format 3\0" + b"x" * 9000):
        database.write_bytes(content)
        assert "goggles.db" in refused("nameserver", *nameserver)
        assert database.read_bytes() == content
    database.unlink()
    for wrong in (tmp_path, tmp_path / "none/goggles.db", Path("/proc/goggles.db")):
        refused("nameserver", *nameserver, "--database", str(wrong))
    refused("nameserver", *nameserver, "--database", "nosuchdatabase://host/x")
    refused("nameserver", *nameserver, "--database", f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none")


def test_a_small_file_that_is_no_database_is_left_as_it_is(nameserver: list[str], tmp_path: Path) -> None:
    (tmp_path / "goggles.db").write_bytes(b"my notes\n")
    refused("nameserver", *nameserver, seconds=4)
    assert (tmp_path / "goggles.db").read_bytes() == b"my notes\n"


def test_a_database_of_a_newer_program_is_left_as_it_is(cluster: Callable[..., Cluster]) -> None:
    site = cluster("alice", started=False, tidily=False)
    site.start_nameserver()
    site.connect().mkdir("/kept")
    site.stop()
    with sqlite3.connect(site.database) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    flags = ["--port", "0", "--database", site.database]
    said = refused("nameserver", *flags, *site.certificates.flags("nameserver", Role.NAMESERVER))
    assert "newer" in said


def test_a_tree_json_that_makes_no_sense_is_refused(nameserver: list[str], tmp_path: Path) -> None:
    for text in ("{", "[]", '{"a": 1}', '{"files": [{"path": "/../x"}]}', "\xff"):
        (tmp_path / "tree.json").write_text(text)
        refused("nameserver", *nameserver, "--treejson", str(tmp_path / "tree.json"))
        assert (tmp_path / "tree.json").read_text() == text
