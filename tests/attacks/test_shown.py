"""What strangers say, in logs and on terminals: no line of a log can be forged, and no terminal is steered."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.attacks.conftest import QUICK, calls
from tests.attacks.hostile import Refused

from goggles.client.shell import render
from goggles.log import JsonFormat, TextFormat
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Level, Role
from goggles.testing.cluster import SOURCE, Certificates, Cluster
from goggles.wire.server import Doors, Server
from goggles.wire.service import Service, exposed

FORGED = "2026-11-21T06:05:09.123Z INFO     nameserver [forged] all is well"
EVIL = f"x\n{FORGED}\r{FORGED}\x1b[31m\x9b31m\x07\u202egnp.exe\u2028\u2029\u200b\x85\x0b\x0c\x1c\udc80 end"
PLAIN = EVIL.replace("\udc80", "")
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ +\S+ \[.*?\] .*\Z")


def only_printable(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


# --- logs ------------------------------------------------------------------------------------


def speak(site: Cluster) -> None:
    """Say bad things wherever something is logged."""
    with calls(site) as line, calls(site, "alice", Role.STORAGE) as storage, calls(site, "admin", Role.ADMIN) as admin:
        for who, method, args in [
            (line, "login", (PLAIN, PLAIN)),
            (line, PLAIN, ()),
            (line, "stat", (PLAIN,)),
            (line, "mkdir", (f"/{PLAIN}",)),
            (line, "open_write", ("/y", 1, 1, (PLAIN,))),
            (line, "report_bad", (f"/{PLAIN}", PLAIN, PLAIN)),
            (line, "verify", (f"/{PLAIN}",)),
            (line, "abandon", (PLAIN,)),
            (storage, "upgrade", ((("name", PLAIN), ("host", PLAIN)),)),
            (storage, "pull_failed", (PLAIN, PLAIN, PLAIN)),
            (storage, "check_done", (PLAIN, PLAIN, PLAIN)),
            (storage, "pushed", (PLAIN, PLAIN, PLAIN, PLAIN)),
            (storage, "ingested", (PLAIN, PLAIN, PLAIN, PLAIN)),
            (admin, "add_librarian", (PLAIN, PLAIN, 1, PLAIN, False)),
            (admin, "create_user", (PLAIN, PLAIN, PLAIN)),
            (admin, "run_task", (PLAIN,)),
            (admin, "drain", (PLAIN,)),
        ]:
            with contextlib.suppress(Refused):
                who.value(method, *args)


def test_nothing_that_is_said_makes_a_line_of_the_log(site: Cluster) -> None:
    with site.connect() as fs:
        for name in ("a\u202egnp.exe", "z\u200bero", "\u2028line", "\ufeffmark", "%s%n", "a | b=c"):
            fs.write(f"/{name}", b"x")
            fs.rm(f"/{name}")
    speak(site)
    for name in ("nameserver", *site.names):
        text = (site.folder / f"{name}.log").read_text()
        lines = [line for line in text.splitlines() if "password" not in line and "shown this once" not in line]
        assert [line for line in lines if not LINE.match(line)] == []
        assert only_printable(text)
        assert "[forged]" not in {part for line in lines for part in line.split(" ")[4:5]}


def test_a_log_of_json_stays_one_object_a_line(tmp_path: Path) -> None:
    flags = ("--logformat", "json", "--loglevel", "debug")
    with Cluster(tmp_path / "site", ("alice",), nameserver_flags=(*QUICK, *flags), storage_flags=flags) as site:
        speak(site)
    for name in ("nameserver", "alice"):
        lines = (site.folder / f"{name}.log").read_text().splitlines()
        told = [json.loads(line) for line in lines]
        first = [one for one in told if "process" not in one]
        assert [set(one) for one in first] == ([{"message"}] * 2 if name == "nameserver" else []), "the first password"
        processes = {one["process"] for one in told if one not in first}
        assert processes == {"nameserver" if name == "nameserver" else "storage/alice"}


@given(st.text(), st.text(), st.dictionaries(st.text(min_size=1), st.text(), max_size=2))
def test_a_record_is_one_line_whatever_it_says(message: str, thread: str, more: dict[str, str]) -> None:
    extras = {f"x{key}": value for key, value in more.items()}
    record = logging.makeLogRecord({"msg": message, "threadName": thread, "levelname": "INFO", **extras})
    line = TextFormat("p").format(record)
    assert line.isprintable()
    assert LINE.match(line)
    found = JsonFormat("p").format(record)
    assert "\n" not in found
    assert json.loads(found)["message"] == message


# --- terminals -------------------------------------------------------------------------------


def entry(path: str) -> Any:
    kind = "DIRECTORY" if path == "/" else "FILE"
    own = (("path", path), ("type", kind), ("size", 1), ("hash", PLAIN), ("generation", 1), ("copies", 1), ("live", 1))
    more = (("storages", (PLAIN,)), ("created", 1.0), ("modified", 1.0), ("uploader", PLAIN), ("source", PLAIN))
    folder = (("files", (PLAIN,)), ("entries", 1))
    return dict((*own, *more, ("elsewhere", ((PLAIN, PLAIN),)), ("unavailable", (PLAIN,)), *folder))


def packed(*paths: str) -> bytes:
    import orjson

    from goggles.contracts.packed import KEYS

    rows = [entry(path) for path in paths]
    kinds = [row["type"] for row in rows]
    tables = {
        row["type"]: {"same": {key: row[key] for key in KEYS[row["type"]] if key in row}, "columns": {}} for row in rows
    }
    return orjson.dumps({"count": len(rows), "order": kinds, **tables})


class Painter(Service):
    """A nameserver whose every word has something for the terminal in it."""

    @exposed(Role.CLIENT)
    def hello(self) -> Any:
        return (("site", PLAIN),)

    @exposed(Role.CLIENT)
    def scan(self, path: str, after: str, limit: int, packed: bool = False) -> Any:
        return _packed() if after else _packed("/a\u202egnp.exe")

    @exposed(Role.CLIENT)
    def stat_many(self, paths: tuple[str, ...], packed: bool = False) -> Any:
        return _packed(*paths)

    @exposed(Role.CLIENT)
    def isdir(self, path: str) -> bool:
        return path == "/"

    @exposed(Role.CLIENT)
    def isfile(self, path: str) -> bool:
        return True

    @exposed(Role.CLIENT)
    def listdir(self, path: str) -> Any:
        return (PLAIN,)

    @exposed(Role.CLIENT)
    def verify(self, path: str) -> Any:
        return ((PLAIN, PLAIN),)

    @exposed(Role.CLIENT)
    def site_info(self) -> Any:
        site = (("site", PLAIN), ("files", 1), ("directories", 1), ("size", 1), ("owed", 1), ("uploads", 0))
        sizes = (("free", 1), ("capacity", 1), ("used", 1), ("reserved", 1), ("files", 1), ("since", 1.0))
        words = (("name", PLAIN), ("addr", (PLAIN, 1)), ("state", PLAIN), ("zone", PLAIN), ("held_because", PLAIN))
        return (*site, ("orders", 0), ("epoch", 1), ("warnings", (PLAIN,))), ((*words, *sizes),)


_packed = packed


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command line of a shell at such a nameserver."""
    certificates = Certificates(tmp_path_factory.mktemp("certs"))
    contexts = Contexts(PkiFiles(certificates.ca, *certificates.files("nameserver", Role.NAMESERVER)))
    server = Server("127.0.0.1", 0, contexts, Doors(Painter, lambda who: Level.READWRITE))
    server.start()
    command = [sys.executable, "-m", "goggles.cli.client", "--ns_hostname", "localhost", "--ns_port", str(server.port)]
    yield [*command, *certificates.flags("ann", Role.CLIENT)]
    server.stop()


COMMANDS = ["ls", "ls -l", "ls -1", "ls -R", "tree", "find", "stat /x", "du", "nodes", "df", "verify /x", "ls *", "pwd"]
WRONG = ["mkdir /a", "rm /x", "evict /x", "get /x", "cat /x", "get-tasks", "no-such", 'ls "/\x1b[31m"', "put /none /"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_command_of_the_shell_steers_the_terminal(painted: list[str], tmp_path: Path, form: str) -> None:
    lines = [f"{line} --json" if form == "json" else line for line in (*COMMANDS, *WRONG)]
    options = [word for line in lines for word in ("-c", line)]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
    command = [*painted, "--timeout", "1", *options]
    ended = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=100, check=False)
    for said in (ended.stdout.decode(), ended.stderr.decode()):
        assert [line for line in said.split("\n") if not line.isprintable()] == []
        assert "Traceback" not in said
    if form == "json":
        assert json.loads(ended.stdout.decode().splitlines()[0])[0]["path"] == "/a\u202egnp.exe"


PLAIN_VALUES = st.text() | st.integers() | st.none()


@given(st.recursive(PLAIN_VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_printable_and_says_the_same(data: Any) -> None:
    text = render.as_json(data)
    assert text.isprintable()
    assert json.loads(text) == data


def test_planted_names_are_shown_safely_by_fsck(tmp_path: Path) -> None:
    with Cluster(tmp_path / "site", ("alice",), nameserver_flags=(*QUICK, "--copies", "1")) as site:
        with site.connect() as fs:
            fs.write("/x", b"x")
        site.wait_settled()
    (site.root("alice") / "planted\x1b[31m\nforged").write_bytes(b"x")
    command = [sys.executable, "-m", "goggles.cli.goggles", "fsck", "--database", site.database]
    command += [f"alice={site.root('alice')}"]
    ended = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": SOURCE}, check=False)
    assert b"planted" in ended.stdout
    assert only_printable(ended.stdout.decode())
