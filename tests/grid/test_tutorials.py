"""The tutorials, typed block by block as they stand there into one bash."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goggles.testing.cluster import free_port

HOME = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("8000", "8001", "8002", "9000", "9001", "9002")


def blocks(page: str) -> str:
    """All that is typed, with ports that are free here."""
    text = "\n".join(BLOCK.findall((HOME / "docs" / page).read_text("utf-8")))
    for port in PORTS:
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a clone with `make venv` done looks like from a tutorial."""
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    (tmp_path / "Makefile").write_text(".PHONY: venv\nvenv: ;\n")
    return tmp_path


@pytest.fixture
def typed(folder: Path) -> Iterator[Callable[[str], str]]:
    """Type pages into one terminal; what is shown.  Nothing that was started stays."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOGGLES", "HL_"))}
    shells = []

    def run(*pages: str) -> str:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = kept | {"HOME": str(folder)}
        command = ["bash", "-euo", "pipefail"]
        shell = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)
        shells.append(shell)
        shown, _ = shell.communicate("\n".join(map(blocks, pages)), timeout=220)
        assert shell.returncode == 0, shown
        return shown

    yield run
    for shell in shells:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_tutorials_one_after_the_other(folder: Path, typed: Callable[..., str]) -> None:
    shown = typed("getting-started.md", "two-sites.md")
    assert shown.count("it works\n") == 3, "once from the tree, and once from each storage"
    assert "connected: source to central" in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith(("source ", "central "))]
    good = sorted((row[0], row[1]) for row in rows if row[2] == "yes" and ":" not in row[1])
    assert good == [("central", "carol"), ("central", "dave"), ("source", "alice"), ("source", "bob")]
    assert not (folder / "tmp" / "two").exists()
