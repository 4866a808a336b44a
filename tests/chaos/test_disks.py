"""Damage to disks, and what is left alone by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chaos.disks import flip, known_copies, noted

from goggles.storage import notes
from goggles.testing.cluster import Cluster


@pytest.mark.parametrize("quiet", [True, False])
def test_one_bit_changes_and_the_time_where_it_is_told_to(tmp_path: Path, quiet: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    os.utime(path, ns=(0, 1))
    assert flip(path, 0.5, quiet=quiet)
    assert path.read_bytes() == bytes(50) + b"\x10" + bytes(49)
    assert (path.stat().st_mtime_ns == 1) is quiet


def test_an_empty_file_and_one_that_has_gone_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert not flip(tmp_path / "empty", 0.5, quiet=True)
    assert not flip(tmp_path / "gone", 0.5, quiet=True)
    assert noted(tmp_path / "gone") == ""


def test_a_damaged_file_still_says_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    with open(path, "rb") as file:
        notes.write(file.fileno(), "5" * 64, "", 1)
    flip(path, 0.5, quiet=False)
    assert noted(path) == "5" * 64


def test_only_files_that_another_storage_has_too_may_be_damaged(tmp_path: Path) -> None:
    with Cluster(tmp_path, ("alice", "bob")) as cluster, cluster.connect() as fs:
        fs.write("/two", b"two")
        two = fs.stat("/two").hash  # type: ignore[union-attr] - a file
        fs.mkdir("/single")
        fs.setrep("/single", 1)
        fs.write("/single/one", b"one")
        assert list(known_copies(cluster.database, "alice").values()) == [two]
        assert known_copies(cluster.database, "nobody") == {}
