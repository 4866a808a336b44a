"""Transfers that were interrupted go on where they were: by processes that are killed, over real connections."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goggles.client.api import Progress
from goggles.client.session import Session
from goggles.errors import Cancelled, GogglesError, NoSpace
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, wait_until

Factory = Callable[..., Cluster]
QUICK = ("--grace", "1", "--heartbeat", "0.3")
MIB = 1 << 20
SIZE = 80 * MIB + 12_345
AT = 40 * MIB  # where transfers are interrupted
SLACK = 12 * MIB  # on their way at that moment, or read ahead
KILLED = """
import os, sys
from pathlib import Path
import goggles
host, port, ca, certificate, key, verb, source, target, at = sys.argv[1:]
fs = goggles.connect(host, int(port), ca_cert=ca, certfile=certificate, keyfile=key)
def progress(report):
    if report.done >= int(at):
        os.kill(os.getpid(), 9)
if verb == "get":
    fs.get(source, Path(target), overwrite=True, progress=progress)
else:
    fs.put(Path(source), target, progress=progress)
"""


def killed(site: Cluster, verb: str, source: object, target: object, at: int = AT) -> None:
    """A client that is killed with SIGKILL when it has moved `at` bytes."""
    files = [site.certificates.ca, *site.certificates.files("admin", Role.ADMIN)]
    words = ["localhost", site.port, *files, verb, source, target, at]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, words)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        check=False,
        timeout=60,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def moved(site: Cluster) -> int:
    """Bytes that the storages have read so far, from disks and connections."""
    total = 0
    for process in site.storages.values():
        found = re.search(r"^rchar: (\d+)$", Path(f"/proc/{process.pid}/io").read_text(), re.MULTILINE)
        assert found is not None
        total += int(found[1])
    return total


def until(at: int) -> tuple[threading.Event, object]:
    """An event that is set when a transfer has moved `at` bytes, and the report of progress that does it."""
    cancel = threading.Event()

    def progress(report: Progress) -> None:
        if report.done >= at:
            cancel.set()

    return cancel, progress


def partials(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# --- get -------------------------------------------------------------------------------------


@pytest.fixture
def large(fs: Session, home: str, tmp_path: Path) -> bytes:
    """The bytes of HOME/large."""
    data = os.urandom(SIZE)
    (tmp_path / "source").write_bytes(data)
    fs.put(tmp_path / "source", f"{home}/large")
    (tmp_path / "source").unlink()
    return data


def test_a_get_that_was_killed_goes_on_where_it_was(
    site: Cluster, fs: Session, home: str, tmp_path: Path, large: bytes
) -> None:
    killed(site, "get", f"{home}/large", tmp_path / "large")
    version = fs.stat(f"{home}/large").version  # type: ignore[union-attr]
    assert partials(tmp_path) == [f".large.{version}.partial"]
    assert not (tmp_path / "large").exists()
    before = moved(site)
    fs.get(f"{home}/large", tmp_path / "large")
    assert moved(site) - before < SIZE - AT + SLACK
    assert (tmp_path / "large").read_bytes() == large
    assert partials(tmp_path) == []


def test_a_get_that_was_cancelled_leaves_what_came_and_no_resume_does_not(
    fs: Session, home: str, tmp_path: Path, large: bytes
) -> None:
    for resume in (True, False):
        cancel, progress = until(AT)
        with pytest.raises(Cancelled):
            fs.get(f"{home}/large", tmp_path / "large", resume=resume, progress=progress, cancel=cancel)  # type: ignore[arg-type]
        assert len(partials(tmp_path)) == resume, "the second took away what the first left"


def test_what_was_left_is_not_believed(fs: Session, site: Cluster, home: str, tmp_path: Path, large: bytes) -> None:
    killed(site, "get", f"{home}/large", tmp_path / "large")
    with open(tmp_path / partials(tmp_path)[0], "r+b") as file:
        file.seek(5 * MIB)
        file.write(bytes([large[5 * MIB] ^ 1]))
    complaints: list[str] = []
    fs.complain = lambda ticket, storage: complaints.append(storage)  # type: ignore[method-assign]
    fs.get(f"{home}/large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == large
    assert complaints == [], "no storage is blamed for what was wrong here"
    assert partials(tmp_path) == []


def test_another_version_starts_over_and_takes_the_old_part_away(
    fs: Session, site: Cluster, home: str, tmp_path: Path, large: bytes
) -> None:
    killed(site, "get", f"{home}/large", tmp_path / "large")
    fs.write(f"{home}/large", b"small now")
    fs.get(f"{home}/large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == b"small now"
    assert partials(tmp_path) == []


def test_two_gets_of_one_file_at_once_do_not_share_a_part(
    fs: Session, site: Cluster, home: str, tmp_path: Path, large: bytes
) -> None:
    killed(site, "get", f"{home}/large", tmp_path / "large")
    errors: list[GogglesError] = []

    def get() -> None:
        try:
            fs.get(f"{home}/large", tmp_path / "large", overwrite=True)
        except GogglesError as error:
            errors.append(error)

    threads = [threading.Thread(target=get) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "large").read_bytes() == large
    assert partials(tmp_path) == []


def test_a_link_where_the_part_should_lie_is_not_followed(fs: Session, home: str, tmp_path: Path, large: bytes) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    version = fs.stat(f"{home}/large").version  # type: ignore[union-attr]
    (tmp_path / f".large.{version}.partial").symlink_to("precious")
    fs.get(f"{home}/large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == large
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_second_get_of_a_directory_leaves_what_is_the_same(fs: Session, home: str, tmp_path: Path) -> None:
    for name, data in {"one": b"1" * 100, "two": b"2" * 100, "larger": b"3" * 200_000}.items():
        fs.write(f"{home}/{name}", data)
    assert fs.get_tree(home, tmp_path / "d").same == 0
    (tmp_path / "d" / "one").unlink()
    (tmp_path / "d" / "two").write_bytes(b"x" * 100)
    again = fs.get_tree(home, tmp_path / "d")
    assert (again.files, again.same, again.bytes) == (2, 1, 100)
    assert [path for path, _ in again.failed] == [f"{home}/two"]
    assert (tmp_path / "d" / "two").read_bytes() == b"x" * 100
    over = fs.get_tree(home, tmp_path / "d", overwrite=True)
    assert (over.files, over.same, over.failed) == (3, 2, [])
    assert (tmp_path / "d" / "two").read_bytes() == b"2" * 100
    assert fs.get_tree(home, tmp_path / "d", overwrite=True, resume=False).same == 0


# --- put -------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


def content(fs: Session, path: str) -> bytes:
    return b"".join(fs.read(path))


def parts(site: Cluster) -> dict[str, int]:
    """What is staged of unfinished uploads: its size on each storage."""
    found: dict[str, int] = {}
    for name in site.names:
        for path in (site.root(name) / ".goggles/staging").glob("*.part"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found[name] = found.get(name, 0) + path.stat().st_size
    return found


def stopped(fs: Session, source: Path, path: str, at: int = AT, resume: bool = True) -> None:
    """A put that is cancelled when it has sent `at` bytes."""
    cancel, progress = until(at)
    with pytest.raises(Cancelled):
        fs.put(source, path, resume=resume, progress=progress, cancel=cancel)  # type: ignore[arg-type]


def sent(fs: Session, source: Path, path: str) -> int:
    """Bytes that a put had to send."""
    reports: list[int] = []
    fs.put(source, path, progress=lambda report: reports.append(report.done))
    steps = [0, *reports]
    return sum(after - before for before, after in itertools.pairwise(steps) if 0 < after - before <= MIB)


def test_a_put_that_was_killed_goes_on_where_it_was(site: Cluster, fs: Session, home: str, source: Path) -> None:
    killed(site, "put", source, f"{home}/file")
    assert not fs.exists(f"{home}/file")
    assert sent(fs, source, f"{home}/file") < SIZE - AT + SLACK
    assert content(fs, f"{home}/file") == source.read_bytes()
    site.wait_settled(20)
    assert parts(site) == {}


def test_a_put_that_was_cancelled_goes_on_unless_it_shall_not(
    site: Cluster, fs: Session, home: str, source: Path
) -> None:
    stopped(fs, source, f"{home}/file", resume=False)
    wait_until("nothing is left", lambda: parts(site) == {} and fs.du()[0].uploads == 0)
    stopped(fs, source, f"{home}/file")
    wait_until("two storages have a part", lambda: len(parts(site)) == 2 and fs.du()[0].uploads == 1)
    stopped(fs, source, f"{home}/file", at=AT + 20 * MIB)
    assert min(parts(site).values()) > AT + 20 * MIB - SLACK, "the second went on behind the first"
    before = parts(site)
    stopped(fs, source, f"{home}/file", at=MIB, resume=False)
    wait_until("nothing is left", lambda: parts(site) == {} and fs.du()[0].uploads == 0)
    assert before
    assert sent(fs, source, f"{home}/file") == SIZE


def test_what_a_storage_has_is_not_believed(site: Cluster, fs: Session, home: str, source: Path) -> None:
    """The first storage has other bytes: the put begins anew.  The second: it is left out, and gets its copy later."""
    stopped(fs, source, f"{home}/file")
    wait_until("two storages have a part", lambda: len(parts(site)) == 2)
    for name in site.names:
        for part in (site.root(name) / ".goggles/staging").glob("*.part"):
            with open(part, "r+b") as file:
                file.seek(5 * MIB)
                byte = file.read(1)[0]
                file.seek(5 * MIB)
                file.write(bytes([byte ^ 1]))
    fs.put(source, f"{home}/file")
    assert content(fs, f"{home}/file") == source.read_bytes()
    site.wait_settled(20)


@pytest.mark.parametrize("which", ["first", "second"])
def test_one_storage_with_wrong_bytes_spoils_nothing(
    site: Cluster, fs: Session, home: str, source: Path, which: str
) -> None:
    stopped(fs, source, f"{home}/file")
    wait_until("two storages have a part", lambda: len(parts(site)) == 2)
    name = sorted(parts(site))[which == "second"]
    (part,) = (site.root(name) / ".goggles/staging").glob("*.part")
    os.truncate(part, 0)
    os.truncate(part, AT)  # as after a power cut
    fs.put(source, f"{home}/file")
    assert content(fs, f"{home}/file") == source.read_bytes()
    site.wait_settled(20)
    assert sorted(fs.verify(f"{home}/file"), key=str)[0][1] == "good"


def test_a_source_that_changed_is_never_mixed(site: Cluster, fs: Session, home: str, source: Path) -> None:
    status = source.stat()
    stopped(fs, source, f"{home}/file")
    with open(source, "r+b") as file:
        file.seek(7 * MIB)
        file.write(b"changed")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))  # it looks the same
    fs.put(source, f"{home}/file")
    assert content(fs, f"{home}/file") == source.read_bytes()
    stopped(fs, source, f"{home}/file")
    source.write_bytes(os.urandom(SIZE))
    assert sent(fs, source, f"{home}/file") == SIZE, "what looks different is not even compared"
    assert content(fs, f"{home}/file") == source.read_bytes()
    for upload in fs_uploads(site):
        fs._calls("abandon", upload)


def fs_uploads(site: Cluster) -> set[str]:
    """The ids of unfinished uploads."""
    folders = [site.root(name) / ".goggles/staging" for name in site.names]
    return {path.stem for folder in folders for path in folder.glob("*.part")}


def test_two_puts_of_one_source_at_once_both_succeed(site: Cluster, fs: Session, home: str, source: Path) -> None:
    stopped(fs, source, f"{home}/file")
    errors: list[GogglesError] = []

    def put() -> None:
        try:
            with site.connect() as mine:
                mine.put(source, f"{home}/file")
        except GogglesError as error:
            errors.append(error)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert content(fs, f"{home}/file") == source.read_bytes()
    site.wait_settled(20)
    assert parts(site) == {}


def test_somebody_else_begins_anew(site: Cluster, fs: Session, home: str, source: Path) -> None:
    stopped(fs, source, f"{home}/file")
    other = site.connect("ann", Role.CLIENT)
    assert sent(other, source, f"{home}/file") == SIZE
    assert sent(fs, source, f"{home}/file") < SIZE
    site.wait_settled(20)


# --- put, with servers that come and go ------------------------------------------------------


def test_a_put_goes_on_after_its_storages_were_killed(cluster: Factory, source: Path) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    stopped(fs, source, "/file")
    wait_until("both have a part", lambda: len(parts(site)) == 2)
    for name in site.names:
        site.storages[name].kill()
    for name in site.names:
        site.start_storage(name)
    site.wait_active(site.names, 30)
    assert sent(fs, source, "/file") < SIZE - AT + SLACK
    assert content(fs, "/file") == source.read_bytes()


def test_a_put_begins_anew_after_a_restart_of_the_nameserver(cluster: Factory, source: Path) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    stopped(fs, source, "/file")
    assert site.nameserver is not None
    site.nameserver.stop()
    site.start_nameserver()
    site.wait_active(site.names, 30)
    assert sent(fs, source, "/file") == SIZE
    assert content(fs, "/file") == source.read_bytes()


def test_a_sender_that_fell_silent_is_taken_over_from(cluster: Factory, source: Path) -> None:
    """As when a cable is pulled: nobody hangs up."""
    site = cluster("alice", "bob")
    fs = site.connect()
    with silent_client(site, source, "/file"):
        assert sent(fs, source, "/file") < SIZE - AT + SLACK
    assert content(fs, "/file") == source.read_bytes()


@contextmanager
def silent_client(site: Cluster, source: Path, target: str) -> Iterator[None]:
    """A client that was stopped in the middle of a put, with its connections open."""
    files = [site.certificates.ca, *site.certificates.files("admin", Role.ADMIN)]
    words = ["localhost", site.port, *files, "put", source, target, AT]
    code = KILLED.replace("os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 19)")
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env={**os.environ, "PYTHONPATH": SOURCE})
    try:
        os.waitpid(process.pid, os.WUNTRACED)
        yield
    finally:
        process.kill()
        process.wait()


def test_an_upload_that_nobody_comes_back_for_is_dropped(cluster: Factory, source: Path) -> None:
    flags = [*QUICK, "--lease", "1", "--resumable", "3"]
    site = cluster("alice", "bob", nameserver_flags=flags)
    fs = site.connect()
    stopped(fs, source, "/file")
    wait_until("both have a part", lambda: len(parts(site)) == 2)
    began = time.monotonic()
    wait_until("it is dropped", lambda: parts(site) == {} and fs.du()[0].uploads == 0, 20)
    assert time.monotonic() - began > 3, "not with its lease"


def test_kept_uploads_are_in_nobodys_way(cluster: Factory, source: Path) -> None:
    """There is room for one file only: it goes to who puts, not to what was left."""
    site = cluster("alice", capacity=SIZE + 40 * MIB, nameserver_flags=[*QUICK, "--copies", "1", "--lease", "1"])
    fs = site.connect()
    stopped(fs, source, "/left")
    wait_until("a part is left", lambda: len(parts(site)) == 1)
    other = site.connect("ann", Role.CLIENT)

    def done() -> bool:
        try:
            other.put(source, "/file")
        except NoSpace:
            return False
        return True

    wait_until("the lease of what was left is over", done, 20)
    assert content(fs, "/file") == source.read_bytes()
    assert fs.du()[0].uploads == 0
