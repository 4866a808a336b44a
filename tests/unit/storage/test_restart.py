"""What a restart, a stranger's hand on the files, and a kill at any step leave."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from goggles.clock import ManualClock
from goggles.contracts import orders
from goggles.errors import Conflict, GogglesError, NotFound, Stale, StorageFailure
from goggles.storage import inventory
from goggles.storage.quarantine import Quarantine
from goggles.storage.vault import Vault

V = "a" * 32


def test_a_restart_reads_no_file_again(box):
    version = box.put("/a", b"x", generation=4)
    box.reopen()
    assert [(held.path, held.version, held.generation, held.hash) for held in box.walk("file")] == [
        ("/a", version, 4, box.sha(b"x"))
    ]
    assert box.vault.counted.hashed == 0
    assert box.vault.used == 1


def test_bytes_that_changed_behind_our_back_are_no_known_version_any_more(box):
    box.put("/a", b"x")
    (box.root / "a").write_bytes(b"yy")
    assert [(held.size, held.hash, held.version) for held in box.walk("file")] == [(2, box.sha(b"yy"), "")]
    assert box.vault.counted.hashed == 1


def test_a_file_that_was_only_touched_is_read_once_and_known_again(box):
    version = box.put("/a", b"x")
    os.utime(box.root / "a", ns=(1, 1))
    for hashed in (1, 0):
        assert [held.version for held in box.walk("file")] == [version]
        assert box.vault.counted.hashed == hashed


@pytest.mark.parametrize("raw", [b"", b"{}", b"null", b"[1]", b"\xff", b'{"sha256": 1}'])
def test_a_note_that_is_none_is_not_believed(box, raw):
    box.put("/a", b"x")
    os.setxattr(box.root / "a", "user.goggles", raw)
    assert [(held.hash, held.version) for held in box.walk("file")] == [(box.sha(b"x"), "")]


def test_a_reader_gets_the_version_it_asked_for_or_none(box):
    version = box.put("/a", b"x")
    assert (box.read("/a", version), box.read("/a", "")) == (b"x", b"x")
    with pytest.raises(Stale):
        box.read("/a", V)
    with pytest.raises(NotFound):
        box.read("/none", V)
    box.do(orders.mkdir("/dir"))
    with pytest.raises(GogglesError):
        box.read("/dir", V)


def test_check_reads_the_bytes_again(box):
    version = box.put("/a", b"good")
    assert box.vault.check("/a", version) == f"good {box.sha(b'good')} 4"
    before = os.stat(box.root / "a")
    (box.root / "a").write_bytes(b"bad!")
    os.utime(box.root / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert box.vault.check("/a", version) == f"bad {box.sha(b'bad!')} 4"


def test_bad_bytes_can_be_quarantined_by_their_version(box):
    version = box.put("/a", b"good")
    (box.root / "a").write_bytes(b"edited")
    assert box.do(orders.quarantine("/a", version)) == ("ok",)
    assert (box.disk(), box.quarantine()) == ({}, {b"edited"})


def test_bytes_that_somebody_edited_are_not_deleted_by_a_remove(box):
    version = box.put("/a", b"good")
    (box.root / "a").write_bytes(b"edited")
    box.do(orders.remove("/a", version))
    assert set(box.disk().values()) | box.quarantine() == {b"edited"}


def test_bytes_that_somebody_edited_are_not_deleted_with_their_directory(box):
    box.put("/d/e/edited", b"good")
    box.put("/d/e/touched", b"good too")
    (box.root / "d/e/edited").write_bytes(b"bad!")
    os.utime(box.root / "d/e/touched", ns=(1, 1))
    box.do(orders.remove_tree("/d"))
    box.settled()
    assert (box.disk(), box.quarantine(), box.vault.used) == ({}, {b"bad!"}, 0)


def test_what_can_not_go_to_quarantine_stays_in_the_trash_until_it_can(box):
    box.put("/d/edited", b"good")
    box.put("/d/good", b"good too")
    (box.root / "d/edited").write_bytes(b"edited")
    shutil.rmtree(box.root / ".goggles/quarantine")
    (box.root / ".goggles/quarantine").write_bytes(b"in the way")
    box.do(orders.remove_tree("/d"))
    box.settled()
    trash = box.root / ".goggles/trash"
    assert [path.read_bytes() for path in trash.rglob("*") if path.is_file()] == [b"edited"]
    (box.root / ".goggles/quarantine").unlink()
    box.reopen()
    box.settled()
    assert (list(trash.iterdir()), box.quarantine()) == ([], {b"edited"})


def test_staged_bytes_survive_a_restart_and_unfinished_ones_are_told_as_such(box):
    upload = box.stage(b"done")
    box.vault.stage("b" * 32, 5).write(b"half")
    box.reopen()
    told = {held.path: (held.hash, held.version) for held in box.walk("staged")}
    assert told == {upload: (box.sha(b"done"), upload), "b" * 32: ("", "")}
    assert box.do(orders.discard("b" * 32)) == ("ok",)
    assert [held.path for held in box.walk("staged")] == [upload]


def test_what_made_way_is_told_with_the_place_where_it_stood(box):
    version = box.put("/a", b"precious", generation=3)
    assert box.do(orders.mkdir("/a/b")) == ("ok",)
    (held,) = box.walk("staged")
    assert (held.path, held.version, held.generation, held.was) == (version, version, 3, "/a")


def test_staged_bytes_that_can_not_be_read_are_not_told_of(box, monkeypatch):
    """Whoever hears of an upload without a digest has it thrown away."""
    box.stage(b"answered, and not yet published")

    def fail(*_):
        raise StorageFailure("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(inventory, "open_regular", fail)
        assert box.walk("staged") == []
    assert [held.hash for held in box.walk("staged")] == [box.sha(b"answered, and not yet published")]


def test_the_walk_tells_files_then_staged_then_directories_from_the_inside(box):
    upload = box.stage(b"s")
    box.put("/a/b/file", b"f")
    box.do(orders.mkdir("/a/b/c"))
    assert [(held.kind, held.path) for held in box.walk()] == [
        ("file", "/a/b/file"),
        ("staged", upload),
        ("directory", "/a/b/c"),
        ("directory", "/a/b"),
        ("directory", "/a"),
    ]


def test_batches_are_as_long_as_asked(box):
    for number in range(7):
        box.do(orders.mkdir(f"/{number}"))
    assert [len(batch) for batch in box.vault.walk(3)] == [3, 3, 1]


# --- the folder ------------------------------------------------------------------------------


def test_a_folder_is_for_one_storage_at_a_time(box):
    with pytest.raises(Conflict, match="another storage"):
        Vault.open(box.root, 1, box.clock)


def test_a_folder_remembers_its_site_and_its_own_name(box):
    name = box.vault.site.storage_id
    assert len(name) == 32 and box.vault.site.site_id == ""
    box.vault.adopt("site", name, 7, "token")
    site = box.reopen().site
    assert (site.site_id, site.storage_id, site.epoch, site.epoch_token, site.format) == ("site", name, 7, "token", 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 99}',
        "{",
        '{"format": 1}',
        '{"format": "x"}',
        "[]",
    ],
)
def test_a_site_note_that_can_not_be_read_is_an_error_and_lets_go_of_the_folder(box, text):
    box.vault.close()
    path = box.root / ".goggles/site.json"
    good = path.read_text()
    path.write_text(text)
    try:
        with pytest.raises(StorageFailure):
            Vault.open(box.root, 1, box.clock)
    finally:
        path.write_text(good)
        box.vault = Vault.open(box.root, 1, box.clock)
    assert json.loads(path.read_text())["storage_id"] == box.vault.site.storage_id


def test_a_folder_that_can_not_be_used_is_an_error_with_a_name(tmp_path, box):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "no/parent", tmp_path / "file", tmp_path / "file/below", tmp_path / "loop", "/proc/self"):
        with pytest.raises(GogglesError):
            Vault.open(path, 1, box.clock)


def test_the_root_itself_may_be_a_symlink(tmp_path, box):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    Vault.open(tmp_path / "link", 1, box.clock).close()
    assert (tmp_path / "real/.goggles/site.json").exists()


# --- quarantine ------------------------------------------------------------------------------


def test_a_name_that_is_taken_in_quarantine_gets_another(box):
    for data in (b"1", b"2", b"3"):
        version = box.put("/a/" + "n" * 255, data)
        assert box.do(orders.quarantine("/a/" + "n" * 255, version)) == ("ok",)
    assert box.quarantine() == {b"1", b"2", b"3"}
    assert (box.vault.quarantine.measure(), box.vault.used) == ((3, 3), 0)


def test_a_quarantined_path_below_a_quarantined_file_is_kept_too(box):
    assert box.do(orders.quarantine("/a", box.put("/a", b"1"))) == ("ok",)
    assert box.do(orders.quarantine("/a/b", box.put("/a/b", b"2"))) == ("ok",)
    assert box.quarantine() == {b"1", b"2"}


def test_the_quarantine_of_staged_bytes_keeps_them(box):
    upload = box.stage(b"x")
    assert box.do(orders.quarantine_staged(upload)) == ("ok",)
    assert (box.walk(), box.quarantine(), box.vault.used) == ([], {b"x"}, 0)


def test_a_directory_that_can_not_be_read_is_counted(box, monkeypatch):
    box.put("/d/a", b"x")
    box.put("/e/b", b"x")
    scandir = os.scandir

    def broken(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/d"):
            raise OSError(5, "Input/output error")
        return scandir(fd)

    assert box.vault.counted.left_out == 0
    monkeypatch.setattr(os, "scandir", broken)
    assert [held.path for held in box.walk("file")] == ["/e/b"]
    assert box.vault.counted.left_out >= 1


class Wall(ManualClock):
    """A clock of which wall and monotonic time move apart."""

    wall = mono = 60.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.mono


def test_quarantine_is_emptied_by_age(box):
    box.do(orders.quarantine("/a", box.put("/a", b"old")))
    box.clock.advance(6 * 86_400)
    box.do(orders.quarantine("/b", box.put("/b", b"new")))
    box.vault.quarantine.prune(7 * 86_400)
    assert box.quarantine() == {b"old", b"new"}
    box.clock.advance(3 * 86_400)
    box.vault.quarantine.prune(7 * 86_400)
    assert box.quarantine() == {b"new"}


def test_a_day_of_the_quarantine_ages_over_restarts_and_by_running_time_alone(tmp_path):
    clock, folder = Wall(), tmp_path / "q"
    (tmp_path / "x").write_bytes(b"precious")
    fd = os.open(tmp_path, os.O_RDONLY)
    Quarantine(folder, clock).take("x", fd, "/x", "a test")
    os.close(fd)
    clock.wall += 400 * 86_400  # it was booted with the clock of 1970
    for days in (3, 3, 2):
        quarantine = Quarantine(folder, clock)
        quarantine.prune(7 * 86_400)
        assert quarantine.measure() == (1, 8)
        clock.mono += days * 86_400
        quarantine.prune(7 * 86_400)
    assert quarantine.measure() == (0, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["ages.json"]


def test_quarantine_is_emptied_by_size_oldest_day_first(box):
    box.do(orders.quarantine("/a", box.put("/a", b"old")))
    box.clock.advance(2 * 86_400)
    box.do(orders.quarantine("/b", box.put("/b", b"new")))
    box.vault.quarantine.prune(7 * 86_400, 3)
    assert box.quarantine() == {b"new"}


# --- kill -9 ---------------------------------------------------------------------------------

PROGRAM = """
    import sys
    from pathlib import Path
    from goggles.clock import SystemClock
    from goggles.contracts import orders
    from goggles.storage.vault import Vault
    import hashlib
    root, version, new = Path(sys.argv[1]), "a" * 32, "b" * 32
    vault = Vault.open(root, 1 << 20, SystemClock())
    def put(upload, data, path):
        staged = vault.stage(upload, len(data))
        staged.write(data)
        staged.finish(hashlib.sha256(data).hexdigest(), upload)
        assert vault.apply([orders.publish(upload, path, upload, 1 + (upload == new))]) == [("ok",)]
    put(version, b"old", "/a")
    from goggles import failpoints
    failpoints.arm_from(sys.argv[2] + "=crash")
    put(new, b"newer", "/a")
    vault.apply([orders.quarantine("/a", new)])
    put("c" * 32, b"third", "/b")
    vault.apply([orders.remove("/b", "c" * 32)])
    vault.adopt("site", "d" * 32, 1, "t")
"""
POINTS = {
    "storage.stage.before_fsync": {b"old"},
    "storage.stage.after_fsync": {b"old"},
    "storage.publish.before_rename": {b"old"},
    "storage.publish.after_rename": {b"newer"},
    "storage.quarantine.before_rename": {b"newer"},
    "storage.remove.before_unlink": {b"third"},
    "storage.adopt.before_rename": set(),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_whole_files_and_the_step_can_be_repeated(box, point):
    box.vault.close()
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), box.root, point], check=False, env=_environment()
    )
    assert killed.returncode == -signal.SIGKILL
    box.vault = Vault.open(box.root, box.capacity, box.clock)
    assert set(box.disk().values()) == POINTS[point]
    for held in box.walk("file"):
        assert (held.hash, held.size) == (box.sha(box.read(held.path, held.version)), len(box.read(held.path)))
    for held in box.walk("staged"):
        if held.hash:
            assert box.do(orders.publish(held.path, "/a", held.version, 2)) == ("ok",)
            assert box.read("/a", held.version) == b"newer"
        else:
            assert box.do(orders.discard(held.path)) == ("ok",)
    assert box.walk("staged") == []


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
