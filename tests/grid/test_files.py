"""Files and directories, through real processes and onto real disks."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from pathlib import Path

import pytest

from goggles.client.sending import Source, send
from goggles.client.session import Session
from goggles.contracts.data import Committed, WriteTicket
from goggles.contracts.records import FileInfo
from goggles.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    Stale,
)
from goggles.testing.cluster import Cluster, wait_until

MIB = 1 << 20
NAMES = [
    "with space",
    "naïve",
    "日本語",
    "🦆🧭",
    "-rf",
    "'quotes\"",
    "$HOME;ls",
    "%2e%2e",
    "a" * 255,
    "é" * 127,
    "\\back",
]


def content(fs: Session, path: str) -> bytes:
    return b"".join(fs.read(path))


def file_info(fs: Session, path: str) -> FileInfo:
    info = fs.stat(path)
    assert isinstance(info, FileInfo)
    return info


def holders(site: Cluster, path: str) -> list[str]:
    """The storages on whose disks the file stands."""
    return [name for name in site.names if (site.root(name) / path.lstrip("/")).is_file()]


# --- bytes in and out ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_537, 20 * MIB])
def test_what_was_put_is_got(site: Cluster, fs: Session, home: str, tmp_path: Path, size: int) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(size))
    fs.put(source, f"{home}/file")
    info = fs.get(f"{home}/file", back)
    assert back.read_bytes() == source.read_bytes()
    assert (info.size, info.hash) == (size, hashlib.sha256(source.read_bytes()).hexdigest())
    site.wait_settled()
    copies = holders(site, f"{home}/file")
    assert len(copies) == 2
    assert sorted(fs.locations(f"{home}/file")) == copies
    assert all((site.root(name) / home[1:] / "file").read_bytes() == source.read_bytes() for name in copies)


def test_one_file_is_told_of_in_the_same_way_wherever_it_is_asked_for(fs: Session, home: str) -> None:
    fs.mkdir(f"{home}/deep")
    for path in (f"{home}/first", f"{home}/deep/file"):
        fs.write(path, b"bytes")
        one = fs.stat(path)
        assert fs.stat_many([path, home])[0] == one and fs.stat(f"/{path}/".replace("/", "//")) == one
        assert [each for each in fs.ls(path.rpartition("/")[0]) if each.path == path] == [one]
        assert isinstance(one, FileInfo) and len(one.storages) == one.live == 2 and not one.elsewhere


def test_an_overwrite_replaces_the_bytes_and_raises_the_generation(site: Cluster, fs: Session, home: str) -> None:
    fs.write(f"{home}/file", b"old")
    first = file_info(fs, f"{home}/file")
    fs.write(f"{home}/file", b"newer")
    second = file_info(fs, f"{home}/file")
    assert content(fs, f"{home}/file") == b"newer"
    assert second.generation == first.generation + 1
    assert second.version != first.version
    site.wait_settled()
    assert len(holders(site, f"{home}/file")) == 2


def test_a_put_that_may_not_overwrite_leaves_the_old_bytes(fs: Session, home: str, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    fs.write(f"{home}/file", b"old")
    with pytest.raises(AlreadyExists):
        fs.put(tmp_path / "new", f"{home}/file", overwrite=False)
    assert content(fs, f"{home}/file") == b"old"


def test_a_removed_file_is_gone_from_the_tree_and_the_disks(site: Cluster, fs: Session, home: str) -> None:
    fs.write(f"{home}/file", b"x")
    fs.rm(f"{home}/file")
    assert not fs.exists(f"{home}/file")
    with pytest.raises(NotFound, match="file"):
        fs.read(f"{home}/file")
    with pytest.raises(NotFound):
        fs.rm(f"{home}/file")
    site.wait_settled()
    assert holders(site, f"{home}/file") == []


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_odd_names_are_names(site: Cluster, fs: Session, home: str, tmp_path: Path, name: str) -> None:
    fs.mkdir(f"{home}/{name}")
    fs.write(f"{home}/{name}/{name}", name.encode())
    assert fs.listdir(f"{home}/{name}") == [name]
    fs.get(f"{home}/{name}/{name}", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == name.encode()
    site.wait_settled()
    assert len(holders(site, f"{home}/{name}/{name}")) == 2


def test_a_file_object_seeks_and_reads_ranges(fs: Session, home: str) -> None:
    data = os.urandom(3 * MIB + 17)
    fs.write(f"{home}/file", data)
    with fs.open(f"{home}/file") as file:
        assert file.read(10) == data[:10]
        assert file.seek(2 * MIB - 5) == 2 * MIB - 5
        assert file.read(100) == data[2 * MIB - 5 : 2 * MIB + 95]
        assert file.seek(-7, os.SEEK_END) == len(data) - 7
        assert file.read() == data[-7:]
        assert file.read() == b""
    assert b"".join(fs.read(f"{home}/file", 1000, 50)) == data[1000:1050]
    assert b"".join(fs.read(f"{home}/file", len(data) + 1, 50)) == b""


def test_a_directory_goes_in_and_comes_out_with_all_that_is_in_it(fs: Session, home: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(120):
        folder = source / f"d{number % 7}" / "ü"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(os.urandom(number * 97))
    (source / "empty").mkdir()
    (source / "big").write_bytes(os.urandom(3 * MIB))
    summary = fs.put_tree(source, f"{home}/tree")
    assert (summary.files, list(summary.failed)) == (121, [])
    fs.get_tree(f"{home}/tree", tmp_path / "back")
    there = {p.relative_to(source): p.is_file() and p.read_bytes() for p in source.rglob("*")}
    back = {p.relative_to(tmp_path / "back"): p.is_file() and p.read_bytes() for p in (tmp_path / "back").rglob("*")}
    assert back == there
    fs.rmdir(f"{home}/tree", recursive=True)
    assert fs.ls(home) == []


# --- the tree --------------------------------------------------------------------------------


def test_mv_renames_a_file_on_the_disks(site: Cluster, fs: Session, home: str) -> None:
    fs.write(f"{home}/a", b"x")
    fs.mv(f"{home}/a", f"{home}/b")
    assert (fs.exists(f"{home}/a"), content(fs, f"{home}/b")) == (False, b"x")
    site.wait_settled()
    assert (len(holders(site, f"{home}/a")), len(holders(site, f"{home}/b"))) == (0, 2)


def test_mv_onto_a_file_replaces_it(site: Cluster, fs: Session, home: str) -> None:
    fs.write(f"{home}/a", b"a")
    fs.write(f"{home}/b", b"b")
    fs.mv(f"{home}/a", f"{home}/b")
    assert fs.listdir(home) == ["b"]
    assert content(fs, f"{home}/b") == b"a"
    site.wait_settled()
    for name in holders(site, f"{home}/b"):
        assert (site.root(name) / home[1:] / "b").read_bytes() == b"a"


def test_mv_of_a_directory_takes_everything_along(site: Cluster, fs: Session, home: str) -> None:
    fs.mkdir(f"{home}/a/deep/er", parents=True)
    fs.write(f"{home}/a/deep/er/file", b"x")
    fs.mv(f"{home}/a", f"{home}/b")
    assert content(fs, f"{home}/b/deep/er/file") == b"x"
    site.wait_settled()
    assert len(holders(site, f"{home}/b/deep/er/file")) == 2
    assert not any((site.root(name) / home[1:] / "a").exists() for name in site.names)


def test_mv_that_makes_no_sense_changes_nothing(fs: Session, home: str) -> None:
    fs.mkdir(f"{home}/dir/sub", parents=True)
    fs.write(f"{home}/file", b"x")
    for source, target in [("dir", "dir/sub/in"), ("file", "dir"), ("dir", "file"), ("file", "file/below")]:
        with pytest.raises((BadRequest, Conflict, IsADirectory, NotADirectory, AlreadyExists)):
            fs.mv(f"{home}/{source}", f"{home}/{target}")
    with pytest.raises(NotFound):
        fs.mv(f"{home}/none", f"{home}/other")
    with pytest.raises(NotFound):
        fs.mv(f"{home}/file", f"{home}/none/other")
    assert sorted(entry.path for entry in fs.find(home)) == [f"{home}/dir", f"{home}/dir/sub", f"{home}/file"]


def test_mkdir_with_and_without_the_directories_above(site: Cluster, fs: Session, home: str) -> None:
    with pytest.raises(NotFound):
        fs.mkdir(f"{home}/a/b/c")
    assert not fs.exists(f"{home}/a")
    fs.mkdir(f"{home}/a/b/c", parents=True)
    with pytest.raises(AlreadyExists):
        fs.mkdir(f"{home}/a/b/c")
    fs.mkdir(f"{home}/a/b/c", exist_ok=True)
    site.wait_settled()
    assert all((site.root(name) / home[1:] / "a/b/c").is_dir() for name in site.names)


def test_rmdir_takes_empty_directories_and_with_recursive_full_ones(site: Cluster, fs: Session, home: str) -> None:
    fs.mkdir(f"{home}/a/b", parents=True)
    fs.write(f"{home}/a/b/file", b"x")
    with pytest.raises(NotEmpty):
        fs.rmdir(f"{home}/a")
    assert content(fs, f"{home}/a/b/file") == b"x"
    fs.rmdir(f"{home}/a", recursive=True)
    fs.mkdir(f"{home}/a")
    fs.rmdir(f"{home}/a")
    assert fs.ls(home) == []
    site.wait_settled()
    assert not any((site.root(name) / home[1:] / "a").exists() for name in site.names)


def test_setrep_makes_and_removes_copies_on_the_disks(site: Cluster, fs: Session, home: str) -> None:
    path = f"{home}/file"
    fs.write(path, b"x" * 1000)
    for copies in (3, 1, 2):
        assert fs.setrep(path, copies) == 1
        wait_until(f"{copies} copies", lambda copies=copies: len(holders(site, path)) == copies, 10)  # type: ignore[misc]
        assert content(fs, path) == b"x" * 1000
    assert file_info(fs, path).copies == 2


def test_setrep_of_a_directory_holds_for_old_and_new_files(site: Cluster, fs: Session, home: str) -> None:
    fs.write(f"{home}/old", b"x")
    assert fs.setrep(home, 3) == 1
    fs.write(f"{home}/new", b"x")
    for name in ("old", "new"):
        wait_until(f"three copies of {name}", lambda name=name: len(holders(site, f"{home}/{name}")) == 3, 10)  # type: ignore[misc]


# --- at the same time, and twice -------------------------------------------------------------


def test_of_two_writers_one_whole_version_wins(site: Cluster, fs: Session, home: str) -> None:
    versions = [bytes([number]) * (2 * MIB + number) for number in range(2)]

    def write(data: bytes) -> None:
        with site.connect() as session:
            session.write(f"{home}/file", data)

    for _ in range(3):
        writers = [threading.Thread(target=write, args=(data,)) for data in versions]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert content(fs, f"{home}/file") in versions
    site.wait_settled()
    disks = {(site.root(name) / home[1:] / "file").read_bytes() for name in holders(site, f"{home}/file")}
    assert disks == {content(fs, f"{home}/file")}


def test_a_reader_during_overwrites_sees_whole_versions_only(
    site: Cluster, fs: Session, home: str, tmp_path: Path
) -> None:
    versions = [bytes([number]) * MIB for number in range(8)]
    fs.write(f"{home}/file", versions[0])
    done = threading.Event()

    def overwrite() -> None:
        with site.connect() as session:
            for data in versions * 2:
                session.write(f"{home}/file", data)
        done.set()

    writer = threading.Thread(target=overwrite)
    writer.start()
    seen: list[bytes] = []
    while not done.is_set() or not seen:
        fs.get(f"{home}/file", tmp_path / "back", overwrite=True)
        seen.append((tmp_path / "back").read_bytes())
    writer.join()
    assert all(data in versions for data in seen)


def upload(fs: Session, path: str, file: Path) -> tuple[str, int, str]:
    """Send a file, without the commit."""
    with Source(file) as source:
        ticket = WriteTicket.from_wire(fs._calls("open_write", path, source.size, 0, ()))
        sent = send(fs._links, ticket, source, lambda _: None, None)
    return ticket.upload, sent.size, sent.sha256


def test_an_upload_lands_in_the_directory_that_was_renamed_meanwhile(
    site: Cluster, fs: Session, home: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    fs.mkdir(f"{home}/before")
    sent = upload(fs, f"{home}/before/file", tmp_path / "file")
    fs.mv(f"{home}/before", f"{home}/after")
    committed = Committed.from_wire(fs._calls("commit", *sent))
    assert committed.path == f"{home}/after/file"
    assert content(fs, f"{home}/after/file") == b"x" * 1000
    site.wait_settled()
    assert len(holders(site, f"{home}/after/file")) == 2


def test_an_upload_whose_directory_was_removed_is_refused_and_leaves_nothing(
    site: Cluster, fs: Session, home: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    fs.mkdir(f"{home}/dir")
    sent = upload(fs, f"{home}/dir/file", tmp_path / "file")
    fs.rmdir(f"{home}/dir")
    with pytest.raises(Stale, match="removed"):
        fs._calls("commit", *sent)
    fs._calls("abandon", sent[0])
    assert fs.ls(home) == []


def test_a_commit_asked_twice_gets_the_same_answer(site: Cluster, fs: Session, home: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    sent = upload(fs, f"{home}/file", tmp_path / "file")
    first = fs._calls("commit", *sent)
    assert fs._calls("commit", *sent) == first
    assert file_info(fs, f"{home}/file").generation == 1


def test_a_change_asked_twice_under_one_request_id_happens_once(fs: Session, home: str) -> None:
    requests = [secrets.token_hex(16) for _ in range(4)]
    first = fs._calls("mkdir", f"{home}/dir", False, False, requests[0])
    assert fs._calls("mkdir", f"{home}/dir", False, False, requests[0]) == first
    fs.write(f"{home}/a", b"x")
    assert fs._calls("mv", f"{home}/a", f"{home}/b", requests[1]) == fs._calls(
        "mv", f"{home}/a", f"{home}/b", requests[1]
    )
    fs._calls("rm", f"{home}/b", requests[2])
    fs.write(f"{home}/b", b"new")
    fs._calls("rm", f"{home}/b", requests[2])
    assert content(fs, f"{home}/b") == b"new"
    fs._calls("rmdir", f"{home}/dir", False, requests[3])
    fs._calls("rmdir", f"{home}/dir", False, requests[3])
    assert fs.listdir(home) == ["b"]
