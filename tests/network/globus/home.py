"""Two folders that are collections, and what speaks to the emulator about them, without sites."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.network.globus.collection import Collection
from tests.network.globus.server import Globus
from tests.network.globus.sites import application, log_in

from goggles.librarian.managers.globus.checking import Spot
from goggles.librarian.managers.globus.credentials import Credentials
from goggles.librarian.managers.globus.service import Globus as Service
from goggles.testing.cluster import SOURCE

JOB = {"label": "l", "deadline": "2099-01-01T00:00:00+00:00", "items": {"1": ["/a", "/b"]}}


@dataclass
class Home:
    globus: Globus
    folder: Path
    here: Collection
    there: Collection

    @property
    def incoming(self) -> Path:
        return self.folder / "there/store/.goggles/incoming"

    def person(self) -> Credentials:
        """A native app; nobody has logged in yet."""
        return Credentials(self.globus.auth.register(native=True).client_id, True, self.folder / "token")

    def logged_in(self) -> Credentials:
        who = self.person()
        self.log_in(who)
        return who

    def log_in(self, who: Credentials, **more: Any) -> None:
        log_in(self.globus, who, **more)

    def application(self) -> Credentials:
        return application(self.globus, self.folder)

    def job(self, service: Service, **more: Any) -> dict[str, Any]:
        ends = {"source": self.here.id, "destination": self.there.id}
        return {**JOB, **ends, "submission": service.submission_id(), **more}

    def spots(self) -> list[Spot]:
        """What check-globus looks at."""
        source = Spot("source", self.here.id, "/store", writes=False)
        return [source, Spot("destination", self.there.id, "/store", writes=True)]

    def command(self, program: str, who: Credentials | None, *flags: str) -> list[str]:
        command = [sys.executable, "-u", "-m", f"goggles.cli.{program}"]
        if who:
            command += ["--globus_client_id", who.client_id, "--globus_client_secret_file", str(who.file)]
            command += ["--globus_client_native_app"] if who.native else []
        return [*command, *flags]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.globus.environment, "PYTHONPATH": SOURCE}

    def run(self, program: str, who: Credentials | None, *flags: str, answer: str = "") -> tuple[int, str]:
        """Its exit status, and all that it said."""
        command = self.command(program, who, *flags)
        done = subprocess.run(
            command, env=self.environment, input=answer, capture_output=True, text=True, check=False, timeout=60
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def check(self, who: Credentials) -> tuple[int, str]:
        ends = ("--source", self.here.id, "--source_path", "/store", "--destination", self.there.id)
        return self.run("check_globus", who, *ends, "--destination_path", "/store")


@contextlib.contextmanager
def two_collections(folder: Path) -> Iterator[Home]:
    """With a folder `store` in each, as a storage has it."""
    for name in ("here", "there"):
        (folder / name / "store" / ".goggles" / "incoming").mkdir(parents=True)
    with Globus() as globus, pytest.MonkeyPatch.context() as patch:
        for name, value in globus.environment.items():
            patch.setenv(name, value)
        yield Home(globus, folder, globus.collection(folder / "here"), globus.collection(folder / "there"))
