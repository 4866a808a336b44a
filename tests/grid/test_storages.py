"""Storages and nameservers that die, come back, fill up and go bad."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.errors import (
    BadPath,
    Cancelled,
    ChecksumMismatch,
    Conflict,
    GogglesError,
    NoSpace,
    NotFound,
    PermissionDenied,
    Stale,
    Unavailable,
)
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until

MIB = 1 << 20
QUICK = ("--grace", "1", "--heartbeat", "0.3")
Factory = Callable[..., Cluster]


def content(fs: Session, path: str) -> bytes:
    return b"".join(fs.read(path))


def holders(site: Cluster, path: str) -> list[str]:
    return [name for name in site.names if (site.root(name) / path.lstrip("/")).is_file()]


def fill(fs: Session, count: int = 20) -> dict[str, bytes]:
    """Files of a few sizes, by path."""
    files = {f"/d{number % 3}/file{number}": os.urandom(100 + 7_000 * number) for number in range(count)}
    fs.mkdirs([*{path.rpartition("/")[0] for path in files}])  # type: ignore[list-item]
    for path, data in files.items():
        fs.write(path, data)
    return files


def all_there(fs: Session, files: dict[str, bytes]) -> bool:
    return all(content(fs, path) == data for path, data in files.items())


def wait_state(site: Cluster, name: str, *states: str) -> None:
    wait_until(f"{name} {states}", lambda: site.states().get(name) in states, 20)


# --- a storage goes and comes back -----------------------------------------------------------


def test_a_killed_storage_is_made_up_for_and_trimmed_when_it_is_back(cluster: Factory) -> None:
    site = cluster()
    fs = site.connect()
    files = fill(fs)
    site.storages["alice"].kill()
    assert all_there(fs, files)
    wait_state(site, "alice", "down")
    site.wait_whole(20)
    both = {"bob", "carol"}
    wait_until("all are published", lambda: all(both <= set(holders(site, path)) for path in files), 10)
    site.start_storage("alice")
    site.wait_active(site.names)
    wait_until("surplus trimmed", lambda: sum(len(holders(site, path)) for path in files) == 2 * len(files), 20)
    assert all_there(fs, files)


def test_a_silent_storage_is_missed_read_around_and_taken_back(cluster: Factory) -> None:
    site = cluster()
    fs = site.connect()
    files = fill(fs, 6)
    site.storages["alice"].signal(signal.SIGSTOP)
    wait_state(site, "alice", "grace", "down")
    assert all_there(fs, files)
    site.wait_whole(20)
    site.storages["alice"].signal(signal.SIGCONT)
    site.wait_active(site.names, 20)
    assert all_there(fs, files)


def test_what_is_over_goes_though_the_storage_that_was_to_read_a_copy_died(cluster: Factory) -> None:
    site = cluster()
    fs = site.connect()
    fs.write("/file", b"bytes" * 100)
    fs.setrep("/file", 3)
    wait_until("three copies", lambda: len(holders(site, "/file")) == 3, 20)
    site.wait_settled(20)
    for process in site.storages.values():
        process.signal(signal.SIGSTOP)
    fs.setrep("/file", 2)
    wait_until("a copy that is to be read", lambda: fs.du()[0].reviews > 0, 5)
    for name in site.names:
        site.storages[name].kill()
        site.start_storage(name)
    wait_until("one copy less", lambda: len(holders(site, "/file")) == 2, 40)
    site.wait_settled(20)


def test_a_silent_nameserver_is_given_up_and_found_again(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = fill(fs, 3)
    assert site.nameserver is not None
    site.nameserver.signal(signal.SIGSTOP)
    try:
        for storage in site.storages.values():
            log = storage.log
            wait_until("the log", lambda log=log: "did not answer heartbeat within 10 s" in log.read_text("utf-8"), 20)
    finally:
        site.nameserver.signal(signal.SIGCONT)
    wait_until("the storages back", lambda: _readable(fs, files), 30)


def _readable(fs: Session, files: dict[str, bytes]) -> bool:
    try:
        return all_there(fs, files)
    except Unavailable:  # they are on their way
        return False


def test_a_storage_that_was_away_learns_of_everything_it_missed(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    fs.mkdir("/a/b", parents=True)
    fs.mkdir("/gone/below", parents=True)
    for path in ("/a/moved", "/a/b/inside", "/removed", "/overwritten", "/gone/below/file"):
        fs.write(path, path.encode())
    site.wait_settled(20)
    site.storages["alice"].kill()
    fs.mv("/a/moved", "/a/b/here")
    fs.mv("/a", "/z")
    fs.rm("/removed")
    fs.write("/overwritten", b"new bytes")
    fs.rmdir("/gone", recursive=True)
    fs.mkdir("/made/meanwhile", parents=True)
    fs.write("/made/file", b"made")
    site.start_storage("alice")
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    root = site.root("alice")
    assert {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".goggles" not in str(p)
    } == {
        "z/b/here": b"/a/moved",
        "z/b/inside": b"/a/b/inside",
        "overwritten": b"new bytes",
        "made/file": b"made",
    }
    assert (root / "made/meanwhile").is_dir()
    assert not (root / "gone").exists()


def test_a_storage_that_activates_is_given_owed_copies_at_once(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    site.storages["alice"].kill()
    wait_state(site, "alice", "grace", "down")
    fs.write("/file", b"x")
    wait_state(site, "alice", "down")
    site.start_storage("alice")
    site.wait_active(site.names, 20)
    wait_until("the copy made", lambda: len(holders(site, "/file")) == 2, 4)


def test_a_get_goes_on_elsewhere_when_its_storage_dies(cluster: Factory, tmp_path: Path) -> None:
    site = cluster()
    fs = site.connect()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(64 * MIB))
    fs.put(source, "/big")
    site.wait_settled(20)
    victims: list[str] = []
    (first, _) = holders(site, "/big")

    def progress(*_: object) -> None:
        if not victims:
            victims.append(first)
            site.storages[first].kill()

    info = fs.get("/big", tmp_path / "back", progress=progress)
    assert victims == [first]
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert info.size == 64 * MIB
    site.start_storage(first)


def test_a_reader_goes_on_with_the_same_version_or_not_at_all(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    data = os.urandom(24 * MIB)
    for path in ("/kept", "/replaced"):
        fs.write(path, data)
    site.wait_settled(20)
    readers = [fs.read("/kept"), fs.read("/replaced")]
    begun = [next(reader) for reader in readers]
    with fs.open("/kept") as file:
        assert file.read(1) == data[:1]
        for name in site.names:
            site.storages[name].kill()
            site.start_storage(name)
        wait_until("the storages back", lambda: _readable(fs, {"/kept": data}), 40)
        fs.write("/replaced", b"other bytes")
        assert begun[0] + b"".join(readers[0]) == data
        assert file.seek(20 * MIB) and file.read(100) == data[20 * MIB :][:100]
    with pytest.raises(Stale, match="replaced while it was read"):
        list(readers[1])


@pytest.mark.parametrize("seconds", [0.0, 3.0], ids=["early", "after-longer-than-it-is-patient"])
def test_a_put_goes_on_elsewhere_when_a_storage_dies(cluster: Factory, tmp_path: Path, seconds: float) -> None:
    site = cluster()
    fs = site.connect(timeout=2 if seconds else 30)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(32 * MIB))
    victims: list[str] = []

    def progress(*_: object) -> None:
        if not victims:
            time.sleep(seconds)  # a slow line
            staged = [n for n in site.names if any((site.root(n) / ".goggles/staging").iterdir())]
            victims.extend(staged[:1])
            for name in victims:
                site.storages[name].kill()

    fs.put(source, "/big", progress=progress)
    assert content(fs, "/big") == source.read_bytes()
    assert len(victims) == 1
    site.start_storage(victims[0])


def test_copies_are_put_in_different_zones(cluster: Factory) -> None:
    site = cluster("alice", "bob", "carol", started=False)
    site.start_nameserver()
    for name, zone in [("alice", "east"), ("bob", "east"), ("carol", "west")]:
        site.start_storage(name, ["--zone", zone])
    site.wait_active(site.names)
    fs = site.connect()
    files = fill(fs, 12)
    site.wait_settled(20)
    assert all("carol" in holders(site, path) and len(holders(site, path)) == 2 for path in files)


# --- room ------------------------------------------------------------------------------------


def test_a_full_site_says_so_and_rm_makes_room(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob", capacity=MIB)
    fs = site.connect(timeout=3)
    data = os.urandom(300_000)
    for number in range(3):
        fs.write(f"/file{number}", data)
    with pytest.raises(NoSpace) as error:
        fs.write("/file3", data)
    assert error.value.hint
    assert not fs.exists("/file3")
    fs.rm("/file0")
    fs.write("/file3", data)
    assert content(fs, "/file3") == data
    site.wait_settled(20)
    for name in site.names:
        used = sum(p.stat().st_size for p in site.root(name).glob("file*"))
        assert used == 900_000
    (tmp_path / "huge").write_bytes(b"")
    os.truncate(tmp_path / "huge", 2 * MIB)
    with pytest.raises(NoSpace):
        fs.put(tmp_path / "huge", "/huge")
    assert sorted(fs.listdir("/")) == ["file1", "file2", "file3"]


# --- the nameserver --------------------------------------------------------------------------


def test_everybody_comes_back_to_a_restarted_nameserver(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = fill(fs, 6)
    assert site.nameserver is not None
    site.nameserver.kill()
    site.start_nameserver()
    assert sorted(fs.listdir("/")) == ["d0", "d1", "d2"]
    site.wait_active(site.names, 20)
    assert all_there(fs, files)
    fs.write("/after", b"after")
    assert content(fs, "/after") == b"after"


def test_the_tree_can_be_used_with_no_storage_up(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    fs = site.connect(timeout=1)
    fs.mkdir("/dir")
    for name in ("a", "b"):
        fs.write(f"/dir/{name}", b"x")
    site.wait_settled(20)
    for process in site.storages.values():
        process.kill()
    for name in site.names:
        wait_state(site, name, "grace", "down")
    fs.mkdir("/new")
    fs.mv("/dir/a", "/new/a")
    fs.rm("/dir/b")
    assert [entry.path for entry in fs.find("/")] == ["/dir", "/new", "/new/a"]
    assert fs.du()[0].files == 1
    with pytest.raises(Unavailable) as error:
        fs.get("/new/a", tmp_path / "back")
    assert error.value.hint
    assert not (tmp_path / "back").exists()
    with pytest.raises(GogglesError) as refused:
        fs.write("/new/c", b"x")
    assert isinstance(refused.value, Unavailable | NoSpace)
    assert fs.listdir("/new") == ["a"]
    for name in site.names:
        site.start_storage(name)
    site.wait_active(site.names, 20)
    assert content(fs, "/new/a") == b"x"


def test_a_second_nameserver_on_one_database_is_refused(cluster: Factory) -> None:
    site = cluster("alice", started=False, tidily=False)
    site.start_nameserver()
    site.connect()
    command = [sys.executable, "-m", "goggles.cli.nameserver", "--port", "0", "--database", site.database]
    command += site.certificates.flags("nameserver", Role.NAMESERVER)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **site._environment}
    )
    assert done.returncode != 0
    assert "another nameserver" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_standby_takes_over(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = fill(fs, 4)
    first = site.nameserver
    assert first is not None
    standby = site.start_nameserver(["--standby"])
    first.kill()
    site.wait_active(site.names, 30)
    assert standby.running
    assert all_there(fs, files)


def test_an_exported_tree_comes_back_into_an_empty_database(cluster: Factory, tmp_path: Path) -> None:
    exported = tmp_path / "tree.json"
    site = cluster("alice", "bob", nameserver_flags=[*QUICK, "--treejson", str(exported)])
    fs = site.connect()
    files = fill(fs, 8)
    fs.mkdir("/empty")
    site.wait_settled(20)
    before = sorted((e.path, e.type, getattr(e, "hash", "")) for e in fs.find("/"))
    assert site.nameserver is not None
    assert site.nameserver.stop() == 0
    for process in site.storages.values():
        process.stop()
    assert exported.stat().st_size > 0
    site.database = str(tmp_path / "fresh.db")
    site.start()
    site.wait_settled(20)
    assert sorted((e.path, e.type, getattr(e, "hash", "")) for e in fs.find("/")) == before
    assert all_there(fs, files)
    assert all(len(holders(site, path)) == 2 for path in files)


# --- bad disks -------------------------------------------------------------------------------


def flip(file: Path) -> None:
    """Change one byte, and leave size and times as they were."""
    before = file.stat()
    with open(file, "r+b") as disk:
        disk.seek(before.st_size // 2)
        byte = disk.read(1)
        disk.seek(-1, os.SEEK_CUR)
        disk.write(bytes([byte[0] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_byte_is_read_around_reported_and_made_good(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob", "carol")
    fs = site.connect()
    data = os.urandom(3 * MIB)
    fs.write("/file", data)
    site.wait_settled(20)
    bad = holders(site, "/file")[0]
    flip(site.root(bad) / "file")

    def quarantined() -> bool:
        fs.get("/file", tmp_path / "back", overwrite=True)
        assert (tmp_path / "back").read_bytes() == data
        return any(p.is_file() for p in (site.root(bad) / ".goggles/quarantine").glob("*/**/*"))

    wait_until("the bad copy quarantined", quarantined, 20)
    wait_until("made anew", lambda: len(holders(site, "/file")) == 2, 20)
    assert all((site.root(name) / "file").read_bytes() == data for name in holders(site, "/file"))


def test_reading_a_whole_file_compares_its_digest_and_a_bad_copy_is_reported(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    data = os.urandom(3 * MIB)
    fs.write("/file", data)
    site.wait_settled(20)
    flip(site.root("bob") / "file")

    def caught() -> bool:
        try:
            assert b"".join(fs.read("/file")) == data, "wrong bytes were passed off as right"
        except ChecksumMismatch as error:
            assert "bob" in error.message
            return True
        return False

    wait_until("a read from the bad copy", caught, 20)
    wait_until("made good", lambda: dict(fs.verify("/file")) == {"alice": "good", "bob": "good"}, 20)


def test_verify_tells_the_bad_copy_from_the_good(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    fs.write("/file", b"x" * 100_000)
    site.wait_settled(20)
    assert dict(fs.verify("/file")) == {"alice": "good", "bob": "good"}
    flip(site.root("bob") / "file")
    assert dict(fs.verify("/file")) == {"alice": "good", "bob": "bad"}
    wait_until("made good", lambda: dict(fs.verify("/file")) == {"alice": "good", "bob": "good"}, 20)


def test_the_scrub_finds_a_bad_copy_that_nobody_reads_and_it_is_made_anew(cluster: Factory) -> None:
    site = cluster(storage_flags=("--scrub_days", "0.00003"))
    fs = site.connect()
    files = fill(fs, 9)
    site.wait_settled(20)
    path = "/d1/file7"
    bad = holders(site, path)[0]
    flip(site.root(bad) / path.lstrip("/"))

    def scrubbed() -> int:
        return sum(info.scrub_bad for info in fs.du()[1])

    def is_quarantined() -> bool:
        kept = [p for p in (site.root(bad) / ".goggles/quarantine").glob("*/**/*") if p.is_file()]
        return [p.read_bytes() != files[path] for p in kept if p.name == "file7"] == [True]

    wait_until("the bad copy quarantined", is_quarantined, 20)
    site.wait_settled(20)
    assert all((site.root(name) / path.lstrip("/")).read_bytes() == files[path] for name in holders(site, path))
    assert len(holders(site, path)) == 2
    ended = {info.name: info.scrub_ended for info in fs.du()[1]}
    wait_until("another round", lambda: all(i.scrub_ended > ended[i.name] > 0 for i in fs.du()[1]), 20)
    wait_until("all good", lambda: scrubbed() == 0, 20)
    assert all_there(fs, files)
    copies = sum(info.files for info in fs.du()[1])
    wait_until("every copy read", lambda: sum(info.scrub_files for info in fs.du()[1]) == copies, 20)


def test_a_scrub_goes_on_after_a_restart_and_switched_off_says_so(cluster: Factory) -> None:
    site = cluster("alice", started=False, nameserver_flags=(*QUICK, "--copies", "1"))
    site.start_nameserver()
    site.start_storage("alice", ["--scrub_days", "0"])
    site.wait_active(["alice"])
    fs = site.connect()
    for number in range(300):
        fs.write(f"/file{number}", b"x")
    site.storages["alice"].stop()
    site.start_storage("alice", ["--scrub_days", "0.00005", "--scrub_rate", "256K"])
    info = lambda: fs.du()[1][0]  # noqa: E731 - asked again and again
    wait_until("a round that is half done", lambda: info().scrub_files > 0 and info().scrub_ended == 0, 40)
    began, half = info().scrub_began, info().scrub_files
    site.storages["alice"].kill()
    site.start_storage("alice", ["--scrub_days", "1"])
    site.wait_active(["alice"], 20)
    wait_until("the round is done", lambda: info().scrub_ended > 0, 30)
    assert 0 < half < 300
    assert (info().scrub_began, info().scrub_files) == (began, 300)
    site.storages["alice"].stop()
    site.start_storage("alice", ["--scrub_days", "0"])
    wait_until("off", lambda: info().state == "active" and info().scrub_days == 0, 20)


def shell_on(site: Cluster, *commands: str) -> tuple[int, list[str], str]:
    """(exit code, lines of output, standard error) of vg as an administrator."""
    flags = site.certificates.flags("admin", Role.ADMIN)
    words = [word for command in commands for word in ("-c", command)]
    command = [sys.executable, "-m", "goggles.cli.client", "--ns_port", str(site.port), *flags, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_verify_of_everything_lists_what_is_not_good_and_says_so_in_its_exit_code(cluster: Factory) -> None:
    site = cluster()
    fs = site.connect()
    files = fill(fs, 30)
    site.wait_settled(20)
    code, out, err = shell_on(site, "verify --all --json")
    whole = {"path": "/", "files": 30, "copies": 60, "bytes": 2 * sum(map(len, files.values()))}
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out] == [{**whole, "bad": 0, "unread": 0, "lost": []}]
    bad = holders(site, "/d1/file10")[0]
    flip(site.root(bad) / "d1/file10")
    missing = holders(site, "/d2/file5")[0]
    (site.root(missing) / "d2/file5").unlink()
    code, out, err = shell_on(site, "verify --all --json")
    *found, summary = [json.loads(line) for line in out]
    assert (code, summary["bad"], summary["files"]) == (1, 2, 30)
    assert [(one["path"], sorted({word.split()[0] for word in one["copies"].values()})) for one in found] == [
        ("/d1/file10", ["bad", "good"]),
        ("/d2/file5", ["good", "missing:"]),
    ]
    assert "2 copies are bad" in err
    site.wait_settled(30)
    assert shell_on(site, "verify /d1 /d2/file5")[0] == 0
    assert all_there(fs, files)


def test_verify_goes_on_after_a_path(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = sorted(fill(fs, 12), key=lambda path: path.encode())
    site.wait_settled(20)
    walk = fs.verify_tree("/", after=files[3])
    assert [one.path for one in walk] == files[4:]
    assert walk.last == files[-1]
    assert [one.path for one in fs.verify_tree("/d1", after="/d1/file4")] == ["/d1/file7"]
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        list(fs.verify_tree("/", cancel=stop))


def test_copies_that_could_not_be_asked_are_told_but_are_not_bad(cluster: Factory) -> None:
    site = cluster("alice", "bob", nameserver_flags=("--grace", "60", "--heartbeat", "0.3"))
    fs = site.connect()
    fill(fs, 4)
    site.wait_settled(20)
    site.storages["bob"].kill()
    wait_state(site, "bob", "grace")
    code, out, _ = shell_on(site, "verify --all --json")
    assert (code, json.loads(out[-1])["unread"], json.loads(out[-1])["bad"]) == (0, 4, 0)
    site.storages["alice"].kill()
    wait_state(site, "alice", "grace")
    code, out, err = shell_on(site, "verify --all --json")
    assert (code, len(json.loads(out[-1])["lost"])) == (1, 4)
    assert "no good copy was found of 4 files" in err
    for name in site.names:
        site.start_storage(name)
    site.wait_active(site.names)


def test_repairs_of_a_storage_keep_to_their_rate_together(cluster: Factory) -> None:
    rate, count = 2 * MIB, 8
    site = cluster(nameserver_flags=(*QUICK, "--copies", "1", "--repair_rate", str(rate)))
    fs = site.connect()
    for name in ("alice", "bob"):
        fs.drain(name)
    for number in range(count):
        fs.write(f"/file{number}", os.urandom(2 * MIB))
    site.storages["carol"].signal(signal.SIGSTOP)
    wait_state(site, "carol", "grace", "down")
    fs.drain("alice", False)
    fs.setrep("/", 2)
    began = time.monotonic()
    site.storages["carol"].signal(signal.SIGCONT)
    site.wait_active(["alice", "carol"], 20)
    wait_until("all copied", lambda: len([n for n in range(count) if "alice" in holders(site, f"/file{n}")]) == count)
    ratio = count * 2 * MIB / (time.monotonic() - began) / rate
    print(f"{ratio:.2f} of --repair_rate")
    assert 0.4 < ratio < 1.15
    fs.drain("bob", False)


# --- a storage that is gone for good ---------------------------------------------------------


def test_a_storage_that_died_is_forgotten_and_its_name_used_again(cluster: Factory) -> None:
    site = cluster()
    fs = site.connect()
    files = fill(fs, 15)
    with pytest.raises(Conflict, match="is active"):
        fs.forget("carol")
    site.storages["carol"].kill()
    wait_state(site, "carol", "down")
    site.wait_whole(20)
    fs.forget("carol")
    assert sorted(site.states()) == ["alice", "bob"]
    site.wait_whole(20)
    assert all_there(fs, files)
    with pytest.raises(NotFound):
        fs.forget("carol")
    assert site.nameserver is not None
    site.nameserver.stop()
    site.start_nameserver()
    for name in ("alice", "bob"):
        wait_state(site, name, "active")
    assert sorted(site.states()) == ["alice", "bob"]
    shutil.rmtree(site.root("carol"))
    site.start_storage("carol")
    site.wait_active(site.names, 20)
    assert all_there(fs, files)
    fs.setrep("/", 3)
    site.wait_whole(30)
    wait_until("all are published", lambda: all(holders(site, path) == site.names for path in files), 10)


def test_the_only_copies_are_not_forgotten_by_accident_and_come_back_with_their_disk(cluster: Factory) -> None:
    site = cluster("alice", "bob", nameserver_flags=(*QUICK, "--copies", "1"), tidily=False)
    fs = site.connect()
    fs.drain("alice")
    files = fill(fs, 5)
    fs.drain("alice", False)
    site.storages["bob"].kill()
    wait_state(site, "bob", "grace", "down")
    with pytest.raises(Conflict, match="5 files have their only copy here on storage bob, among them /d"):
        fs.forget("bob")
    assert [name for path in files for name in fs.locations(path)] == ["bob"] * 5
    assert shell_on(site, "forget bob")[0] != 0
    code, out, _ = shell_on(site, "forget --lost --json bob")
    assert (code, json.loads(out[0])) == (0, {"storage": "bob", "copies": 5, "lost": 5, "elsewhere": 0})
    assert (sorted(site.states()), fs.du()[0].owed) == (["alice"], 5)
    assert [getattr(fs.stat(path), "held", "") for path in files] == ["nowhere"] * 5
    site.start_storage("bob")
    site.wait_active(["bob"], 20)
    wait_until("all files known again", lambda: fs.du()[0].owed == 0, 20)
    assert all_there(fs, files)


def test_a_forgotten_storage_that_comes_back_while_it_runs_tells_all_it_has(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = fill(fs, 5)
    site.wait_settled(20)
    site.storages["bob"].signal(signal.SIGSTOP)
    wait_state(site, "bob", "down")
    fs.forget("bob")
    site.storages["bob"].signal(signal.SIGCONT)
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    assert all(holders(site, path) == ["alice", "bob"] == sorted(fs.locations(path)) for path in files)


# --- quarantine ------------------------------------------------------------------------------


def test_what_is_in_quarantine_is_listed_fetched_and_restored_as_a_new_file(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    data = os.urandom(300_000)
    fs.mkdir("/d")
    fs.write("/d/file", data)
    site.wait_settled(20)
    flip(site.root("bob") / "d/file")
    bad = (site.root("bob") / "d/file").read_bytes()
    assert dict(fs.verify("/d/file"))["bob"] == "bad"
    site.wait_settled(20)
    code, out, _ = shell_on(site, "quarantine ls --json")
    (one,) = json.loads(out[0])
    assert (code, one["storage"], one["path"], one["size"]) == (0, "bob", "/d/file", 300_000)
    assert one["why"] == "its bytes have changed since they were written"
    back = tmp_path / "back"
    fetch, restore = (f"quarantine {action} bob {one['entry']}" for action in ("get", "restore"))
    assert shell_on(site, f"{fetch} {back}")[0] == 0
    assert back.read_bytes() == bad
    code, _, err = shell_on(site, f"{fetch} {back}")
    assert (code, "exists already" in err) == (1, True)
    code, _, err = shell_on(site, f"{restore} /d/file")
    assert (code, "exists already" in err, content(fs, "/d/file")) == (1, True, data)
    assert shell_on(site, f"{restore} /d/rescued")[0] == 0
    assert (content(fs, "/d/rescued"), content(fs, "/d/file")) == (bad, data)
    assert shell_on(site, f"{restore} -f /d/file", f"{fetch} -f {back}")[0] == 0
    assert content(fs, "/d/file") == bad
    with pytest.raises(NotFound):
        fs.get_quarantined("bob", "2000-01-01/nothing", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(BadPath):
        fs.get_quarantined("bob", "../site.json", tmp_path / "nothing")


def test_quarantine_is_for_administrators_alone(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice")
    user = site.connect("ann", Role.CLIENT)
    with pytest.raises(PermissionDenied):
        list(user.quarantine("alice"))
    with pytest.raises(PermissionDenied):
        user.get_quarantined("alice", "2000-01-01/x", tmp_path / "x")
    with pytest.raises(PermissionDenied):
        user.forget("alice", True)
