"""The README's scripts, run as they stand there against a site of real processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster

HOME = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/scripting.md")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[object]:
    """Each block that connects somewhere; the others show a part only."""
    found = []
    for page in PAGES:
        blocks = FENCE.findall((HOME / page).read_text("utf-8"))
        found += [pytest.param(b, id=f"{page}-{n}") for n, b in enumerate(blocks) if "8000" in b]
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("readme"), ["alice", "bob"], capacity=1 << 30) as cluster:
        cluster.certificates.files("ann", Role.CLIENT)
        yield cluster


@pytest.mark.parametrize("text", examples())
def test_an_example_runs_as_it_stands(text: str, cluster: Cluster, tmp_path: Path) -> None:
    shutil.copytree(cluster.certificates.folder, tmp_path / "certs")
    script = tmp_path / "example.py"
    script.write_text(text.replace("8000", str(cluster.port)), "utf-8")
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    command = [sys.executable, script]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout, "an example shows something"
    assert not ran.stderr


def test_there_is_an_example_for_each_door() -> None:
    blocks = FENCE.findall((HOME / "README.md").read_text("utf-8"))
    assert any("goggles.connect(" in block for block in blocks)
    assert any("rpyc.connect_stream(" in block for block in blocks)
