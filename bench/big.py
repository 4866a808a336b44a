"""A tree of a million names, and a storage with a hundred thousand files: starting, checking, and working with them."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from rows import row
from sqlalchemy import insert, select, update
from stage import MIB, Stage, small_files

from goggles.client.session import Session
from goggles.meta.database import Database
from goggles.meta.tables import entries, instances, storages, totals
from goggles.storage import notes
from goggles.testing.cluster import Cluster

REST = 5.0  # seconds without a change, so that nothing is under way when the nameserver is stopped
IN_EACH = 1_000  # files of a directory
CONTENT = b"a hundred bytes or so of a small file, the same in each of them, because nobody reads them here.\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def _rows(connection: Any, parent: int, first: int, count: int, holder: int, prefix: str) -> Iterator[tuple[int, str]]:
    """Add `count` files in directories of their own below `parent`; yields (id of each file, its path)."""
    now, number = time.time(), first
    common = {"copies": 1, "created_at": now, "modified_at": now, "uploader": "bench", "source": "bench"}
    for start in range(0, count, IN_EACH):
        directory = {**common, "id": number, "parent_id": parent, "name": f"{prefix}{start // IN_EACH}", "kind": "d"}
        nothing = {"size": 0, "sha256": "", "generation": 0, "version": None}
        connection.execute(insert(entries), {**directory, **nothing, "copies": None})
        below, number = number, number + 1
        files = [
            {**common, "id": number + n, "parent_id": below, "name": f"{n:04}.dat", "kind": "f", "size": len(CONTENT)}
            | {"sha256": DIGEST, "generation": 1, "version": secrets.token_hex(16)}
            for n in range(IN_EACH)
        ]
        number += IN_EACH
        connection.execute(insert(entries), files)
        held = {"storage_id": holder, "size": len(CONTENT), "created_at": now, "verified_at": now}
        connection.execute(insert(instances), [{**held, "entry_id": file["id"]} for file in files])
        for file in files:
            yield file["id"], f"{directory['name']}/{file['name']} {file['version']}"


def _fill(where: str, count: int, holder: str, prefix: str) -> list[str]:
    """`count` files into the database of a site that is not running; "path version" of each."""
    database = Database.open(where)
    try:
        with database.write() as connection:
            found = connection.execute(select(storages.c.id).where(storages.c.name == holder)).scalar()
            if found is None:
                known = connection.execute(select(storages).limit(1)).mappings().one()
                found = known["id"] + 1_000
                connection.execute(
                    insert(storages), {**known, "id": found, "name": holder, "storage_id": secrets.token_hex(16)}
                )
            first = (connection.execute(select(entries.c.id).order_by(entries.c.id.desc()).limit(1)).scalar() or 0) + 1
            paths = [path for _, path in _rows(connection, 1, first, count, int(found), prefix)]
            more = {"files": totals.c.files + count, "directories": totals.c.directories + count // IN_EACH}
            connection.execute(update(totals).values(**more, size=totals.c.size + count * len(CONTENT)))
        return paths
    finally:
        database.close()


def tree(stage: Stage) -> None:
    """The nameserver with 10,000 and with 1,000,000 files; they lie on a storage that is away.

    The two take turns: a machine that becomes slower meanwhile is slower for both."""
    flags, source = ["--grace", "36000"], small_files(stage.folder / "source-big", 20)
    with (
        Cluster(stage.folder / "big", ("alice", "bob"), nameserver_flags=flags) as large,
        Cluster(stage.folder / "little", ("alice", "bob"), nameserver_flags=flags) as little,
    ):
        for cluster, count in ((little, 10_000), (large, 1_000_000)):
            _nameserver_stop(cluster)
            _fill(cluster.database, count, "away", "far")
            cluster.start_nameserver()
            cluster.wait_active(["alice", "bob"])
        with little.connect() as few, large.connect() as many:
            turns = [(_jobs(few, source, turn), _jobs(many, source, turn)) for turn in range(2 * stage.runs + 1)][1:]
        _nameserver_stop(little)
        start = [_restart(large) for _ in range(3)]
        resident = psutil.Process(_nameserver(large)).memory_info().rss / MIB
    stage.add(row("nameserver with 1,000,000 files: start to serving", "s", start, (2, 1), lower=True))
    stage.add(row("the same: resident memory", "MiB", [resident], (250, 150), lower=True))
    for work in turns[0][0]:
        slower = [there[work] / here[work] for here, there in turns]
        stage.add(row(f"{work}: 1,000,000 files against 10,000", "times slower", slower, (1.5, 1.1), lower=True))


def _nameserver(cluster: Cluster) -> int:
    assert cluster.nameserver is not None
    return cluster.nameserver.pid


def _jobs(fs: Session, source: Path, turn: int) -> dict[str, float]:
    """Seconds of each kind of work."""
    fs.mkdir(f"/small-{turn}")
    return {
        "stat": _seconds(lambda: [fs.stat(f"/far3/{k:04}.dat") for k in range(200)]),
        "put": _seconds(lambda: [fs.put(source / f"{k}.bin", f"/put-{turn}-{k}") for k in range(20)]),
        "ls of a small directory": _seconds(lambda: [fs.ls(f"/small-{turn}") for _ in range(200)]),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _restart(cluster: Cluster) -> float:
    """Seconds from the start of the program until it answers."""
    assert cluster.nameserver is not None
    cluster.nameserver.stop()
    began = time.perf_counter()
    cluster.start_nameserver()
    with cluster.connect() as fs:
        fs.stat("/")
    return time.perf_counter() - began


def check(stage: Stage) -> None:
    """A storage with 100,000 unchanged files: its self-check, and its return when only the nameserver was away."""
    count = 100_000
    with Cluster(stage.folder / "checked", ("alice",)) as cluster:
        cluster.storages["alice"].stop()
        _nameserver_stop(cluster)
        _plant(cluster.root("alice"), _fill(cluster.database, count, "alice", "d"))
        cluster.start_nameserver()
        checks = [_active(cluster, lambda: cluster.start_storage("alice"), stop=True) for _ in range(3)]
        cluster.wait_settled()
        back = [_active(cluster, cluster.start_nameserver, stop=False) for _ in range(3)]
    stage.add(row("self-check of a storage with 100,000 unchanged files", "s", checks, (15, 5), lower=True))
    stage.add(row("the same storage is back after a nameserver restart", "s", back, (3, 0.5), lower=True))


def _nameserver_stop(cluster: Cluster) -> None:
    assert cluster.nameserver is not None
    cluster.nameserver.stop()


def _active(cluster: Cluster, start: Any, *, stop: bool) -> float:
    """Seconds from the start of a program until the storage is active."""
    if stop:
        cluster.storages["alice"].stop()
    else:
        time.sleep(REST)
        _nameserver_stop(cluster)
    began = time.perf_counter()
    start()
    cluster.wait_active(["alice"], 120.0)
    return time.perf_counter() - began


def _plant(root: Path, files: list[str]) -> None:
    """The files as a storage would have written them."""
    for line in files:
        path, _, version = line.partition(" ")
        target = root / path
        target.parent.mkdir(exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, CONTENT)
        notes.write(descriptor, DIGEST, version, 1)
        os.close(descriptor)
