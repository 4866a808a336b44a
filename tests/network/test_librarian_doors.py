"""Searching, validating, stores, manifests, errors and tasks as a client meets them, at doors that are stand-ins."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from goggles import AdminClient, log
from goggles.cli import librarian
from goggles.exceptions import LibrarianHTTPError, LibrarianPartialError
from goggles.roles import Role
from goggles.testing.cluster import Cluster, Process

SECRET = "a password: with colons"


class FakeCluster(Cluster):
    """A site whose nameserver has the doors of fake_doors.py."""

    def _launch(
        self, name: str, flags: Sequence[str], environment: dict[str, str] | None, program: str = "nameserver"
    ) -> Process:
        if program != "nameserver":
            return super()._launch(name, flags, environment, program)
        command = [sys.executable, str(Path(__file__).with_name("fake_doors.py")), *flags]
        return Process(name, command, self.folder / f"{name}.log", {**self._environment, **(environment or {})})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with FakeCluster(tmp_path_factory.mktemp("doors"), ("alice",), nameserver_flags=["--copies", "1"]) as made:
        peer = made.dial("admin", Role.ADMIN)
        peer.call("create_user", "root", SECRET, "ADMIN")
        peer.close()
        yield made


@pytest.fixture
def files(site: Cluster) -> dict[str, str]:
    certificate, key = site.certificates.files("admin", Role.ADMIN)
    return {"ca_cert": str(site.certificates.ca), "certfile": str(certificate), "keyfile": str(key)}


@pytest.fixture
def client(site: Cluster, files: dict[str, str]) -> Iterator[AdminClient]:
    with AdminClient(host="localhost", port=site.port, user="root", password=SECRET, **files) as made:
        yield made


@pytest.fixture
def run(
    site: Cluster, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The program, in this process: (exit code, standard output, standard error)."""
    known = {"site": {"host": "localhost", "port": site.port, "user": "root", "password": SECRET, **files}}
    monkeypatch.setenv("LIBRARIAN_CLIENT_CONNECTIONS", json.dumps(known))
    monkeypatch.setattr(log, "setup", lambda *_, **__: None)  # it would write to a stream that ends with this test

    def run(*words: object) -> tuple[int, str, str]:
        code = librarian.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def asked(client: AdminClient, method: str) -> tuple[Any, ...]:
    return tuple(client.line.ask("asked", method))


# --- files -----------------------------------------------------------------------------------


def test_a_search_turns_the_pages_until_it_has_enough(client: AdminClient) -> None:
    found = client.search_files(max_results=4)
    assert [file.name for file in found] == [f"/found/{number}" for number in range(4)]
    assert len(client.search_files()) == 5
    file = found[0]
    assert (file.checksum, file.create_time.isoformat()) == ("sha256:::aa", "1970-01-02T00:00:00+00:00")
    assert (file.instances[0].storage, file.remote_instances[0].librarian) == ("alice", "central")


def test_a_search_says_what_is_looked_for(client: AdminClient) -> None:
    start = datetime.datetime.fromisoformat("2026-07-01")
    client.search_files("a/b", (start, None), "ann", "central", 3)
    query = dict(asked(client, "search_files")[-2])  # the last one but one: the first page
    assert query == {
        "name": "a/b",
        "create_time_start": start.replace(tzinfo=datetime.UTC).timestamp(),
        "create_time_end": None,
        "uploader": "ann",
        "source": "central",
        "max_results": 3,
        "after": 0,
    }


def test_search_files_on_the_command_line(run: Callable[..., tuple[int, str, str]], client: AdminClient) -> None:
    code, out, _ = run("search-files", "site", "-u", "ann", "--create-time-end", "2026-07-01T12:00:00Z")
    assert (code, out.count("/found/")) == (0, 5)
    assert "central:carol" in out
    assert dict(asked(client, "search_files")[-1])["create_time_end"] == 1_782_907_200.0
    code, out, err = run("search-files", "site", "-n", "/nothing")
    assert (code, out, err) == (1, "", "librarian: no file fits\n")
    code, out, err = run("search-files", "site", "--name", "/nothing", "--json")
    assert (code, json.loads(out)) == (1, [])
    code, out, err = run("search-files", "site", "--max-results", "1", "--json")
    assert json.loads(out)[0]["remote_instances"][0]["store"] == "carol"


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("bad", 1), ("none", 1)])
def test_validate_file_fails_where_a_copy_is_bad(
    run: Callable[..., tuple[int, str, str]], name: str, code: int
) -> None:
    assert run("validate-file", "site", f"/{name}")[0] == code
    assert run("validate-file", "site", name, "--json")[0] == code


def test_an_upload_says_that_it_may_be_deleted(
    run: Callable[..., tuple[int, str, str]], client: AdminClient, tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(b"1")
    assert run("upload", "site", tmp_path / "one", "/may/go", "--deletion", "allowed")[0] == 0
    assert run("upload", "site", tmp_path / "one", "/may/stay")[0] == 0
    assert asked(client, "set_deletion") == (("/may/go", True),)


def test_each_file_of_a_folder_may_be_deleted_and_no_other(client: AdminClient, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("one", "deep/two", "deep/three"):
        (tmp_path / name).write_bytes(name.encode())
    client.session.mkdir("/folder/deep", parents=True)
    client.session.write("/folder/deep/three", b"other bytes")
    client.session.write("/folder/deep/four", b"not of the folder")
    with pytest.raises(LibrarianPartialError):
        client.upload(tmp_path, "/folder", "allowed")
    told = [path for path, _ in asked(client, "set_deletion") if path.startswith("/folder")]
    assert sorted(told) == ["/folder/deep/two", "/folder/one"]


def test_evict_and_recall(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("evict", "site", "a/b", "--copies", "2", "--json")
    assert (code, json.loads(out)) == (0, {"path": "/a/b", "copies": 2})
    code, out, _ = run("recall", "site", "/a/b")
    assert (code, out) == (0, "/a/b: librarian central sends it\n")


# --- stores, errors, tasks -------------------------------------------------------------------


def test_stores_are_shown_and_switched(run: Callable[..., tuple[int, str, str]], client: AdminClient) -> None:
    code, out, _ = run("get-store-list", "site")
    assert (code, "1.0 GiB" in out, "alice" in out) == (0, True, True)
    assert run("set-store-state", "site", "--store=alice", "--disabled")[0] == 0
    assert asked(client, "set_store_state") == (("alice", False),)


def test_errors_are_searched_and_cleared(run: Callable[..., tuple[int, str, str]], client: AdminClient) -> None:
    line = ["-c", "transfer", "-s", "error", "--include-resolved", "--id", "7"]
    code, out, _ = run("search-errors", "site", *line)
    assert (code, "transfer" in out) == (0, True)
    assert "\x1b" not in out
    query = dict(asked(client, "search_errors")[-1])
    assert (query["id"], query["category"], query["severity"], query["include_resolved"]) == (
        7,
        "transfer",
        "error",
        True,
    )
    assert run("clear-error", "site", "7")[0] == 0
    code, _, err = run("clear-error", "site", "8")
    assert (code, "there is no error 8" in err) == (1, True)


def test_tasks_are_shown(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("tasks", "site")
    assert (code, "send_clone" in out) == (0, True)


def test_transfers_under_way_are_shown(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("transfers", "site")
    row = " ".join(out.splitlines()[1].split())
    assert (code, row) == (
        0,
        "far sent globus 4 of 9 1.0 KiB of 2.0 KiB 512 B/s 1970-01-02 00:00 task-7 QUOTA_EXCEEDED",
    )
    code, out, _ = run("transfers", "--json", "site")
    assert (code, json.loads(out)[0]["size_done"]) == (0, 1024)


def test_a_method_that_the_librarian_does_not_know(client: AdminClient) -> None:
    with pytest.raises(LibrarianHTTPError, match="knows no teleport") as caught:
        client.line.ask("teleport")
    assert caught.value.status_code == 501


# --- manifests -------------------------------------------------------------------------------


def test_a_manifest_is_written_whole(
    run: Callable[..., tuple[int, str, str]], client: AdminClient, tmp_path: Path
) -> None:
    output = tmp_path / "alice.json"
    flags = ["--destination-librarian", "central", "--disable-store", "--mark-instances-as-unavailable"]
    assert run("get-store-manifest", "site", "--store=alice", *flags, "--output", output)[0] == 0
    manifest = json.loads(output.read_text())
    assert (manifest["librarian_name"], manifest["store_name"]) == ("goggles", "alice")
    assert [entry["name"] for entry in manifest["store_files"]] == ["/0", "/1", "/2"]
    assert asked(client, "get_store_manifest")[-1] == ("alice", "central", True, True, 2)
    assert json.loads(run("get-store-manifest", "site", "--store=alice")[1]) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["alice.json"]


def entry(name: str, data: bytes, place: str = "", **more: Any) -> dict[str, Any]:
    made = {"name": name, "size": len(data), "checksum": f"sha256:::{hashlib.sha256(data).hexdigest()}"}
    return {**made, "uploader": "ann", "instance_path": place or f"/store{name}", "create_time": 1.0, **more}


def manifest(*entries: Any) -> dict[str, Any]:
    return {"librarian_name": "far_away", "store_name": "alice", "format": 1, "store_files": list(entries)}


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    root = tmp_path / "drive"
    (root / "store").mkdir(parents=True)
    return root


def place(drive: Path, name: str, data: bytes) -> dict[str, Any]:
    (drive / "store" / name).write_bytes(data)
    return entry(f"/{name}", data)


def test_a_manifest_is_ingested_once(
    run: Callable[..., tuple[int, str, str]], client: AdminClient, drive: Path, tmp_path: Path
) -> None:
    data = {f"in-{number}": os.urandom(1000 + number) for number in range(3)}
    done = {"files": 0, "bytes": 0, "already_there": 0, "remarks": ["somebody is not told"]}
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(manifest(*(place(drive, name, content) for name, content in data.items()))))
    code, out, _ = run("ingest-manifest", "site", "--manifest", file, "--store-root", drive, "--json")
    assert (code, json.loads(out)) == (0, {**done, "files": 3, "bytes": 3003})
    for name, content in data.items():
        assert b"".join(client.session.read(f"/{name}")) == content
    source, told = asked(client, "complete_manifest_entries")[-1]
    digests = {dict(one)["checksum"] for one in told}
    assert (source, digests) == ("far_away", {hashlib.sha256(content).hexdigest() for content in data.values()})
    code, out, err = run("ingest-manifest", "site", "--manifest", file, "--store-root", drive)
    assert (code, "0 files ingested" in out, "3 were here already" in out) == (0, True, True)
    assert err == "librarian: somebody is not told\n"
    for name in data:
        assert client.session.stat(f"/{name}").generation == 1


def test_what_was_brought_but_not_completed_is_completed(client: AdminClient, drive: Path) -> None:
    wanted = place(drive, "half", b"half way")
    client.session.write("/half", b"half way")
    assert client.ingest_manifest(manifest(wanted), drive).files == 1


def test_one_bad_entry_stops_no_other(client: AdminClient, drive: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (drive / "store" / "out").symlink_to(secret)
    (drive / "store" / "loop").symlink_to("loop")
    (drive / "store" / "folder").mkdir()
    os.mkfifo(drive / "store" / "fifo")
    client.session.write("/taken", b"something else")
    good, long = place(drive, "good", b"good"), place(drive, "longer", b"longer")
    bad = {
        "/up": (entry("/up", b"secret", "../secret"), "no plain path"),
        "/up2": (entry("/up2", b"secret", "store/../../secret"), "no plain path"),
        "/abs": (entry("/abs", b"secret", str(secret)), "can not be read"),
        "/out": (entry("/out", b"secret"), "leads out of"),
        "/loop": (entry("/loop", b"1"), "can not be read"),
        "/none": (entry("/none", b"1"), "can not be read"),
        "/folder": (entry("/folder", b""), "not a regular file"),
        "/fifo": (entry("/fifo", b""), "not a regular file"),
        "/longer": ({**long, "size": 3}, "the manifest says 3 bytes"),
        "/changed": (entry("/changed", b"good", "store/longer"), "the manifest says 4 bytes"),
        "/md5": (entry("/md5", b"1", checksum="0" * 32), "is no SHA-256"),
        "/refused": (place(drive, "refused", b"1"), "that is not for us"),
        "/incomplete": (place(drive, "incomplete", b"1"), "gone"),
        "/taken": (place(drive, "taken", b"1"), "with other content"),
        "/a/../b": (entry("/a/../b", b"good", "store/good"), "is not a name"),
        "/lists": (entry("/lists", b"1", uploader=[1]), "plain values"),
        "entry 17": ("text", "no entry"),
        "entry 18": ({"name": 7}, "name is missing"),
    }
    entries = [item for item, _ in bad.values()]
    bad = {"7" if name == "entry 18" else name: value for name, value in bad.items()}
    with pytest.raises(LibrarianPartialError) as caught:
        client.ingest_manifest(manifest(*entries, good), drive)
    failed = dict(caught.value.failed)
    assert caught.value.summary.files == 1
    assert set(failed) == set(bad)
    assert {name for name, (_, words) in bad.items() if words not in failed[name]} == set()
    assert client.session.exists("/good")
    assert not client.session.exists("/out")


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"librarian_name": "x"}'])
def test_what_is_no_manifest(
    run: Callable[..., tuple[int, str, str]], drive: Path, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(content)
    code, out, err = run("ingest-manifest", "site", "--manifest", file, "--store-root", drive)
    assert (code, out, err.count("\n")) == (1, "", 1)
