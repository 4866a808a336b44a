"""Two sites that send files by the other emulator of Globus; a person has logged in, and the refresh token changes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update
from tests.network.globus_other import OtherGlobus
from tests.network.globus_other_tasks import Collection, Mood, Task
from tests.network.pump import Pump

from goggles.errors import GogglesError
from goggles.librarian.managers.globus.credentials import Credentials, Login
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, free_port, wait_until
from goggles.testing.network import PASSWORD, Network

PERSON = "person@example.org"


@dataclass
class Place:
    """All that a test needs of them."""

    network: Network
    globus: OtherGlobus
    here: Collection
    there: Collection
    token: Path
    credentials: Credentials
    port: int  # of the metrics
    seen: int = 0

    def put(self, home: str, count: int = 3, size: int = 5_000) -> dict[str, bytes]:
        files = {f"{home}/{number}": os.urandom(size + number) for number in range(count)}
        with self.network["source"].connect() as fs:
            fs.mkdir(home)
            for path, data in files.items():
                fs.write(path, data)
        self.network["source"].wait_settled()
        return files

    def send(self) -> None:
        with contextlib.suppress(GogglesError):
            self.network.run("source", "send_clone")

    def sent(self, home: str, *moods: Mood, count: int = 3) -> dict[str, bytes]:
        """Files that are on their way, in tasks of these moods."""
        self.globus.moods.extend(moods)
        files = self.put(home, count)
        self.send()
        return files

    def tasks(self, files: dict[str, bytes]) -> list[Task]:
        found = self.globus.transfers()
        names = tuple(files)
        return [task for task in found if any(i["source_path"].endswith(names) for i in task.document["DATA"])]

    def exist(self, files: dict[str, bytes] | list[str]) -> bool:
        with self.network["central"].connect() as fs:
            return all(fs.exists(path) for path in files)

    def arrive(self, files: dict[str, bytes], seconds: float = 40.0) -> None:
        """All of them, as they were; whatever was put off is tried at once."""

        def there() -> bool:
            self.hurry()
            self.send()
            return self.exist(files)

        wait_until("files at the destination", there, seconds)
        with self.network["central"].connect() as fs:
            assert {path: b"".join(fs.read(path)) for path in files} == files

    def sql(self, query, site: str = "source") -> list:
        database = Database.open(self.network[site].database)
        try:
            with database.write() as connection:
                found = connection.execute(query)
                return list(found.all()) if found.returns_rows else []
        finally:
            database.close()

    def hurry(self) -> None:
        self.sql(update(peering.send_queue).values(not_before=0.0))

    def troubles(self) -> str:
        return "\n".join(row.message for row in self.sql(select(peering.errors.c.message)))

    def clear(self) -> None:
        for row in self.network.admin("source", "search_errors", ()):
            self.network.admin("source", "clear_error", dict(row)["id"])

    def log(self, site: str = "source") -> str:
        """What was logged since the test began."""
        return (self.network[site].folder / "nameserver.log").read_text(errors="replace")[self.seen :]

    def flights(self) -> list[dict]:
        return [dict(row) for row in self.network.admin("source", "get_transfers")]

    def shell(self, line: str) -> str:
        site = self.network["source"]
        command = [
            sys.executable,
            "-m",
            "goggles.cli.client",
            "--ns_hostname",
            "localhost",
            "--ns_port",
            str(site.port),
        ]
        command += [*site.certificates.flags("admin", Role.ADMIN), "-c", line]
        environment = {**os.environ, "PYTHONPATH": SOURCE}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def metrics(self, *names: str) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = [sample for family in families for sample in family.samples if sample.name in names]
        assert all(sample.labels == {"peer": "central", "manager": "globus"} for sample in samples)
        return {sample.name: sample.value for sample in samples}

    def waits(self, what: str, true: Callable[[], bool], seconds: float = 30.0) -> None:
        wait_until(what, true, seconds)

    def log_in(self, **more) -> None:
        login = Login(self.credentials, **more)
        login.finish(self.globus.auth.browse(login.url, PERSON))

    def reset(self) -> None:
        """Nothing goes wrong any more, and nothing is under way."""
        globus = self.globus
        globus.moods.clear()
        globus.trips.clear()
        globus.mood, globus.lag, globus.blind, globus.rate, globus.lists_break = Mood, 0.0, 0.0, 0, False
        globus.max_pending, globus.cancel_takes = 100, 0.0
        globus.resume()
        with globus.engine.lock:
            for task in list(globus.engine.tasks.values()):
                globus.engine.cancel(task)
        self.there.umask, self.there.online, self.there.session = 0o022, True, None
        self.here.consent = self.there.consent = False
        self.clear()


@contextlib.contextmanager
def two_sites(folder: Path) -> Iterator[Place]:
    """Ready to send, by Globus alone."""
    with OtherGlobus() as globus, pytest.MonkeyPatch.context() as patch:
        for name, value in globus.environment.items():
            patch.setenv(name, value)
        here = globus.collection("/")
        there = globus.collection(folder / "sites" / "central" / "storages" / "carol")
        credentials = Credentials(globus.auth.register(native=True).client_id, True, folder / "token")
        flags = ["--globus_enable", "--globus_client_native_app", "--globus_client_id", credentials.client_id]
        flags += ["--globus_client_secret_file", str(credentials.file), "--globus_local_endpoint_id", here.id]
        flags += ["--loglevel", "debug", "--heartbeat", "0.3", "--globus_patience", "1", "--offer_again", "1"]
        names, port = {"source": ("alice",), "central": ("carol",)}, free_port()
        made = Network(folder / "sites", names, flags, globus.environment)
        made["source"]._nameserver_flags += ["--metrics_port", str(port)]
        with made as network:
            network["central"].storages["carol"].stop()
            network["central"].start_storage("carol", ["--globus_endpoint", there.id, "--globus_root", "/"])
            network["central"].wait_active(["carol"])
            network.link("source", "central")
            network.admin("source", "remove_librarian", "central", True)
            who = "source:" + PASSWORD.format("source", "central")
            far = network["central"].port
            network.admin("source", "add_librarian", "central", "localhost", far, who, managers=("globus",))
            place = Place(network, globus, here, there, credentials.file, credentials, port)
            place.log_in()
            globus.auth.rotates = True
            with Pump(network):
                yield place
