"""The seed's calls from a bare rpyc script: its own ssl context, the stock channel, a client's certificate."""

from __future__ import annotations

import hashlib
import io
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import rpyc

from goggles.client.session import Session
from goggles.roles import Role
from goggles.testing.cluster import Cluster

MIB = 1 << 20
Dial = Callable[..., Any]


@pytest.fixture
def dial(site: Cluster) -> Iterator[Dial]:
    """Connect to a port as any script would; the connection's root."""
    connections: list[Any] = []
    certificate, key = site.certificates.files("scripter", Role.CLIENT)

    def connect(port: int, **config: object) -> Any:
        context = ssl.create_default_context(cafile=site.certificates.ca)
        context.load_cert_chain(certificate, key)
        stream = rpyc.SocketStream.connect("localhost", port)
        stream.sock = context.wrap_socket(stream.sock, server_hostname="localhost")
        connection = rpyc.connect_stream(stream, config=config)
        connections.append(connection)
        return connection.root

    yield connect
    for connection in connections:
        connection.close()


@pytest.fixture
def nameserver(site: Cluster, dial: Dial) -> Any:
    return dial(site.port)


@contextmanager
def refusal(match: str = r"\w") -> Iterator[Any]:
    """The error of a block, which a stock rpyc makes of ours: it has a code and a hint."""
    with pytest.raises(Exception, match=match) as caught:
        yield caught


def holder_and_other(site: Cluster, nameserver: Any, path: str) -> tuple[str, str]:
    """A storage that has the file, and one that has not."""
    having = [dict(pairs)["name"] for pairs in nameserver.locations(path)]
    return having[0], next(name for name in site.names if name not in having)


def test_the_seeds_calls_work_on_the_nameserver(site: Cluster, fs: Session, nameserver: Any) -> None:
    nameserver.mkdir("/script")
    nameserver.mkdir("/script/below")
    fs.write("/script/file", b"x" * 1000)
    assert [dict(pairs)["path"] for pairs in nameserver.ls("/script")] == ["/script/below", "/script/file"]
    assert list(nameserver.listdir("/script")) == ["below", "file"]
    record = dict(nameserver.stat("/script/file"))
    assert (record["path"], record["type"], record["size"]) == ("/script/file", "FILE", 1000)
    assert record["hash"] == hashlib.sha256(b"x" * 1000).hexdigest()
    directory = dict(nameserver.stat("/script"))
    assert (directory["type"], directory["files"]) == ("DIRECTORY", ("below", "file"))
    assert (nameserver.isdir("/script"), nameserver.isfile("/script")) == (True, False)
    assert (nameserver.isdir("/script/file"), nameserver.isfile("/script/file")) == (False, True)
    assert (nameserver.isdir("/none"), nameserver.isfile("/none")) == (False, False)
    nodes = [dict(pairs) for pairs in nameserver.du()]
    assert sorted(node["name"] for node in nodes) == sorted(site.names)
    assert all(node["capacity"] == site.capacity and 0 < node["free"] <= node["capacity"] for node in nodes)
    assert {node["name"]: node["addr"] for node in nodes} == {n: ("localhost", site.ports[n]) for n in site.names}
    assert {dict(pairs)["name"] for pairs in nameserver.locations("/script/file")} == set(fs.locations("/script/file"))
    assert len(nameserver.availableStorages("/script/new", 1000)) == 3
    assert len(nameserver.availableStorages("/script/new", 1 << 50)) == 0
    nameserver.rm("/script/file")
    nameserver.rmdir("/script/below")
    nameserver.rmdir("/script")
    assert not fs.exists("/script")


@pytest.mark.parametrize(
    ("call", "arguments", "code"),
    [
        ("stat", ("/none",), "not_found"),
        ("ls", ("/none",), "not_found"),
        ("rm", ("/none",), "not_found"),
        ("rmdir", ("/none",), "not_found"),
        ("mkdir", ("/none/below",), "not_found"),
        ("mkdir", ("/../up",), "bad_path"),
        ("mkdir", ("/.goggles",), "bad_path"),
        ("mkdir", (7,), "bad_"),
        ("mkdir", (b"/bytes",), "bad_"),
        ("rmdir", ("/",), ""),
        ("ls", (), "bad_"),
        ("scan", ("/", "", -1), "bad_request"),
        ("setrep", ("/", 0), "bad_request"),
        ("setrep", ("/", "2"), "bad_"),
        ("open_write", ("/x", -1), "bad_request"),
        ("open_write", ("/x", "many"), "bad_"),
        ("commit", ("none", 0, ""), ""),
    ],
)
def test_what_is_refused_says_its_code(
    fs: Session, nameserver: Any, call: str, arguments: tuple[object, ...], code: str
) -> None:
    before = fs.ls("/")
    with refusal() as error:
        getattr(nameserver, call)(*arguments)
    assert error.value.code.startswith(code)
    assert error.value.code != "internal"
    assert isinstance(error.value.hint, str)
    assert "/src/goggles" not in str(error.value) + "".join(getattr(error.value, "__notes__", []))
    assert fs.ls("/") == before


@pytest.mark.parametrize("call", ["upgrade", "inventory", "verdict", "activate", "heartbeat", "write_notification"])
def test_a_client_may_not_speak_as_a_storage(nameserver: Any, call: str) -> None:
    with refusal() as error:
        getattr(nameserver, call)()
    assert error.value.code == "denied"


@pytest.mark.parametrize("call", ["accept", "restoretree", "drain", "set_account", "export_tree"])
def test_a_client_may_not_administer(nameserver: Any, call: str) -> None:
    with refusal() as error:
        getattr(nameserver, call)("alice")
    assert error.value.code == "denied"


@pytest.mark.parametrize(
    "name", ["_owners", "caller", "__class__", "__dict__", "_rpyc_getattr", "exposed_ls", "nonsense"]
)
def test_only_what_is_exposed_can_be_reached(nameserver: Any, name: str) -> None:
    with refusal():
        rpyc.core.netref.syncreq(nameserver, rpyc.core.consts.HANDLE_GETATTR, name)()


def test_a_storage_gives_a_file_to_read_from(site: Cluster, fs: Session, nameserver: Any, dial: Dial) -> None:
    data = os.urandom(3 * MIB)
    fs.write("/readable", data)
    storage = dial(site.ports[holder_and_other(site, nameserver, "/readable")[0]])
    with storage.open("/readable", "rb") as file:
        assert file.read(10) == data[:10]
        assert file.tell() == 10
        assert file.seek(MIB) == MIB
        assert file.read(MIB) == data[MIB : 2 * MIB]
        file.seek(-5, os.SEEK_END)
        assert (file.read(), file.read()) == (data[-5:], b"")
    with refusal():
        file.read(1)
    again = storage.open("/readable", "rb")
    assert again.read() == data
    again.close()


def test_a_storage_takes_what_a_file_object_gives(site: Cluster, fs: Session, dial: Dial, tmp_path: Any) -> None:
    data = os.urandom(2 * MIB + 5)
    (tmp_path / "source").write_bytes(data)
    storage = dial(site.ports["bob"], allow_public_attrs=True)
    with open(tmp_path / "source", "rb") as source:
        storage.write_fileobj("/written", source)
    storage.write_fileobj("/from-memory", io.BytesIO(b"some bytes"))
    storage.write_fileobj("/empty", io.BytesIO())
    assert b"".join(fs.read("/written")) == data
    assert "bob" in fs.locations("/written")
    assert b"".join(fs.read("/from-memory")) == b"some bytes"
    assert b"".join(fs.read("/empty")) == b""
    site.wait_settled()
    assert len(fs.locations("/written")) == 2


def test_a_script_that_does_not_let_its_file_be_read_is_told_how(site: Cluster, fs: Session, dial: Dial) -> None:
    with refusal("allow_public_attrs") as error:
        dial(site.ports["bob"]).write_fileobj("/unreadable", io.BytesIO(b"x"))
    assert error.value.code == "bad_request"
    assert not fs.exists("/unreadable")


def test_a_source_that_gives_text_or_breaks_changes_nothing(site: Cluster, fs: Session, dial: Dial) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise OSError("the disk is gone")

    storage = dial(site.ports["bob"], allow_public_attrs=True)
    for source in (io.StringIO("text"), Broken(), 7):
        with refusal() as error:
            storage.write_fileobj("/broken", source)
        assert error.value.code == "bad_request"
    assert not fs.exists("/broken")
    site.wait_settled()


def test_a_storage_refuses_what_it_can_not_give(site: Cluster, fs: Session, nameserver: Any, dial: Dial) -> None:
    fs.write("/there", b"x")
    holder, other = holder_and_other(site, nameserver, "/there")
    storage = dial(site.ports[holder])
    for mode in ("wb", "w", "ab", "r+b"):
        with refusal("write_fileobj") as error:
            storage.open("/there", mode)
        assert error.value.code == "bad_request"
    with refusal(f"{other} has no copy") as elsewhere:
        dial(site.ports[other]).open("/there", "rb")
    assert elsewhere.value.code == "not_found"
    assert holder in elsewhere.value.hint
    for path, code in [("/none", "not_found"), ("/../etc/passwd", "bad_path"), ("/.goggles/site.json", "bad_path")]:
        with refusal() as error:
            storage.open(path, "rb")
        assert error.value.code == code


def test_of_a_file_object_only_reading_can_be_reached(site: Cluster, fs: Session, nameserver: Any, dial: Dial) -> None:
    fs.write("/object", b"x")
    file = dial(site.ports[holder_and_other(site, nameserver, "/object")[0]]).open("/object", "rb")
    for name in ("write", "truncate", "_file", "raw", "fileno", "__init__"):
        with refusal():
            rpyc.core.netref.syncreq(file, rpyc.core.consts.HANDLE_GETATTR, name)
    with refusal():
        rpyc.core.netref.syncreq(file.read, rpyc.core.consts.HANDLE_GETATTR, "__globals__")
    file.close()
