"""A storage whose host lost its power comes back to a nameserver that knows what it had answered for: after the
self-check tree and disk agree, and not a file is gone.

One storage, one copy of each file: nobody else could make good what is lost.  The storage runs in this process, where
its folder is recorded; the database is copied at the same moments."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.meta.tables import ROOT_ID
from goggles.roles import Role
from goggles.settings import StorageSettings
from goggles.storage.program import Storage
from goggles.testing import aftermath
from goggles.testing.cluster import Cluster, free_port
from goggles.testing.fsck import fsck
from goggles.testing.powercut import Recorder

pytestmark = pytest.mark.slow
FLAGS = ["--copies", "1", "--grace", "1", "--heartbeat", "0.3"]
PAUSE = 0.03  # seconds between two moments at which the power may go
Moment = tuple[int, Path]  # steps done, copy of the database


class Day:
    """A site with its one storage in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster(folder / "site", (), nameserver_flags=FLAGS)
        (folder / "disk").mkdir()
        self.recorder = Recorder(folder / "disk")
        self.moments: list[Moment] = []
        self._over = threading.Event()

    def run(self) -> None:
        self.cluster.start_nameserver()
        watcher = threading.Thread(target=self._watch)
        try:
            with self.recorder:
                storage = self._storage()
                storage.start()
                self.cluster.wait_active(["alice"])
                watcher.start()
                try:
                    with self.cluster.connect() as fs:
                        work(fs, self.folder)
                finally:
                    self._over.set()
                    watcher.join()
                    storage.stop()
        finally:
            self.cluster.stop()

    def _storage(self) -> Storage:
        certificate, key = self.cluster.certificates.files("alice", Role.STORAGE)
        return Storage(
            StorageSettings(
                name="alice",
                hostname="localhost",
                listen="127.0.0.1",
                port=free_port(),
                capacity=1 << 30,
                rootpath=self.folder / "disk/alice",
                ns_hostname="localhost",
                ns_port=self.cluster.port,
                ca_cert=self.cluster.certificates.ca,
                certfile=certificate,
                keyfile=key,
            )
        )

    def _watch(self) -> None:
        while not self._over.wait(PAUSE):
            copy = self.folder / f"{len(self.moments)}.db"
            with (
                self.recorder.paused() as steps,
                closing(sqlite3.connect(self.cluster.database)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            self.moments.append((steps, copy))


def work(fs: Session, folder: Path) -> None:
    """A bit of everything that moves bytes and names."""
    local = folder / "local"
    local.mkdir()
    for number in range(12):
        (local / str(number)).write_bytes(os.urandom(400 * number))
    for turn in ("a", "b"):
        fs.put_tree(local, f"/{turn}")
        fs.write(f"/{turn}/large", os.urandom(400_000))
        fs.write(f"/{turn}/large", os.urandom(300_000))
        fs.mkdir(f"/{turn}/sub")
        fs.mv(f"/{turn}/1", f"/{turn}/sub/one")
        fs.mv(f"/{turn}", f"/{turn}{turn}")
        fs.rm(f"/{turn}{turn}/2")
        fs.put_tree(local, f"/gone/{turn}")
        fs.rmdir("/gone", recursive=True)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    made = Day(tmp_path_factory.mktemp("day"))
    made.run()
    print(f"{len(made.recorder.steps)} steps, {len(made.moments)} moments")
    yield made


@pytest.mark.parametrize("seed", range(8))
def test_not_a_file_is_gone_and_tree_and_disk_agree_when_the_power_is_back(day: Day, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    steps, database = chance.choice(day.moments)
    with Cluster(tmp_path, (), nameserver_flags=FLAGS) as cluster:
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        for old in tmp_path.glob("goggles.db*"):
            old.unlink()
        (tmp_path / "goggles.db").write_bytes(database.read_bytes())
        (tmp_path / "storages").mkdir()
        aftermath.state_at(day.recorder, steps, chance).make(tmp_path / "storages")
        before = files(cluster.database)
        cluster.start_nameserver()
        cluster.names.append("alice")
        cluster.start_storage("alice")
        cluster.wait_active(["alice"])
        cluster.wait_settled()
        with cluster.connect() as fs:
            found = [entry for entry in fs.find("/") if isinstance(entry, FileInfo)]
            assert len(found) == before
            for entry in found:
                assert sum(map(len, fs.read(entry.path))) == entry.size
    assert fsck(cluster.database, {"alice": cluster.root("alice")}) == []


BELOW = f"""
    WITH RECURSIVE below(id) AS (
        VALUES ({ROOT_ID}) UNION ALL SELECT entries.id FROM entries JOIN below ON entries.parent_id = below.id
    )
    SELECT count(*) FROM entries JOIN below USING (id) WHERE kind = 'f'
"""


def files(database: str) -> int:
    """How many files the tree has, without those of removed directories that wait to be purged."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(BELOW).fetchone()[0])
