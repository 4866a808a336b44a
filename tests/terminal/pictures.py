"""Pictures of the shell for the documents, from real runs: `python -m tests.terminal.pictures` writes docs/pictures.

Law: what a picture shows was typed into the shell in a terminal (tmux), on a site of real processes, a moment ago.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, wait_until

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDTH, HEIGHT = 100, 34


class Terminal:
    """A real terminal with a program in it."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
        self._ask("new-session", "-d", *size, "-c", str(folder), shlex.join(command))
        self._ask("set", "-g", "status", "off")

    def _ask(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True, timeout=20).stdout

    def type(self, line: str) -> None:
        """Type a line and wait until its answer stands still."""
        self._ask("send-keys", "-l", line)
        self._ask("send-keys", "Enter")
        self.settle()

    def clear(self) -> None:
        self._ask("send-keys", "C-l")
        self.settle()

    def settle(self) -> None:
        """Return when the screen has been the same for a second."""
        before, since = "", time.monotonic()
        while time.monotonic() - since < 1.0:
            now = self.screen()
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.1)

    def screen(self) -> str:
        return self._ask("capture-pane", "-p", "-e")

    def close(self) -> None:
        self._ask("kill-server")


def draw(screen: str, title: str, file: Path) -> None:
    """What stands on a screen, with its colours, as SVG."""
    lines = screen.rstrip().splitlines()
    console = Console(record=True, width=WIDTH, height=len(lines), file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
    file.write_text(console.export_svg(title=title, unique_id=file.stem), "utf-8")


def fill(folder: Path) -> None:
    """Something to put."""
    (folder / "notes.txt").write_text("it works\n")
    runs = folder / "runs"
    runs.mkdir()
    for number in range(1, 5):
        (runs / f"run{number}.dat").write_bytes(os.urandom(number * 7_654_321))


def shell(cluster: Cluster, folder: Path) -> Terminal:
    certificate, key = cluster.certificates.files("ann", Role.CLIENT)
    words = ["--ns_port", str(cluster.port), "--ca_cert", str(cluster.certificates.ca)]
    words += ["--certfile", str(certificate), "--keyfile", str(key)]
    variables = [f"PYTHONPATH={SOURCE}", f"HOME={folder}", "TERM=xterm-256color"]
    return Terminal(["env", *variables, sys.executable, "-m", "goggles.cli.client", *words], folder)


def main() -> int:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        local = folder / "ann"
        local.mkdir()
        fill(local)
        with Cluster(folder / "site", ["alice", "bob", "carol"], capacity=2 << 30) as cluster:
            terminal = shell(cluster, local)
            terminal.settle()
            for line in ("put -r runs /runs", "put notes.txt /", "ls -l /", "stat /runs/run3.dat", "du"):
                terminal.type(line)
            draw(terminal.screen(), "vg", PICTURES / "shell.svg")
            terminal.clear()
            cluster.storages["alice"].kill()
            wait_until("alice is lost", lambda: "grace" in _du(terminal))
            terminal.clear()
            terminal.type("du")
            terminal.type("get /runs/run3.dat again.dat")
            draw(terminal.screen(), "vg", PICTURES / "lost.svg")
            terminal.close()
    return 0


def _du(terminal: Terminal) -> str:
    terminal.type("du")
    return terminal.screen()


if __name__ == "__main__":
    raise SystemExit(main())
