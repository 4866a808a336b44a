"""The nameserver dies between a commit and its answer: the caller asks again and gets the first answer.

Each kind of call is made many times in a row, and the nameserver dies after one of these commits; so every call
must come back as done, and what the calls together did must be there once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.contracts.data import Committed
from goggles.contracts.records import FileInfo
from goggles.errors import Unavailable
from goggles.testing.cluster import Cluster
from goggles.testing.fsck import fsck

STORAGES = ("alice", "bob")
FLAGS = ["--grace", "3", "--heartbeat", "0.5"]
AFTER_COMMIT = "nameserver.decide.after_commit"
CALLS = 60
DIES_AT = 60  # decisions after its start; coming up takes it fewer than that, coming up and CALLS calls more


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("lost"), STORAGES, nameserver_flags=FLAGS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fs(cluster: Cluster) -> Session:
    return cluster.connect(timeout=60)


@contextmanager
def dying(cluster: Cluster, armed: str) -> Iterator[None]:
    """A nameserver that dies within the block as `armed` says, and is started again at once."""
    assert cluster.nameserver is not None
    cluster.nameserver.kill()
    process = cluster.start_nameserver(environment={"GOGGLES_FAILPOINTS": armed})

    def revive() -> None:
        process.wait(60)
        cluster.start_nameserver()

    reviver = threading.Thread(target=revive)
    reviver.start()
    try:
        yield
        assert not process.running, "it did not die in the block: no answer was lost"
    finally:
        process.kill()
        reviver.join()


def put_when_possible(cluster: Cluster, fs: Session, local: Path, path: str) -> Committed:
    """A nameserver that has just come up refuses while no storage is back; a refusal changes nothing."""
    while True:
        try:
            return fs.put(local, path)
        except Unavailable as error:
            assert "no storage takes files" in error.message
            cluster.wait_active(STORAGES)


def test_a_directory_is_made_once(cluster: Cluster, fs: Session) -> None:
    fs.mkdir("/made")
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.mkdir(f"/made/{number:03}")
    assert fs.listdir("/made") == [f"{number:03}" for number in range(CALLS)]


def test_a_file_is_removed_once(cluster: Cluster, fs: Session) -> None:
    fs.mkdir("/removed")
    cluster.wait_active(STORAGES)
    for number in range(CALLS):
        fs.write(f"/removed/{number:03}", b"gone soon")
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.rm(f"/removed/{number:03}")
    assert fs.listdir("/removed") == []


def test_a_file_is_renamed_once(cluster: Cluster, fs: Session) -> None:
    fs.mkdir("/renamed")
    cluster.wait_active(STORAGES)
    fs.write("/renamed/000", b"on the way")
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.mv(f"/renamed/{number:03}", f"/renamed/{number + 1:03}")
    assert fs.listdir("/renamed") == [f"{CALLS:03}"]
    cluster.wait_active(STORAGES)
    assert b"".join(fs.read(f"/renamed/{CALLS:03}")) == b"on the way"


def test_a_directory_is_removed_once(cluster: Cluster, fs: Session) -> None:
    for number in range(CALLS):
        fs.mkdir(f"/trees/{number:03}/below", parents=True)
    with dying(cluster, f"{AFTER_COMMIT}=crash@{DIES_AT}"):
        for number in range(CALLS):
            fs.rmdir(f"/trees/{number:03}", recursive=True)
    assert fs.listdir("/trees") == []


def test_a_file_is_written_once(cluster: Cluster, fs: Session, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.write_bytes(b"first")
    with dying(cluster, "nameserver.commit.before_orders=crash@3"):
        for number in range(1, 10):
            answer = put_when_possible(cluster, fs, local, "/written")
            assert answer.generation == number, "an upload whose answer was lost was not made again"
    info = fs.stat("/written")
    assert isinstance(info, FileInfo)
    assert info.generation == 9
    cluster.wait_active(STORAGES)
    assert b"".join(fs.read("/written")) == b"first"


def test_tree_and_disks_agree_after_all_that(cluster: Cluster) -> None:
    cluster.wait_active(STORAGES)
    cluster.wait_settled()
    assert fsck(cluster.database, {name: cluster.root(name) for name in STORAGES}) == []
