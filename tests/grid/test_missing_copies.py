"""Somebody deletes plain files in the folder of a storage that runs: the copies are missed, and made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from goggles.testing.cluster import Cluster, wait_until

Factory = Callable[..., Cluster]
SMALL, LARGE = 100, 3 << 20


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("way", ["read", "get", "range"])
def test_a_reader_reports_a_copy_that_is_not_there(cluster: Factory, tmp_path: Path, size: int, way: str) -> None:
    site = cluster("alice", "bob")
    fs = site.connect()
    data = b"x" * size
    fs.write("/file", data)
    site.wait_settled(20)
    deleted = site.root("alice") / "file"
    deleted.unlink()

    def made_anew() -> bool:
        if way == "get":
            fs.get("/file", tmp_path / "back", overwrite=True)
            assert (tmp_path / "back").read_bytes() == data
        else:
            assert (
                b"".join(fs.read("/file", 0, 50 if way == "range" else None)) == data[: 50 if way == "range" else size]
            )
        return deleted.exists()

    wait_until("the copy made anew", made_anew, 30)


def test_a_scrub_misses_the_copies_that_are_not_there(cluster: Factory) -> None:
    site = cluster("alice", "bob", storage_flags=("--scrub_days", "0.00003"))
    fs = site.connect()
    for number in range(5):
        fs.write(f"/file{number}", b"x" * 100)
    site.wait_settled(20)
    deleted = [site.root("alice") / f"file{number}" for number in range(3)]
    for path in deleted:
        path.unlink()
    wait_until("the copies made anew", lambda: all(path.exists() for path in deleted), 60)


def test_a_storage_whose_folder_was_removed_counts_no_more(cluster: Factory) -> None:
    site = cluster("alice", "bob", "carol")
    fs = site.connect()
    for number in range(5):
        fs.write(f"/file{number}", b"x" * 100)
    site.wait_settled(20)
    shutil.rmtree(site.root("alice"))
    wait_until("alice is down", lambda: site.states()["alice"] == "down", 20)
    assert "was removed while this storage ran" in (site.folder / "alice.log").read_text()
    site.wait_whole(30)
    assert all(set(entry.storages) >= {"bob", "carol"} for entry in fs.ls("/"))
    site.storages["alice"].stop()
    site.start_storage("alice")
    site.wait_active(site.names, 30)
