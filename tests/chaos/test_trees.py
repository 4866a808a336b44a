"""What stops a directory on its way: the user hears of it soon, and of every file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles.client.api import Progress
from goggles.testing.cluster import Cluster

FILES = 600
PATIENCE = 2.0


def fill(folder: Path, number: int, size: int) -> Path:
    folder.mkdir()
    for index in range(number):
        (folder / f"{index:03}").write_bytes(b"x" * size)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("gone"), ("alice", "bob")) as cluster:
        yield cluster


def test_a_directory_is_given_up_when_nobody_answers(tmp_path: Path) -> None:
    local = fill(tmp_path / "local", FILES, 10)
    with Cluster(tmp_path / "cluster", ("alice", "bob")) as cluster, cluster.connect(timeout=PATIENCE) as fs:
        assert cluster.nameserver is not None
        nameserver = cluster.nameserver

        def unplug(progress: Progress) -> None:
            if progress.files_done == 1:
                nameserver.kill()

        began = time.monotonic()
        summary = fs.put_tree(local, "/there", progress=unplug)
        assert time.monotonic() - began < 10 * PATIENCE, "each file waited by itself"
    assert summary.files < FILES
    assert summary.files + len(summary.failed) == FILES
    assert len({path for path, _ in summary.failed}) == len(summary.failed)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_progress_report_that_fails_is_no_success(tmp_path: Path, cluster: Cluster, size: int) -> None:
    local = fill(tmp_path / "local", 200, size)

    def fails(progress: Progress) -> None:
        raise ZeroDivisionError("in the script")

    with cluster.connect() as fs, pytest.raises(ZeroDivisionError):
        fs.put_tree(local, f"/fails-{size}", progress=fails)
