"""A process dies at each step that has a name and is met in ordinary work; what was acknowledged holds, and tree and
disks agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from tests.chaos.points import crash, ordinary

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.errors import NotFound, Unavailable, UploadLost
from goggles.testing.cluster import Cluster, Process
from goggles.testing.fsck import fsck

STORAGES = ("alice", "bob")
FLAGS = ["--grace", "2", "--heartbeat", "0.3", "--lease", "5"]
AT = {"nameserver.decide.before_commit": 45, "nameserver.decide.after_commit": 45, "nameserver.commit.before_orders": 3}
AT |= {"storage.settle.before_fsync": 20}
Wanted = dict[str, set[bytes | None]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("points"), STORAGES, nameserver_flags=FLAGS) as cluster:
        yield cluster


def attempt(wanted: Wanted, after: dict[str, bytes | None], call: Callable[[], object]) -> None:
    """Make `call`; where its outcome is unknown, both before and `after` are allowed."""
    try:
        call()
    except (Unavailable, UploadLost):
        for path, value in after.items():
            wanted[path] = wanted[path] | {value}
    else:
        wanted.update({path: {value} for path, value in after.items()})


def work(fs: Session, home: str) -> Wanted:
    """Put, overwrite, rename, remove; what each file may hold afterwards (None: not there)."""
    wanted: Wanted = {f"{home}/{n}": {None} for n in ("a", "b", "c", "d")}
    for round_ in range(6):
        first, second = f"first {round_}".encode() * 999, f"second {round_}".encode()
        attempt(wanted, {f"{home}/a": first}, partial(fs.write, f"{home}/a", first))
        attempt(wanted, {f"{home}/a": second}, partial(fs.write, f"{home}/a", second))
        attempt(wanted, {f"{home}/c": first}, partial(fs.write, f"{home}/c", first))
        if wanted[f"{home}/a"] == {second}:
            attempt(wanted, {f"{home}/a": None, f"{home}/b": second}, lambda: fs.mv(f"{home}/a", f"{home}/b"))
        if wanted[f"{home}/c"] == {first}:
            attempt(wanted, {f"{home}/c": None}, lambda: fs.rm(f"{home}/c"))
        large = first * 200  # not for `together`
        attempt(wanted, {f"{home}/d": large}, partial(fs.write, f"{home}/d", large))
    return wanted


def restart(cluster: Cluster, point: str) -> Process:
    """Start what comes by `point` again, to die there."""
    environment = crash(point, AT.get(point, 2))
    if point.startswith("nameserver"):
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        dying = cluster.start_nameserver(environment=environment)
    else:
        cluster.kill_storage("alice")
        dying = cluster.start_storage("alice", environment=environment)
    cluster.wait_active(STORAGES)
    return dying


def revived(cluster: Cluster, process: Process) -> threading.Thread:
    """A thread that starts `process` again, unarmed, once it is dead."""

    def revive() -> None:
        process.wait(60)
        start(cluster, process.name)

    thread = threading.Thread(target=revive)
    thread.start()
    return thread


def start(cluster: Cluster, name: str) -> None:
    if name == "nameserver":
        cluster.start_nameserver()
    else:
        cluster.start_storage(name)


def content(fs: Session, path: str) -> bytes | None:
    try:
        return b"".join(fs.read(path))
    except NotFound:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("point", ordinary())
def test_promises_hold_where_a_process_dies_at(point: str, cluster: Cluster) -> None:
    home = "/" + point.replace(".", "-")
    with cluster.connect(timeout=20) as fs:
        fs.mkdir(home)
        process = restart(cluster, point)
        reviver = revived(cluster, process)
        wanted = work(fs, home)
        died = not process.running
        process.kill()
        reviver.join()
        assert died, f"nothing came by {point}"
        cluster.wait_active(STORAGES)
        cluster.wait_settled()
        found = {path: content(fs, path) for path in wanted}
        assert not {path: value for path, value in found.items() if value not in wanted[path]}
        generations = [entry.generation for entry in fs.ls(home) if isinstance(entry, FileInfo)]
        assert all(generation > 0 for generation in generations)
    assert fsck(cluster.database, {name: cluster.root(name) for name in STORAGES}) == []
