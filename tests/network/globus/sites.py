"""Two sites of real processes that send files by the emulator of Globus, and what tests do with them."""

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
from tests.network.globus.collection import Collection
from tests.network.globus.server import Globus
from tests.network.globus.tasks import Mood, Task
from tests.network.pump import Pump

from goggles.errors import GogglesError
from goggles.librarian.managers.globus.credentials import Credentials, Login
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, free_port, wait_until
from goggles.testing.network import PASSWORD, Network

PERSON = "person@example.org"


@dataclass
class Place:
    """All that a test needs of them."""

    network: Network
    globus: Globus
    here: Collection
    there: Collection
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
            self.send()
            return self.exist(files)

        self.hurried("files at the destination", there, seconds)
        with self.network["central"].connect() as fs:
            assert {path: b"".join(fs.read(path)) for path in files} == files

    def waiting(self) -> list:
        """The batches that wait."""
        return self.sql(select(peering.send_queue).where(peering.send_queue.c.state == "waiting"))

    def leaks(self) -> list[str]:
        """What holds a secret and is not the one file for it: not a log at its most talkative, not a database."""
        told = [secret.encode() for secret in self.globus.auth.secrets_out()]
        files = [file for site in self.network.sites.values() for file in site.folder.rglob("*") if file.is_file()]
        kept = {file: file.read_bytes() for file in files if "storages" not in file.parts}
        return [file.name for file, data in kept.items() if any(secret in data for secret in told)]

    def sql(self, query, site: str = "source") -> list:
        return sql(self.network[site], query)

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
        command = [sys.executable, "-m", "goggles.cli.client", "--ns_hostname", "localhost"]
        command += ["--ns_port", str(site.port), *site.certificates.flags("admin", Role.ADMIN), "-c", line]
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

    def hurried(self, what: str, true: Callable[[], bool], seconds: float = 30.0) -> None:
        hurried(self.network["source"], what, true, seconds)

    def log_in(self, **more) -> None:
        log_in(self.globus, self.credentials, **more)

    def begin(self) -> None:
        self.seen = 0
        self.seen = len(self.log())
        self.globus.asked.clear()

    def reset(self) -> None:
        """Nothing goes wrong any more, and nothing is under way."""
        globus = self.globus
        globus.moods.clear()
        globus.trips.clear()
        globus.lag, globus.blind, globus.rate, globus.lists_break = 0.0, 0.0, 0, False
        globus.max_pending, globus.cancel_takes = 100, 0.0
        globus.resume()
        with globus.engine.lock:
            for task in list(globus.engine.tasks.values()):
                globus.engine.cancel(task)
        self.there.umask, self.there.online, self.there.session = 0o022, True, None
        self.there.consent = False
        self.clear()


def sql(site: Cluster, query) -> list:
    """Carried out in the database of a site."""
    database = Database.open(site.database)
    try:
        with database.write() as connection:
            found = connection.execute(query)
            return list(found.all()) if found.returns_rows else []
    finally:
        database.close()


def hurried(site: Cluster, what: str, true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait, and whatever a site has put off meanwhile is due at once."""

    def done() -> bool:
        sql(site, update(peering.send_queue).values(not_before=0.0))
        return true()

    wait_until(what, done, seconds)


def log_in(globus: Globus, credentials: Credentials, **more) -> None:
    """What a person does, once."""
    login = Login(credentials, **more)
    login.finish(globus.auth.browse(login.url, PERSON))


@contextlib.contextmanager
def two_sites(folder: Path, *, native: bool) -> Iterator[Place]:
    """Ready to send, by Globus alone.  `native`: a person is logged in, whose refresh token changes at each use, and
    one storage sends.  Else it is an application, and two storages send that are in collections of their own."""
    sites = folder / "sites"
    arrivals, root = (sites / "central/storages/carol", "/") if native else (sites / "central/storages", "/carol")
    with Globus() as globus, pytest.MonkeyPatch.context() as patch:
        for name, value in globus.environment.items():
            patch.setenv(name, value)
        here, there = globus.collection("/"), globus.collection(arrivals)
        app = globus.auth.register(native=native)
        credentials = Credentials(app.client_id, native, folder / "token")
        if app.secret:
            credentials.keep(app.secret)
        flags = [*settings(credentials, here), "--loglevel", "debug", "--heartbeat", "0.3"]
        flags += ["--globus_patience", "1", "--offer_again", "1"]
        names, port = {"source": ("alice",) if native else ("alice", "bob"), "central": ("carol",)}, free_port()
        made = Network(sites, names, flags, globus.environment)
        made["source"]._nameserver_flags += ["--metrics_port", str(port)]
        with made as network:
            place = Place(network, globus, here, there, credentials, port)
            restarted(network["central"], "carol", "--globus_endpoint", there.id, "--globus_root", root)
            if not native:
                other = globus.collection("/")
                restarted(network["source"], "bob", "--globus_endpoint", other.id, "--globus_available", "no")
            network.link("source", "central")
            prefer(network, "globus")
            if native:
                place.log_in()
                globus.auth.rotates = True
            with Pump(network):
                yield place


def settings(credentials: Credentials, here: Collection) -> list[str]:
    """Flags of a nameserver whose storages are in this collection."""
    flags = ["--globus_enable", "--globus_client_id", credentials.client_id]
    flags += ["--globus_client_secret_file", str(credentials.file), "--globus_local_endpoint_id", here.id]
    return [*flags, *(["--globus_client_native_app"] if credentials.native else [])]


def application(globus: Globus, folder: Path) -> Credentials:
    """A confidential app that may log in."""
    app = globus.auth.register(native=False)
    made = Credentials(app.client_id, False, folder / "secret")
    made.keep(str(app.secret))
    return made


def restarted(site: Cluster, storage: str, *flags: str) -> None:
    site.storages[storage].stop()
    site.start_storage(storage, flags)
    site.wait_active([storage])


def prefer(network: Network, *managers: str) -> None:
    """Have the source send to central with these."""
    network.admin("source", "remove_librarian", "central", True)
    who = "source:" + PASSWORD.format("source", "central")
    port = network["central"].port
    network.admin("source", "add_librarian", "central", "localhost", port, who, managers=managers)
