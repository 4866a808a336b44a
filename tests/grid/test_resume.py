"""Transfers that were interrupted go on where they were: by processes that are killed, over real connections."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from goggles.client.api import Progress
from goggles.client.session import Session
from goggles.errors import Cancelled, GogglesError
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster

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
