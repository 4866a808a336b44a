"""A process dies at each step that has a name and is not met in ordinary work (tests/chaos/test_failpoints.py): in a
self-check, among many small files, when copies are trimmed, storages drained or accepted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.points import ACCEPT, ELSEWHERE, FORGET, SELF_CHECK, TOGETHER, TRASH, TRIM, crash, points

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.errors import GogglesError, NotFound
from goggles.testing.cluster import Cluster, Process, wait_until
from goggles.testing.fsck import fsck

pytestmark = pytest.mark.slow
FLAGS = ["--grace", "30", "--heartbeat", "0.3", "--lease", "5"]
IN_A_SELF_CHECK = (
    *SELF_CHECK,
    "storage.move.before_rename",
    "storage.move.after_rename",
    "storage.publish.after_rename",
)
IN_A_BALANCE = ("nameserver.trim.before_order", "storage.publish.before_rename", "storage.publish.after_rename")
IN_A_DRAIN = (*TRIM, "storage.remove.before_unlink", "storage.remove.after_unlink")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with Cluster(folder, ("alice", "bob", "carol"), nameserver_flags=[*FLAGS, "--copies", "3"]) as cluster:
        yield cluster


def whole(cluster: Cluster, fs: Session, files: dict[str, bytes | None]) -> None:
    """At rest, with these contents (None: nothing there), and in order."""
    cluster.wait_active(cluster.names)
    cluster.wait_settled()
    assert {path for path, data in files.items() if content(fs, path) != data} == set()
    assert fsck(cluster.database, {name: cluster.root(name) for name in cluster.names}) == []


def content(fs: Session, path: str) -> bytes | None:
    try:
        return b"".join(fs.read(path))
    except NotFound:
        return None


def dead(process: Process) -> None:
    wait_until(f"the death of {process.name}", lambda: not process.running, 60)


def armed(cluster: Cluster, name: str, point: str, nth: int = 1) -> Process:
    """`name` again, to die at `point`; everybody is active."""
    if name == "nameserver":
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
    else:
        cluster.kill_storage(name)
    dying = start(cluster, name, crash(point, nth))
    cluster.wait_active(cluster.names)
    return dying


def start(cluster: Cluster, name: str, environment: dict[str, str] | None = None) -> Process:
    if name == "nameserver":
        return cluster.start_nameserver(environment=environment)
    return cluster.start_storage(name, environment=environment)


def test_every_point_that_is_named_is_there() -> None:
    assert sorted(ELSEWHERE - set(points())) == []


@pytest.mark.parametrize("point", IN_A_SELF_CHECK)
def test_a_self_check_that_is_cut_off_is_done_by_the_next_one(cluster: Cluster, point: str) -> None:
    home = "/check-" + point.replace(".", "-")
    files: dict[str, bytes | None] = {f"{home}/{name}": name.encode() * 500 for name in ("kept", "old", "gone", "over")}
    with cluster.connect() as fs:
        fs.mkdir(home)
        for path, data in files.items():
            fs.write(path, data or b"")
        cluster.wait_settled()
        missed = armed(cluster, "alice", "storage.publish.before_rename")
        fs.write(f"{home}/late", b"late")  # committed; its order to publish is lost on alice
        dead(missed)
        fs.mv(f"{home}/old", f"{home}/new")
        fs.rm(f"{home}/gone")
        fs.write(f"{home}/over", b"other")
        changed = {"late": b"late", "old": None, "new": files[f"{home}/old"], "gone": None, "over": b"other"}
        files |= {f"{home}/{name}": data for name, data in changed.items()}
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        environment = crash(point)
        in_nameserver = point.startswith("nameserver")
        nameserver = cluster.start_nameserver(environment=environment if in_nameserver else None)
        alice = cluster.start_storage("alice", environment=None if in_nameserver else environment)
        dead(nameserver if in_nameserver else alice)
        start(cluster, "nameserver" if in_nameserver else "alice")
        whole(cluster, fs, files)


@pytest.mark.parametrize("point", TOGETHER)
def test_small_files_that_are_put_together_are_there_or_put_again(cluster: Cluster, point: str, tmp_path: Path) -> None:
    home, local = "/" + point.replace(".", "-"), tmp_path / "local"
    local.mkdir()
    for number in range(30):
        (local / str(number)).write_bytes(os.urandom(900 + number))
    with cluster.connect() as fs:
        dying = armed(cluster, "alice", point, 2 if point.endswith("some_staged") else 1)
        reviver = threading.Thread(target=lambda: (dead(dying), start(cluster, "alice")))
        reviver.start()
        done = fs.put_tree(local, home)
        for path, _ in done.failed:
            assert content(fs, path) in (None, (local / Path(path).name).read_bytes())
        told = {path.name for path in local.iterdir()} - {Path(path).name for path, _ in done.failed}
        reviver.join()
        assert {name for name in told if content(fs, f"{home}/{name}") != (local / name).read_bytes()} == set()
        assert fs.put_tree(local, home).failed == []
        whole(cluster, fs, {f"{home}/{path.name}": path.read_bytes() for path in local.iterdir()})


@pytest.mark.parametrize("point", IN_A_DRAIN)
def test_a_drain_goes_on_and_the_last_copies_go_once_the_others_are_there(cluster: Cluster, point: str) -> None:
    home = "/drain-" + point.replace(".", "-")
    files: dict[str, bytes | None] = {f"{home}/{number}": os.urandom(3_000) for number in range(4)}
    with cluster.connect() as fs:
        fs.mkdir(home)
        for path, data in files.items():
            fs.write(path, data or b"")
            fs.setrep(path, 2)
        cluster.wait_settled()
        name = "nameserver" if point.startswith("nameserver") else "carol"
        dying = armed(cluster, name, point)
        fs.drain("carol")
        dead(dying)
        start(cluster, name)

        def drained() -> bool:
            return all("carol" not in info.storages for info in map(fs.stat, files) if isinstance(info, FileInfo))

        wait_until("carol empty of them", drained, 60)
        fs.drain("carol", on=False)
        whole(cluster, fs, files)


@pytest.mark.parametrize("point", TRIM)
def test_a_copy_too_many_is_trimmed_once(cluster: Cluster, point: str) -> None:
    with cluster.connect() as fs:
        fs.write("/trimmed", b"three copies, then two")
        cluster.wait_settled()
        dying = armed(cluster, "nameserver", point)
        fs.setrep("/trimmed", 2)
        dead(dying)
        cluster.start_nameserver()
        whole(cluster, fs, {"/trimmed": b"three copies, then two"})
        found = fs.stat("/trimmed")
        assert isinstance(found, FileInfo)
        assert len(found.storages) == 2


@pytest.mark.parametrize("point", TRASH)
def test_a_removed_directory_is_deleted_by_the_next_process(cluster: Cluster, point: str) -> None:
    with cluster.connect() as fs:
        fs.mkdir("/removed")
        fs.write("/removed/file", b"x" * 5_000)
        cluster.wait_settled()
        dying = armed(cluster, "alice", point)
        fs.rmdir("/removed", recursive=True)
        dead(dying)
        assert list((cluster.root("alice") / ".goggles/trash").iterdir())
        cluster.start_storage("alice")
        whole(cluster, fs, {"/removed/file": None})
        trash = cluster.root("alice") / ".goggles/trash"
        wait_until("an empty trash", lambda: list(trash.iterdir()) == [], 20)


@pytest.mark.parametrize("how", ["accept", "restoretree"])
@pytest.mark.parametrize("point", ACCEPT)
def test_a_storage_that_was_not_quite_accepted_is_held_again(tmp_path: Path, point: str, how: str) -> None:
    with Cluster(tmp_path, ("alice", "bob"), nameserver_flags=FLAGS) as cluster:
        folder = cluster.root("dave")
        folder.mkdir(parents=True)
        (folder / "found").write_bytes(b"was there before")
        cluster.start_storage("dave")
        wait_until("dave held", lambda: cluster.states().get("dave") == "held")
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        dying = cluster.start_nameserver(environment=crash(point))
        wait_until("dave held", lambda: cluster.states().get("dave") == "held")
        with cluster.connect(timeout=2) as fs, pytest.raises(GogglesError):
            getattr(fs, how)("dave")
        dead(dying)
        cluster.start_nameserver()
        wait_until("dave held", lambda: cluster.states().get("dave") == "held")
        assert (folder / "found").read_bytes() == b"was there before"
        cluster.names.append("dave")
        with cluster.connect() as fs:
            getattr(fs, how)("dave")
            whole(cluster, fs, {"/found": b"was there before" if how == "restoretree" else None})
        kept = [path.read_bytes() for path in (folder / ".goggles/quarantine").glob("*/found")]
        assert kept == ([] if how == "restoretree" else [b"was there before"])


@pytest.mark.parametrize("point", FORGET)
def test_a_storage_that_was_not_quite_forgotten_is_forgotten_by_the_next_command(tmp_path: Path, point: str) -> None:
    quick = ["--grace", "1", "--heartbeat", "0.3"]
    with Cluster(tmp_path, ("alice", "bob", "carol"), nameserver_flags=quick) as cluster:
        files: dict[str, bytes | None] = {f"/{number}": os.urandom(2_000) for number in range(12)}
        with cluster.connect() as fs:
            for path, data in files.items():
                fs.write(path, data or b"")
        cluster.wait_settled()
        cluster.storages.pop("carol").kill()
        cluster.names.remove("carol")
        wait_until("carol does not count any more", lambda: cluster.states().get("carol") == "down")
        assert cluster.nameserver is not None
        cluster.nameserver.kill()
        dying = cluster.start_nameserver(environment=crash(point))
        cluster.wait_active(cluster.names)
        with cluster.connect(timeout=2) as fs, pytest.raises(GogglesError):
            fs.forget("carol", True)
        dead(dying)
        cluster.start_nameserver()
        with cluster.connect() as fs:
            if point.endswith("after_take_out"):
                with pytest.raises(NotFound):
                    fs.forget("carol", True)
            else:
                fs.forget("carol", True)
            assert [info.name for info in fs.du()[1]] == ["alice", "bob"]
            whole(cluster, fs, files)
            assert all(copies(fs, path) == 2 for path in files)


@pytest.mark.parametrize("point", IN_A_BALANCE)
def test_a_balance_that_is_cut_off_leaves_each_file_its_copies(tmp_path: Path, point: str) -> None:
    """What is on its way comes to an end or is trimmed; balance goes on when it is asked for again."""
    with Cluster(tmp_path, ("alice", "bob"), capacity=32 << 20, nameserver_flags=FLAGS) as cluster:
        files: dict[str, bytes | None] = {f"/{number}": os.urandom(1 << 20) for number in range(9)}
        with cluster.connect() as fs:
            for path, data in files.items():
                fs.write(path, data or b"")
            cluster.names.append("carol")
            cluster.start_storage("carol")
            cluster.wait_active(cluster.names)
            cluster.wait_settled()
            name = "nameserver" if point.startswith("nameserver") else "carol"
            dying = armed(cluster, name, point, 2)
            fs.balance()
            dead(dying)
            start(cluster, name)
            whole(cluster, fs, files)
            if name == "nameserver":
                assert not fs.balance_state().running
                fs.balance()
            wait_until("balanced", lambda: not fs.balance_state().running, 60)
            whole(cluster, fs, files)
            assert all(copies(fs, path) == 2 for path in files)
            assert next(info.files for info in fs.du()[1] if info.name == "carol") >= 3


def copies(fs: Session, path: str) -> int:
    found = fs.stat(path)
    assert isinstance(found, FileInfo)
    return len(found.storages)
