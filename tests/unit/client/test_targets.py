"""Local files in the making: what lies beside them, and whose it is."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

import pytest

from goggles.client.targets import LONGEST, Target, partial_of, partials_of
from goggles.contracts.data import LARGE, STEP

A, B = "a" * 32, "b" * 32


def begun(path: Path, version: str = A, kept: int = 0) -> Target:
    target = Target(path, resume=True)
    target.begin(version, LARGE)
    assert target.kept == kept
    return target


def test_what_is_left_is_gone_on_with_at_a_whole_step(tmp_path: Path) -> None:
    first = begun(tmp_path / "file")
    first.write(b"x" * (2 * STEP + 1))
    first.leave()
    second = begun(tmp_path / "file", kept=2 * STEP)
    assert second.digest().hexdigest() == hashlib.sha256(b"x" * 2 * STEP).hexdigest()
    second.write(b"y" * (LARGE - 2 * STEP))
    second.finish()
    assert (tmp_path / "file").read_bytes() == b"x" * 2 * STEP + b"y" * (LARGE - 2 * STEP)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["file", "n" * LONGEST, "é" * 127, ".hidden", "a.partial"])
def test_the_part_of_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    target = begun(tmp_path / name)
    target.write(b"x" * STEP)
    target.leave()
    assert partials_of(tmp_path / name) == [partial_of(tmp_path / name, A)]
    assert partials_of(tmp_path / "other") == []
    begun(tmp_path / name, B).drop()
    assert list(tmp_path.iterdir()) == []


def test_less_than_a_step_is_not_left(tmp_path: Path) -> None:
    target = begun(tmp_path / "file")
    target.write(b"x" * (STEP - 1))
    target.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_somebody_is_at_work_on_is_neither_used_nor_removed(tmp_path: Path) -> None:
    for version in (A, B):
        with open(partial_of(tmp_path / "file", version), "wb") as other:
            other.write(b"x" * STEP)
            other.flush()
            fcntl.flock(other, fcntl.LOCK_EX)
            begun(tmp_path / "file").drop()
            assert partial_of(tmp_path / "file", version).exists()
        partial_of(tmp_path / "file", version).unlink()


def test_a_part_that_is_longer_than_the_file_is_thrown_away(tmp_path: Path) -> None:
    partial_of(tmp_path / "file", A).write_bytes(bytes(LARGE + 1))
    begun(tmp_path / "file", kept=0).drop()


def test_a_hard_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious" * STEP)
    partial_of(tmp_path / "file", A).hardlink_to(tmp_path / "precious")
    target = begun(tmp_path / "file")
    target.write(b"x" * STEP)
    target.drop()
    assert (tmp_path / "precious").read_bytes() == b"precious" * STEP
