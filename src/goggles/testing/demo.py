"""The main job, end to end, on real input: `make demo`, and `make shell` on the same cluster.

Law: each line of the table is a measurement or a comparison that was made just now; the exit code is 0 only if all
of them held.  Nothing is left running, and nothing behind outside the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.errors import GogglesError
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until

STORAGES = ("alice", "bob", "carol")
BIG = 256 << 20
LEAVE_OUT = {"__pycache__", "site-packages"}


class Report:
    """The steps taken, how long each took, and what was found."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[tuple[str, float, str, bool]] = []

    @property
    def good(self) -> bool:
        return all(row[3] for row in self._rows)

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str, bool], None]]:
        """Time a step; it says what it found and whether that is as it should be."""
        self._console.print(f"  {title} ...", highlight=False)
        found: list[tuple[str, bool]] = []
        began = time.monotonic()
        try:
            yield lambda text, good: found.append((text, good))
        except (GogglesError, AssertionError, OSError) as error:
            found.append((str(error), False))
        text, good = found[-1] if found else ("nothing was found out", False)
        self._rows.append((title, time.monotonic() - began, text, good))
        if not good:
            raise Failed(f"{title}: {text}")

    def show(self) -> None:
        table = Table(title="verbose-goggles: the main job")
        for heading in ("step", "seconds", "found", ""):
            table.add_column(heading, justify="right" if heading == "seconds" else "left", overflow="fold")
        for title, seconds, text, good in self._rows:
            table.add_row(title, f"{seconds:.1f}", text, "ok" if good else "FAILED")
        self._console.print(table)


class Failed(Exception):
    """A step did not hold; the steps after it make no sense."""


def gather(folder: Path) -> Path:
    """Real input below `folder`: this Python's standard library, and one file of 256 MiB."""
    source = folder / "input"
    library = Path(sysconfig.get_paths()["stdlib"])
    shutil.copytree(library, source / "python", ignore=lambda _, names: LEAVE_OUT & set(names), symlinks=False)
    block = os.urandom(1 << 20)
    with open(source / "big.bin", "wb") as big:
        for number in range(BIG >> 20):
            big.write(number.to_bytes(8, "big") + block[8:])
    return source


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder`, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def rate(size: int, seconds: float) -> str:
    return f"{size / 1e6 / max(seconds, 1e-9):.0f} MB/s"


class Demo:
    """The steps, in their order."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._report = Report(console)
        self._cluster = Cluster(folder / "site", STORAGES, nameserver_flags=["--grace", "5"])

    def run(self) -> bool:
        try:
            self._steps()
        except Failed:
            pass
        finally:
            self._cluster.stop()
        self._report.show()
        return self._report.good

    def _steps(self) -> None:
        self._prepare()
        with self._cluster.connect(timeout=60) as fs:
            self._upload(fs)
            self._list(fs)
            self._kill_storage(fs)
            self._read_back(fs, "read everything back, one storage dead")
            self._whole(fs, "every file has its two copies again")
            self._bring_back(fs)
            self._kill_nameserver(fs)
            self._read_back(fs, "read everything back after the restart")
        self._stop()

    def _prepare(self) -> None:
        with self._report.step("gather real input") as found:
            self._source = gather(self._folder)
            self._wanted = digests(self._source)
            self._size = sum(p.stat().st_size for p in self._source.rglob("*") if p.is_file())
            found(f"{len(self._wanted)} files, {self._size / 1e6:.0f} MB", len(self._wanted) > 500)
        with self._report.step("start a nameserver and three storages") as found:
            self._cluster.start()
            found("all active", True)

    def _upload(self, fs: Session) -> None:
        with self._report.step("upload, two durable copies each") as found:
            began = time.monotonic()
            summary = fs.put_tree(self._source, "/demo")
            seconds = time.monotonic() - began
            text = f"{summary.files} files, {rate(self._size, seconds)}, {len(summary.failed)} failed"
            found(text, summary.files == len(self._wanted) and not summary.failed)

    def _list(self, fs: Session) -> None:
        with self._report.step("list, and compare sizes and digests") as found:
            files = {e.path[len("/demo/") :]: e.hash for e in fs.find("/demo") if isinstance(e, FileInfo)}
            found(f"{len(files)} files listed", files == self._wanted)

    def _kill_storage(self, fs: Session) -> None:
        with self._report.step("kill storage alice (SIGKILL)") as found:
            self._cluster.storages["alice"].kill()
            wait_until("alice is missed", lambda: self._state(fs, "alice") not in ("active", "checking"))
            found(f"the nameserver has it as {self._state(fs, 'alice')}", True)

    def _read_back(self, fs: Session, title: str) -> None:
        with self._report.step(title) as found:
            target = Path(tempfile.mkdtemp(prefix="back-", dir=self._folder))
            began = time.monotonic()
            summary = fs.get_tree("/demo", target / "demo")
            seconds = time.monotonic() - began
            same = digests(target / "demo") == self._wanted
            shutil.rmtree(target)
            verdict = "every sha256 as uploaded" if same else "DIFFERENT from what was uploaded"
            found(f"{summary.files} files, {rate(self._size, seconds)}, {verdict}", same)

    def _whole(self, fs: Session, title: str) -> None:
        with self._report.step(title) as found:
            wait_until("all copies made", lambda: fs.du()[0].owed == 0, 90)
            short = [e.path for e in fs.find("/demo") if isinstance(e, FileInfo) and e.live < 2]
            found(f"{len(short)} files short of a copy", not short)

    def _bring_back(self, fs: Session) -> None:
        with self._report.step("bring alice back: self-check, surplus trimmed") as found:
            self._cluster.start_storage("alice")
            self._cluster.wait_active(STORAGES)
            wait_until("surplus trimmed", lambda: self._copies(fs) == 2 * len(self._wanted), 90)
            found(f"{self._copies(fs)} copies of {len(self._wanted)} files", True)

    def _kill_nameserver(self, fs: Session) -> None:
        with self._report.step("kill the nameserver (SIGKILL), start it again") as found:
            assert self._cluster.nameserver is not None
            self._cluster.nameserver.kill()
            self._cluster.start_nameserver()
            self._cluster.wait_active(STORAGES)
            site = fs.du()[0]
            found(f"epoch {site.epoch}, {site.files} files, {site.owed} owed", site.files == len(self._wanted))

    def _stop(self) -> None:
        with self._report.step("stop everything, compare database and disks") as found:
            from goggles.testing.fsck import fsck

            self._cluster.stop()
            problems = fsck(self._cluster.database, {name: self._cluster.root(name) for name in STORAGES})
            found(problems[0] if problems else "they agree, byte for byte", not problems)

    @staticmethod
    def _state(fs: Session, name: str) -> str:
        return next((info.state for info in fs.du()[1] if info.name == name), "unknown")

    @staticmethod
    def _copies(fs: Session) -> int:
        return sum(info.files for info in fs.du()[1])


def shell(folder: Path, command: Sequence[str], console: Console) -> int:
    """The cluster, with the interactive shell on it."""
    with Cluster(folder / "site", STORAGES) as cluster:
        certificate, key = cluster.certificates.files("admin", Role.ADMIN)
        flags = [
            "--ns_hostname",
            "localhost",
            "--ns_port",
            str(cluster.port),
            "--ca_cert",
            str(cluster.certificates.ca),
        ]
        flags += ["--certfile", str(certificate), "--keyfile", str(key), *command]
        source = str(Path(__file__).resolve().parents[2])
        runs = f"A nameserver and the storages {', '.join(STORAGES)} run; their files are below {folder / 'site'}."
        console.print(
            f"{runs}\nYou are its administrator.  Try: put README.md, ls -l, du", highlight=False, soft_wrap=True
        )
        code = subprocess.call(
            [sys.executable, "-m", "goggles.cli.client", *flags], env={**os.environ, "PYTHONPATH": source}
        )
    console.print("All of it is stopped; make shell opens it again, make clean removes its files.", highlight=False)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--folder", type=Path, default=Path("tmp/demo"), help="where everything is kept (default: %(default)s)"
    )
    parser.add_argument("--shell", action="store_true", help="open the shell on the cluster instead")
    options, rest = parser.parse_known_args(argv)
    console = Console()
    folder = options.folder.resolve()
    if options.shell:
        return shell(folder.parent / "shell", rest, console)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    try:
        good = Demo(folder, console).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console.print(f"{'all of it held' if good else 'IT DID NOT HOLD'}, {time.monotonic() - began:.0f} s in all")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
