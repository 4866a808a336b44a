"""Storages that come back: without a look at their files where they missed nothing, with one where they may have."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.fsck import fsck

NAMES = ("alice", "bob")
HEARTBEAT = 0.3
QUICK, WHOLE = "nothing has changed since it was here", "self-check begins"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, NAMES, nameserver_flags=["--heartbeat", str(HEARTBEAT)])


def fill(fs: Session, count: int = 5) -> None:
    fs.mkdir("/files")
    for number in range(count):
        fs.write(f"/files/{number}", b"%d" % number)


def rest(cluster: Cluster) -> None:
    """Until each storage has heard that it has carried out all there was."""
    cluster.wait_settled()
    time.sleep(6 * HEARTBEAT)


def kill_nameserver(cluster: Cluster) -> None:
    assert cluster.nameserver is not None
    cluster.nameserver.kill()


def came(cluster: Cluster, name: str = "") -> list[str]:
    """How each return (of one storage) is told in the log of the nameserver, in their order."""
    assert cluster.nameserver is not None
    lines = [line for line in cluster.nameserver.log.read_text().splitlines() if f"storage {name}" in line]
    return [word for line in lines for word in (QUICK, WHOLE) if line.endswith(word)]


def agree(cluster: Cluster) -> None:
    """Database and disks."""
    cluster.wait_settled()
    cluster.stop()
    found = fsck(cluster.database, {name: cluster.root(name) for name in NAMES})
    assert not found, found


def test_after_a_restart_of_the_nameserver_at_rest_no_file_is_looked_at(cluster: Cluster):
    with cluster:
        fill(cluster.connect())
        rest(cluster)
        kill_nameserver(cluster)
        cluster.start_nameserver()
        cluster.wait_active(NAMES)
        assert came(cluster) == [WHOLE, WHOLE, QUICK, QUICK]
        fs = cluster.connect()
        assert [b"".join(fs.read(f"/files/{number}")) for number in range(5)] == [b"%d" % n for n in range(5)]
        fs.write("/files/more", b"more")
        fs.rm("/files/0")
        agree(cluster)


@pytest.mark.parametrize("change", ["rm", "mv", "put", "rmdir"])
def test_a_change_that_was_not_carried_out_when_the_nameserver_died_is_found(cluster: Cluster, change: str):
    with cluster:
        fs = cluster.connect()
        fill(fs)
        rest(cluster)
        for name in NAMES:
            cluster.storages[name].signal(signal.SIGSTOP)  # what is decided now can not be carried out
        if change == "rm":
            fs.rm("/files/1")
        elif change == "mv":
            fs.mv("/files/1", "/files/one")
        elif change == "rmdir":
            fs.rmdir("/files", recursive=True)
        else:
            fs.mkdir("/fresh")
        kill_nameserver(cluster)
        for name in NAMES:
            cluster.storages[name].signal(signal.SIGCONT)
        cluster.start_nameserver()
        cluster.wait_active(NAMES)
        assert came(cluster) == [WHOLE] * 4
        agree(cluster)


@pytest.mark.parametrize("directory", [True, False])
def test_a_storage_that_was_away_while_something_was_renamed_looks_at_its_files(cluster: Cluster, directory: bool):
    with cluster:
        fs = cluster.connect()
        fill(fs)
        rest(cluster)
        cluster.storages["bob"].signal(signal.SIGSTOP)
        wait_until("bob is missed", lambda: cluster.states().get("bob") == "grace")
        fs.mv(*("/files", "/other") if directory else ("/files/1", "/files/one"))
        cluster.storages["bob"].signal(signal.SIGCONT)
        cluster.wait_active(NAMES)
        assert came(cluster, "bob") == [WHOLE, WHOLE]
        agree(cluster)


def test_a_storage_that_was_away_while_nothing_happened_is_back_at_once(cluster: Cluster):
    with cluster:
        fill(cluster.connect())
        rest(cluster)
        cluster.storages["bob"].signal(signal.SIGSTOP)
        wait_until("bob is missed", lambda: cluster.states().get("bob") == "grace")
        cluster.storages["bob"].signal(signal.SIGCONT)
        cluster.wait_active(NAMES)
        assert came(cluster, "bob") == [WHOLE, QUICK]
        agree(cluster)


def test_a_storage_that_was_started_anew_looks_at_its_files(cluster: Cluster):
    with cluster:
        fill(cluster.connect())
        rest(cluster)
        cluster.storages["bob"].stop()
        cluster.start_storage("bob")
        cluster.wait_active(NAMES)
        assert came(cluster, "bob") == [WHOLE, WHOLE]


def test_with_an_older_database_they_look_at_their_files(cluster: Cluster, tmp_path: Path):
    with cluster:
        fs = cluster.connect()
        fill(fs)
        rest(cluster)
        kill_nameserver(cluster)
        kept = [Path(f"{cluster.database}{end}") for end in ("", "-wal", "-shm")]
        for path in kept:
            shutil.copy(path, tmp_path / f"kept{path.name}")
        cluster.start_nameserver()
        cluster.wait_active(NAMES)
        fs.rm("/files/1")
        rest(cluster)
        kill_nameserver(cluster)
        for path in kept:
            shutil.copy(tmp_path / f"kept{path.name}", path)
        cluster.start_nameserver()
        cluster.wait_active(NAMES)
        assert came(cluster) == [WHOLE, WHOLE, QUICK, QUICK, WHOLE, WHOLE]
        assert [entry.live for entry in fs.ls("/files")] == [2, 0, 2, 2, 2]  # type: ignore[union-attr]


def test_uploads_that_the_nameserver_forgot_are_not_left_behind(cluster: Cluster):
    with cluster:
        fill(cluster.connect())
        rest(cluster)
        kill_nameserver(cluster)
        left = cluster.root("alice") / ".goggles" / "staging" / ("a" * 32 + ".part")
        left.write_bytes(b"half of an upload")
        cluster.start_nameserver()
        cluster.wait_active(NAMES)
        assert came(cluster)[2:] == [QUICK, QUICK]
        wait_until("it is gone", lambda: not left.exists())
