"""A private PostgreSQL cluster in a folder of its own, as the tests need it; nothing else is touched.

Law: it listens on 127.0.0.1 at a port of its own and at a socket in its folder, and is gone with its folder when the
block ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from goggles.testing.cluster import free_port, wait_until

OWNER = "postgres"  # PostgreSQL refuses to run as root


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest one; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def why_not() -> str:
    """Why no cluster can be started here, in one line; empty where it can."""
    if programs() is None:
        return "no PostgreSQL here (apt-get install postgresql)"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser here"
    return ""


def _as_owner(command: Sequence[str]) -> list[str]:
    return ["runuser", "-u", OWNER, "--", *command] if os.geteuid() == 0 else list(command)


class Postgres:
    """A cluster in `folder`; `start`, `stop`, `kill` as often as you like, on the same port."""

    def __init__(self, folder: Path, bin_folder: Path, owner: str, settings: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._folder = folder
        self._bin = bin_folder
        self._owner = owner
        self._settings = [word for setting in settings for word in ("-c", setting)]
        self._server: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """A new cluster, not started."""
        words = ["initdb", "-D", self._data, "-U", self._owner, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        self._run(words)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, words: Sequence[str]) -> None:
        command = _as_owner([str(self._bin / words[0]), *words[1:]])
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        """Start it and wait until it answers; after a crash that is when it has recovered."""
        words = [str(self._bin / "postgres"), "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1"]
        words += ["-k", str(self._folder), *self._settings]
        with open(self._folder / "log", "ab") as log:
            self._server = subprocess.Popen(_as_owner(words), stdout=log, stderr=log, cwd="/")
        wait_until("PostgreSQL ready", self.ready, 30)

    def stop(self, mode: str = "immediate") -> None:
        """`mode`: smart, fast or immediate, as `pg_ctl` has them."""
        if self._server is not None:
            self._run(["pg_ctl", "stop", "-w", "-m", mode, "-D", self._data])
            self._server.wait(20)
            self._server = None

    def kill(self) -> None:
        """SIGKILL for the server and all of its processes, at once."""
        assert self._server is not None
        first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        for pid in (first, *_children(first)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait(20)
        self._server = None

    def new_database(self, *more: str, by_socket: bool = False) -> str:
        """The URL of a new, empty database; `more`: flags of `createdb`.

        `by_socket`: for programs that share our files, and not our network."""
        name = f"t{secrets.token_hex(6)}"
        flags = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self._owner]
        subprocess.run([str(self._bin / "createdb"), *flags, *more, name], check=True, capture_output=True)
        if by_socket:
            return f"postgresql+psycopg://{self._owner}@/{name}?host={self._folder}&port={self.port}"
        return f"postgresql+psycopg://{self._owner}@127.0.0.1:{self.port}/{name}"

    def ready(self) -> bool:
        flags = ["-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run([str(self._bin / "pg_isready"), *flags], check=False).returncode == 0


def _children(pid: int) -> list[int]:
    """The processes that this one has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
    return found


@contextmanager
def running(*settings: str) -> Iterator[Postgres]:
    """A cluster for the length of a block; `settings`: NAME=VALUE, as in postgresql.conf."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="goggles-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER)
    postgres = Postgres(folder, bin_folder, OWNER, settings)
    postgres.make()
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder)
