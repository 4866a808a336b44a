"""The lock on a file that makes one nameserver the only one."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from goggles.errors import DatabaseError
from goggles.meta.lease import FileLease

NEVER = threading.Event()


def test_it_is_held_until_it_is_released(tmp_path: Path) -> None:
    lease = FileLease.take(tmp_path / "lock", False, NEVER)
    with pytest.raises(DatabaseError, match="another nameserver"):
        FileLease.take(tmp_path / "lock", False, NEVER)
    assert not lease.lost()
    lease.release()
    assert lease.lost()
    FileLease.take(tmp_path / "lock", False, NEVER).release()


def test_its_file_stays_and_is_for_its_owner_only(tmp_path: Path) -> None:
    FileLease.take(tmp_path / "lock", False, NEVER).release()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_it_is_lost_when_another_can_take_one_of_the_same_name(tmp_path: Path) -> None:
    first = FileLease.take(tmp_path / "lock", False, NEVER)
    (tmp_path / "lock").unlink()
    assert first.lost()
    second = FileLease.take(tmp_path / "lock", False, NEVER)
    assert first.lost() and not second.lost()
    first.release()
    second.release()


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="can not be made"):
        FileLease.take(tmp_path / "missing" / "lock", False, NEVER)
