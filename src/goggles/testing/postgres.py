"""A private PostgreSQL cluster in a folder of its own, as the tests need it; nothing else is touched.

Law: it listens on 127.0.0.1 at a port of its own, and is gone with its folder when the block ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """A running cluster."""

    def __init__(self, port: int, bin_folder: Path, owner: str) -> None:
        self.port = port
        self._bin = bin_folder
        self._owner = owner

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{secrets.token_hex(6)}"
        flags = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self._owner]
        subprocess.run([str(self._bin / "createdb"), *flags, name], check=True, capture_output=True)
        return f"postgresql+psycopg://{self._owner}@127.0.0.1:{self.port}/{name}"

    def ready(self) -> bool:
        flags = ["-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run([str(self._bin / "pg_isready"), *flags], check=False).returncode == 0


@contextmanager
def running() -> Iterator[Postgres]:
    """A cluster for the length of a block."""
    bin_folder = programs()
    assert bin_folder is not None
    folder, port = Path(tempfile.mkdtemp(prefix="goggles-postgres-")), free_port()
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER)
    data = str(folder / "data")
    init = [str(bin_folder / "initdb"), "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(_as_owner(init), check=True, capture_output=True, cwd="/")
    serve = [str(bin_folder / "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(_as_owner(serve), stdout=log, stderr=log, cwd="/")
    postgres = Postgres(port, bin_folder, OWNER)
    try:
        wait_until("PostgreSQL ready", postgres.ready, 30)
        yield postgres
    finally:
        stop = [str(bin_folder / "pg_ctl"), "stop", "-w", "-m", "immediate", "-D", data]  # waits for its end
        subprocess.run(_as_owner(stop), check=True, capture_output=True, cwd="/")
        server.wait(20)
        shutil.rmtree(folder)
