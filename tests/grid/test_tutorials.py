"""Pages whose commands can be typed here, block by block as they stand there, into one bash."""

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
from goggles.testing.postgres import OWNER, running, why_not

HOME = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("8000", "8001", "8002", "9000", "9001", "9002", "9100", "5432")


def blocks(page: str, ports: dict[str, str]) -> str:
    """All that is typed, with other ports."""
    text = "\n".join(BLOCK.findall((HOME / "docs" / page).read_text("utf-8")))
    return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[1]], text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a clone with `make venv` done looks like from a tutorial."""
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    (tmp_path / "Makefile").write_text(".PHONY: venv\nvenv: ;\n")
    return tmp_path


@pytest.fixture
def typed(folder: Path) -> Iterator[Callable[..., str]]:
    """Type pages into one terminal; what is shown.  Nothing that was started stays."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOGGLES", "HL_"))}
    shells = []

    def run(*pages: str, postgres: int = 0) -> str:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        ports = {port: str(free_port()) for port in PORTS}
        where = {"GOGGLES_PORT": ports["8000"], "GOGGLES_NS_PORT": ports["8000"]}  # where a page says nothing of it
        environment = kept | where | {"HOME": str(folder)}
        if postgres:
            ports["5432"] = str(postgres)
            environment |= {"PGHOST": "127.0.0.1", "PGPORT": str(postgres), "PGUSER": OWNER}
        command = ["bash", "-euo", "pipefail"]
        shell = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)
        shells.append(shell)
        shown, _ = shell.communicate("\n".join(blocks(page, ports) for page in pages), timeout=220)
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


@pytest.mark.slow
def test_getting_started_as_the_page_has_it(folder: Path, typed: Callable[..., str]) -> None:
    shown = typed("getting-started.md")
    assert shown.splitlines().count("it works") == 3  # read through the site, and from the disks of two storages
    assert (folder / "tmp" / "site" / "storage-alice" / "notes.txt").read_text() == "it works\n"


@pytest.mark.slow
def test_certificates_as_the_page_has_it(folder: Path, typed: Callable[..., str]) -> None:
    shown = typed("certificates.md")
    assert "is still let in" not in shown
    assert shown.count("nothing speaks against a handshake") == 5, shown
    assert shown.splitlines().count("kept") == 8, shown
    after_a_new_key = shown.rpartition("made ca/bob/bob.key")[2].partition("revoked ca/ann")[0]
    assert re.search(r"^bob .* active *$", after_a_new_key, re.MULTILINE), shown
    after_the_old_ca = shown.rpartition("nothing speaks against a handshake")[2].partition("made ca-2/eve")[0]
    assert len(re.findall(r"^(?:alice|bob) .* active *$", after_the_old_ca, re.MULTILINE)) == 4, shown


@pytest.mark.slow
def test_backup_as_the_page_has_it(folder: Path, typed: Callable[..., str]) -> None:
    shown = typed("backup.md").splitlines()
    assert len([line for line in shown if "0/2 owed 2" in line]) == 4, shown  # the nameserver on the dump
    assert [line for line in shown if re.match(r"(alice|bob) .* held *$", line)] != [], shown
    assert shown[shown.index("second") :][:3] == ["second", "first renamed", "first kept"], shown
    after = [line.split()[-3:] for line in shown if re.match(r"file .* 2/2 +1 .* tree\.json ", line)]
    assert [row[0] for row in after] == ["kept", "new", "overwritten", "renamed"], shown
    assert shown[-1].startswith("database and disks agree"), shown[-3:]


@pytest.mark.slow
@pytest.mark.postgresql
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")
def test_postgresql_as_the_page_has_it(folder: Path, typed: Callable[..., str]) -> None:
    with running() as server:
        lines = typed("postgresql.md", postgres=server.port).splitlines()
    assert lines.count("kept") == 4, lines
    assert lines.count("tls true") == 1, lines
    assert [line for line in lines if line.startswith("tls ")] == ["tls true"], lines
    assert len([line for line in lines if line.endswith("read back and found the same")]) == 3, lines
    assert "it ended with 1" in lines
    assert "warning" not in "".join(lines).lower(), lines
