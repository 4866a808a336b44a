"""goggles fsck and goggles restoretree, as an operator types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles.testing.cluster import SOURCE, Cluster


def goggles(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "goggles.cli.goggles", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    return done


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "site", ("alice",), nameserver_flags=["--copies", "1"]) as site:
        with site.connect() as fs:
            fs.write("/file", b"bytes")
        site.wait_settled()
        yield site


def test_fsck_is_for_a_site_that_stands_still(site: Cluster, tmp_path: Path) -> None:
    words = ("fsck", "--database", site.database, f"alice={site.root('alice')}")
    running = goggles(*words, cwd=tmp_path)
    assert running.returncode == 2
    assert "running" in running.stderr
    assert site.nameserver is not None
    site.nameserver.stop()
    assert goggles(*words, cwd=tmp_path).returncode != 0, "the storage runs still"
    site.storages["alice"].stop()
    still = goggles(*words, cwd=tmp_path)
    assert (still.returncode, still.stdout) == (0, "database and disks agree\n")
    (site.root("alice") / "file").unlink()
    assert goggles(*words, cwd=tmp_path).returncode == 1


def test_fsck_makes_no_database(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    done = goggles("fsck", "--database", "nope.db", "alice=alice", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no database nope.db" in done.stderr
    assert not (tmp_path / "nope.db").exists()


def test_restoretree_does_not_overwrite_the_last_tree(site: Cluster, tmp_path: Path) -> None:
    site.stop()
    (tmp_path / "tree.json").write_text("precious")
    refused = goggles("restoretree", site.root("alice"), cwd=tmp_path)
    assert refused.returncode == 2
    assert (tmp_path / "tree.json").read_text() == "precious"
    assert goggles("restoretree", "--force", site.root("alice"), cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "tree.json").read_text())["/file"]["size"] == 5


@pytest.mark.parametrize("words", [(), ("nonsense",), ("fsck",), ("fsck", "--database", "x", "no-equals-sign")])
def test_wrong_words_are_said_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = goggles(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_tree_json_that_could_not_be_written_is_said_at_the_start(site: Cluster, tmp_path: Path) -> None:
    assert site.nameserver is not None
    site.nameserver.stop()
    process = site.start_nameserver(["--treejson", str(tmp_path / "no/such/folder/tree.json")])
    assert process.wait() == 2
    assert "no folder for --treejson" in process.log.read_text()


def test_a_stop_that_could_not_write_the_tree_is_no_success(site: Cluster, tmp_path: Path) -> None:
    assert site.nameserver is not None
    site.nameserver.stop()
    (tmp_path / "there").mkdir()
    process = site.start_nameserver(["--treejson", str(tmp_path / "there/tree.json")])
    site.wait_active(("alice",))
    (tmp_path / "there").rmdir()
    assert process.stop() == 1
