"""Bytes on their way in: durable when finished, within the capacity, gone when aborted."""

import errno
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from goggles import failpoints
from goggles.clock import SystemClock
from goggles.contracts import orders
from goggles.errors import BadRequest, GogglesError, NoSpace
from goggles.storage.receiving import Local
from goggles.storage.vault import Vault
from goggles.wire.data import Buffer

U = "a" * 32


def test_room_is_promised_when_an_upload_begins_and_counted_when_it_is_finished(box):
    free = box.vault.free
    staged = box.vault.stage(U, 1000)
    assert (box.vault.used, box.vault.free) == (0, free - 1000)
    staged.write(b"x" * 600)
    staged.finish(box.sha(b"x" * 600), U)
    assert (box.vault.used, box.vault.free) == (600, free - 600)
    assert box.do(orders.publish(U, "/a", U, 1)) == ("ok",)
    assert box.vault.used == 600
    assert box.do(orders.remove("/a", U)) == ("ok",)
    assert (box.vault.used, box.vault.free) == (0, free)


def test_an_aborted_upload_leaves_nothing_and_gives_its_room_back(box):
    staged = box.vault.stage(U, 1000)
    staged.write(b"x")
    staged.abort()
    staged.abort()
    assert (box.vault.used, box.vault.free, box.walk()) == (0, box.capacity, [])


def test_more_than_the_capacity_is_refused_before_a_byte_is_written(box):
    with pytest.raises(NoSpace):
        box.vault.stage(U, box.capacity + 1)
    first = box.vault.stage(U, box.capacity)
    with pytest.raises(NoSpace):
        box.vault.stage("b" * 32, 1)
    first.abort()
    box.vault.stage("b" * 32, 1).abort()


def test_an_upload_of_unknown_size_grows_until_the_capacity_is_reached(box):
    staged = box.vault.stage(U, None)
    for _ in range(16):
        staged.write(bytes(box.capacity // 16))
    with pytest.raises(NoSpace):
        staged.write(b"x")
    staged.abort()
    assert box.vault.free == box.capacity


def test_more_bytes_than_announced_are_refused(box):
    staged = box.vault.stage(U, 3)
    with pytest.raises(BadRequest):
        staged.write(b"four")
    staged.abort()


def test_abort_after_finish_keeps_the_bytes(box):
    staged = box.vault.stage(U, 1)
    staged.write(b"x")
    staged.finish(box.sha(b"x"), U)
    staged.abort()
    assert [(held.path, held.hash, held.version) for held in box.walk("staged")] == [(U, box.sha(b"x"), U)]


def test_an_upload_that_is_begun_again_starts_empty(box):
    first = box.vault.stage(U, 5)
    first.write(b"first")
    second = box.vault.stage(U, 3)
    second.write(b"new")
    second.finish(box.sha(b"new"), U)
    first.abort()
    assert box.do(orders.publish(U, "/a", U, 1)) == ("ok",)
    assert box.read("/a", U) == b"new"
    assert box.vault.free == box.capacity - 3


def test_a_writer_that_was_replaced_can_not_mix_its_bytes_in(box):
    first = box.vault.stage(U, 5)
    second = box.vault.stage(U, 3)
    second.write(b"new")
    first.write(b"OLD!!")
    second.finish(box.sha(b"new"), U)
    assert box.do(orders.publish(U, "/a", U, 1)) == ("ok",)
    assert box.read("/a") == b"new"
    first.abort()


def test_a_complete_upload_survives_a_second_one_of_its_name_that_fails(box):
    box.stage(b"good", upload=U)
    again = box.vault.stage(U, 4)
    again.write(b"ba")
    again.abort()
    assert [held.hash for held in box.walk("staged")] == [box.sha(b"good")]


def test_a_discarded_upload_does_not_come_back_when_its_writer_finishes(box):
    staged = box.vault.stage(U, 1)
    staged.write(b"x")
    assert box.do(orders.discard(U)) == ("ok",)
    with pytest.raises(GogglesError):
        staged.finish(box.sha(b"x"), U)
    staged.abort()
    assert (box.walk(), box.vault.free) == ([], box.capacity)


def test_uploads_can_end_at_the_same_moment(box):
    uploads = [f"{n:032x}" for n in range(8)]
    writes = [box.vault.stage(upload, 0) for upload in uploads]
    together = threading.Barrier(8, timeout=5)
    failpoints.arm("storage.stage.before_fsync", together.wait)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda write, upload: write.finish(box.sha(b""), upload), writes, uploads))
    assert sorted(held.path for held in box.walk("staged") if held.hash) == uploads


def test_a_failing_disk_is_an_error_with_a_name(box):
    failpoints.arm("storage.stage.before_fsync", lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    staged = box.vault.stage(U, 1)
    staged.write(b"x")
    with pytest.raises(NoSpace):
        staged.finish(box.sha(b"x"), U)
    staged.abort()
    assert box.walk() == []


@pytest.fixture
def tiny(tmp_path):
    """A file system of 1 MiB."""
    where = tmp_path / "tiny"
    where.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tiny", where], check=False).returncode
    ):
        pytest.skip("a small file system can only be mounted by root")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def test_a_full_disk_is_no_space_and_leaves_nothing_behind(tiny):
    vault = Vault.open(tiny / "root", 1 << 30, SystemClock())
    try:
        with pytest.raises(NoSpace):
            vault.stage(U, 2 << 20)
        staged = vault.stage(U, None)
        with pytest.raises(NoSpace):
            for _ in range(64):
                staged.write(bytes(64 << 10))
        staged.abort()
        assert [held for batch in vault.walk() for held in batch] == []
        vault.stage(U, 1000).abort()
    finally:
        vault.close()


def test_what_was_given_up_before_its_first_byte_came_is_not_left_to_be_gone_on_with(box):
    assert box.do(orders.discard(U)) == ("ok",)
    assert box.vault.is_given_up(U)
    local = Local(box.vault, "alice", U, 1 << 20)
    buffer = Buffer()
    buffer.used = 1 << 20
    local.consume(buffer)
    local.suspend()
    assert box.vault.staged_part(U) == 0
