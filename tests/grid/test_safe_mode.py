"""A tree that knows less than the disks must not make them forget: safe mode, quarantine, and the ways out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.errors import Conflict, GogglesError
from goggles.testing.cluster import Cluster, wait_until

Factory = Callable[..., Cluster]
ONE_COPY = ("--grace", "1", "--heartbeat", "0.3", "--copies", "1")


def content(fs: Session, path: str) -> bytes:
    return b"".join(fs.read(path))


def on_disk(site: Cluster, name: str) -> set[str]:
    root = site.root(name)
    return {f"/{p.relative_to(root)}" for p in root.rglob("*") if p.is_file() and ".goggles" not in p.parts}


def quarantined(site: Cluster, name: str) -> set[bytes]:
    return {p.read_bytes() for p in (site.root(name) / ".goggles/quarantine").glob("*/**/*") if p.is_file()}


def wait_log(site: Cluster, name: str, text: str) -> None:
    log = site.folder / f"{name}.log"
    wait_until(f"{text!r} in the log of {name}", lambda: text in log.read_text(errors="replace"), 20)


def halt(site: Cluster) -> None:
    """Stop every process, and forget nothing."""
    for process in [*site.storages.values(), site.nameserver]:
        assert process is not None
        process.stop()


def copy_database(site: Cluster, to: Path) -> None:
    to.mkdir(exist_ok=True)
    for file in Path(site.database).parent.glob(Path(site.database).name + "*"):
        shutil.copy2(file, to / file.name)


def restore_database(site: Cluster, copy: Path) -> None:
    for file in Path(site.database).parent.glob(Path(site.database).name + "*"):
        file.unlink()
    for file in copy.iterdir():
        shutil.copy2(file, Path(site.database).parent / file.name)


def write_many(fs: Session, folder: str, count: int) -> dict[str, bytes]:
    files = {f"{folder}/file{number}": os.urandom(1000 + number) for number in range(count)}
    fs.mkdir(folder)
    for path, data in files.items():
        fs.write(path, data)
    return files


def test_full_storages_refuse_a_nameserver_with_another_database(cluster: Factory) -> None:
    site = cluster("alice", "bob", tidily=False)
    files = write_many(site.connect(), "/d", 5)
    site.wait_settled(20)
    halt(site)
    site.database = str(site.folder / "other.db")
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
        wait_log(site, name, "another site")
    assert all(state != "active" for state in site.states().values())
    for name in site.names:
        assert on_disk(site, name) == set(files)
        assert quarantined(site, name) == set()


def older_database(site: Cluster, tmp_path: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """A site whose nameserver has been given an older copy of its database: (files it knows, files it does not)."""
    fs = site.connect()
    old = write_many(fs, "/old", 5)
    site.wait_settled(20)
    halt(site)
    copy_database(site, tmp_path / "copy")
    site.start()
    new = write_many(fs, "/new", 25)
    site.wait_settled(20)
    halt(site)
    restore_database(site, tmp_path / "copy")
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    wait_until("all held", lambda: set(site.states().values()) == {"held"}, 20)
    return old, new


def test_an_older_database_holds_the_storages_until_it_is_accepted(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    old, new = older_database(site, tmp_path)
    fs = site.connect(timeout=2)
    assert all(content(fs, path) == data for path, data in old.items())
    assert any("safe mode" in warning for warning in fs.du()[0].warnings)
    for name in site.names:
        assert set(new) <= on_disk(site, name)
        assert quarantined(site, name) == set()
    for name in site.names:
        fs.accept(name)
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    for name in site.names:
        assert on_disk(site, name) == set(old)
        assert set(new.values()) <= quarantined(site, name)
    with pytest.raises(Conflict):
        fs.accept("alice")


def test_restoretree_takes_what_the_older_database_does_not_know(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    old, new = older_database(site, tmp_path)
    fs = site.connect(timeout=5)
    for name in site.names:
        fs.restoretree(name)
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    assert {entry.path for entry in fs.find("/", type="FILE")} == {*old, *new}
    assert all(content(fs, path) == data for path, data in {**old, **new}.items())
    for name in site.names:
        assert quarantined(site, name) == set()


def test_writes_are_refused_while_all_storages_are_held_and_nothing_is_lost(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    old, _ = older_database(site, tmp_path)
    fs = site.connect(timeout=1)
    with pytest.raises(GogglesError) as error:
        fs.write("/more", b"x")
    assert error.value.code in ("unavailable", "no_space")
    assert error.value.hint
    for name in site.names:
        fs.accept(name)
    site.wait_active(site.names, 20)
    fs.write("/more", b"x")
    assert content(fs, "/more") == b"x"
    assert all(content(fs, path) == data for path, data in old.items())


def test_an_older_copy_of_a_storages_folder_is_brought_up_to_date(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    fs.write("/overwritten", b"before")
    fs.write("/kept", b"kept")
    fs.write("/removed", b"removed")
    site.wait_settled(20)
    site.storages["alice"].stop()
    root = site.root("alice")
    shutil.copytree(root, tmp_path / "older", symlinks=True)
    for file in root.rglob("*"):
        if file.is_file() and ".goggles" not in file.parts:
            os.setxattr(tmp_path / "older" / file.relative_to(root), "user.goggles", os.getxattr(file, "user.goggles"))
    site.start_storage("alice")
    site.wait_active(site.names, 20)
    fs.write("/overwritten", b"after")
    fs.rm("/removed")
    fs.write("/new", b"new")
    site.wait_settled(20)
    site.storages["alice"].stop()
    shutil.rmtree(root)
    shutil.move(tmp_path / "older", root)
    site.start_storage("alice")
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    assert on_disk(site, "alice") == {"/overwritten", "/kept", "/new"}
    assert (root / "overwritten").read_bytes() == b"after"
    assert content(fs, "/overwritten") == b"after"


def test_a_few_foreign_files_are_put_aside_and_kept(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = write_many(fs, "/d", 4)
    site.wait_settled(20)
    site.storages["alice"].stop()
    (site.root("alice") / "foreign").write_bytes(b"not of this tree")
    (site.root("alice") / "d/too").write_bytes(b"neither")
    site.start_storage("alice")
    site.wait_active(site.names, 20)
    wait_until("put aside", lambda: on_disk(site, "alice") == set(files), 20)
    assert quarantined(site, "alice") >= {b"not of this tree", b"neither"}
    assert sorted(fs.listdir("/")) == ["d"]


def test_one_file_in_the_folder_of_a_new_storage_holds_it(cluster: Factory) -> None:
    """It may be somebody's thesis: what lay there before the site came is taken by nobody without being asked."""
    site = cluster("alice", "bob", started=False)
    site.root("alice").mkdir(parents=True)
    (site.root("alice") / "thesis").write_bytes(b"years of work")
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    wait_until("alice is held", lambda: site.states() == {"alice": "held", "bob": "active"}, 20)
    site.storages["alice"].kill()
    site.start_storage("alice")
    wait_until("alice is held again", lambda: site.states() == {"alice": "held", "bob": "active"}, 20)
    assert on_disk(site, "alice") == {"/thesis"}
    site.connect().restoretree("alice")
    site.wait_active(site.names, 20)
    assert content(site.connect(), "/thesis") == b"years of work"


def test_many_foreign_files_hold_the_storage_and_stay_where_they_are(cluster: Factory) -> None:
    site = cluster("alice", "bob", started=False)
    site.root("alice").mkdir(parents=True)
    foreign = {f"/foreign{number}": f"{number}".encode() for number in range(30)}
    for path, data in foreign.items():
        (site.root("alice") / path[1:]).write_bytes(data)
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    wait_until("alice is held", lambda: site.states() == {"alice": "held", "bob": "active"}, 20)
    assert on_disk(site, "alice") == set(foreign)
    assert quarantined(site, "alice") == set()
    fs = site.connect()
    fs.restoretree("alice")
    site.wait_active(site.names, 20)
    assert all(content(fs, path) == data for path, data in foreign.items())


def test_the_folder_of_another_storage_is_refused(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    files = write_many(site.connect(), "/d", 3)
    site.wait_settled(20)
    for process in site.storages.values():
        process.stop()
    kept = site.folder / "storages" / "kept"
    site.root("bob").rename(kept)
    shutil.copytree(site.root("alice"), site.root("bob"))
    site.start_storage("bob")
    wait_log(site, "bob", "belongs to storage alice")
    site.storages["bob"].stop()
    assert on_disk(site, "bob") == set(files)
    shutil.rmtree(site.root("bob"))
    kept.rename(site.root("bob"))
    for name in site.names:
        site.start_storage(name)
    site.wait_active(site.names, 20)


def test_a_second_storage_of_one_name_is_refused_and_the_first_goes_on(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    files = write_many(fs, "/d", 3)
    first = site.storages["alice"]
    second = site.start_storage("alice", ["--rootpath", str(site.folder / "second"), "--port", "0"])
    site.storages["alice"] = first
    wait_log(site, "alice", "another storage called alice")
    second.stop()
    assert all(content(fs, path) == data for path, data in files.items())
    assert not [p for p in (site.folder / "second").rglob("*") if p.is_file() and ".goggles" not in p.parts]
    site.wait_active(site.names, 20)


def test_two_storages_in_one_folder_are_refused(cluster: Factory) -> None:
    site = cluster("alice", "bob")
    first = site.storages["alice"]
    second = site.start_storage("alice", ["--port", "0"])
    site.storages["alice"] = first
    assert second.wait(20) != 0
    assert "Traceback" not in (site.folder / "alice.log").read_text()
    assert first.running


def test_a_tree_that_is_removed_during_a_self_check_takes_nothing_with_it_that_moved_out(cluster: Factory) -> None:
    """Storages come back with /p/f where the tree has /q/f; /p is removed before they have been told of the move."""
    site = cluster("alice", "bob")
    fs = site.connect()
    fs.mkdir("/p")
    fs.mkdir("/q")
    fs.write("/p/f", b"precious")
    site.wait_settled(20)
    for process in site.storages.values():
        process.stop()
    fs.mv("/p/f", "/q/f")
    for name in site.names:
        site.start_storage(name, environment={"GOGGLES_FAILPOINTS": "storage.selfcheck.before_inventory=sleep:2*1"})
    wait_until("both in self-check", lambda: set(site.states().values()) == {"checking"})
    fs.rmdir("/p", recursive=True)
    site.wait_active(site.names)
    site.wait_settled(20)
    assert b"".join(fs.read("/q/f")) == b"precious"
    assert not fs.exists("/p")


def test_nothing_is_moved_on_a_storage_that_is_held(cluster: Factory, tmp_path: Path) -> None:
    """An older database has files elsewhere, and other directories: a held storage stays as it was."""
    site = cluster("alice", nameserver_flags=ONE_COPY)
    fs = site.connect()
    fs.mkdir("/then")
    fs.write("/then/f", b"precious")
    halt(site)
    copy_database(site, tmp_path / "copy")
    site.start()
    fs = site.connect()
    fs.mv("/then", "/now")
    fs.write("/now/g", b"newer")
    site.wait_settled(20)
    halt(site)
    restore_database(site, tmp_path / "copy")
    site.start_nameserver()
    site.start_storage("alice")
    wait_until("held", lambda: site.states() == {"alice": "held"}, 20)
    assert on_disk(site, "alice") == {"/now/f", "/now/g"}
    assert not (site.root("alice") / "then").exists()
    site.connect().restoretree("alice")
    site.wait_active(["alice"], 20)
    fs = site.connect()
    assert {path: content(fs, path) for path in ("/then/f", "/now/g")} == {"/then/f": b"precious", "/now/g": b"newer"}


def test_what_makes_way_on_a_storage_that_is_held_is_restored(cluster: Factory, tmp_path: Path) -> None:
    """Directories are made and renamed where a held storage has files that the older database does not know."""
    site = cluster("alice", "bob")
    fs = site.connect()
    fs.mkdir("/then")
    fs.write("/then/f", b"old")
    site.wait_settled(20)
    halt(site)
    copy_database(site, tmp_path / "copy")
    site.start()
    fs = site.connect()
    fs.mkdir("/now")
    fs.write("/now/f", b"newer")
    fs.write("/name", b"newest")
    site.wait_settled(20)
    halt(site)
    restore_database(site, tmp_path / "copy")
    site.start_nameserver()
    for name in site.names:
        site.start_storage(name)
    wait_until("all held", lambda: set(site.states().values()) == {"held"}, 20)
    fs = site.connect()
    fs.mkdir("/name")
    fs.mv("/then", "/now")
    assert content(fs, "/now/f") == b"old"
    for name in site.names:
        fs.restoretree(name)
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    found = {entry.path: content(fs, entry.path) for entry in fs.find("/", type="FILE")}
    assert found.pop("/now/f") == b"old"
    assert {path.partition(".restored-")[0]: data for path, data in found.items()} == {
        "/now/f": b"newer",
        "/name": b"newest",
    }
    for name in site.names:
        assert quarantined(site, name) == set()


@pytest.mark.parametrize("name", ["x", "漢" * 85], ids=["short", "long"])
def test_what_can_not_stand_where_it_stood_is_restored_beside_it(cluster: Factory, tmp_path: Path, name: str) -> None:
    """A directory of the storage where the tree has a file by now, and a file of the same name."""
    site = cluster("alice", "bob", nameserver_flags=ONE_COPY)
    halt(site)
    copy_database(site, tmp_path / "copy")
    site.start()
    site.storages["bob"].stop()
    wait_until("bob is gone", lambda: site.states()["bob"] != "active", 20)
    fs = site.connect()
    fs.mkdir(f"/{name}")
    fs.write(f"/{name}/f", b"precious")
    fs.write(f"/same {name[:80]}", b"precious too")
    halt(site)
    restore_database(site, tmp_path / "copy")
    site.start_nameserver()
    site.start_storage("bob")
    wait_until("bob is back", lambda: site.states().get("bob") == "active", 20)
    fs = site.connect()
    fs.write(f"/{name}", b"put meanwhile")
    fs.write(f"/same {name[:80]}", b"put meanwhile")
    site.start_storage("alice")
    wait_until("held", lambda: site.states()["alice"] == "held", 20)
    fs.restoretree("alice")
    site.wait_active(site.names, 20)
    site.wait_settled(20)
    found = {path: content(fs, path) for path in (entry.path for entry in fs.find("/", type="FILE"))}
    assert found.pop(f"/{name}") == found.pop(f"/same {name[:80]}") == b"put meanwhile"
    assert sorted(found.values()) == [b"precious", b"precious too"]
    assert all(".restored-" in path for path in found)


def test_a_second_copy_of_a_file_on_the_same_storage_is_put_aside(cluster: Factory) -> None:
    """Somebody made it with cp -a, so that it carries the note of the first."""
    site = cluster("alice", nameserver_flags=ONE_COPY)
    site.connect().write("/a", b"precious")
    site.wait_settled(20)
    site.storages["alice"].stop()
    root = site.root("alice")
    shutil.copy2(root / "a", root / "stray")
    shutil.copy2(root / "a", root / ".goggles/staging" / ("f" * 32))
    site.start_storage("alice")
    site.wait_active(["alice"], 20)
    wait_until("put aside", lambda: on_disk(site, "alice") == {"/a"}, 20)
    assert sorted(site.connect().listdir("/")) == ["a"]
    assert content(site.connect(), "/a") == b"precious"
    wait_until("nothing staged", lambda: not list((root / ".goggles/staging").iterdir()), 20)
    quarantine = [p for p in (root / ".goggles/quarantine").glob("*/**/*") if p.is_file()]
    assert [p.read_bytes() for p in quarantine] == [b"precious"] * 2
