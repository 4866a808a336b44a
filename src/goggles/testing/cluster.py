"""A site of real processes on this machine: for the demo, the tests, the benchmarks, and your own tests.

    with Cluster(folder, storages=["alice", "bob"]) as cluster:
        fs = cluster.connect()

Law: everything is below `folder`; nothing is left running when the block ends.  Processes are the real programs,
with real certificates, on ports that were free.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import goggles
from goggles.client.session import Session, connect
from goggles.errors import GogglesError, Unavailable
from goggles.pki.authority import Authority
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.wire.dial import Address, Dialer, Peer

SOURCE = str(Path(goggles.__file__).resolve().parents[1])
HOSTS = ("localhost", "127.0.0.1")
PORTS = range(10_000, 32_000)
MIB = 1 << 20
MOMENT = 0.3  # seconds


def free_port() -> int:
    """A port that was free a moment ago, and is none of those that the system gives to outgoing connections: one of
    them would have it soon."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", secrets.choice(PORTS)))
            return int(probe.getsockname()[1])


def wait_until(what: str, true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return when `true()` holds; Unavailable says what never came."""
    deadline, pause = time.monotonic() + seconds, 0.01
    while not true():
        if time.monotonic() > deadline:
            raise Unavailable(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)


def _after(seconds: float, true: Callable[[Session], bool], session: Session) -> bool:
    time.sleep(seconds)
    return true(session)


class Certificates:
    """A CA below `folder` and the certificates it issued."""

    def __init__(self, folder: Path, site: str = "goggles") -> None:
        self.folder = folder
        if (folder / "rootCA.key").exists():
            self._authority = Authority.load(folder / "rootCA.key", folder / "rootCA.crt")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._authority = Authority.create(folder, site)

    @property
    def ca(self) -> Path:
        return self.folder / "rootCA.crt"

    def files(self, name: str, role: Role, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """(certificate, key) of a peer; issued when first asked for, then also for these `hosts`."""
        home = self.folder / name
        certificate, key = home / f"{name}.crt", home / f"{name}.key"
        if not certificate.exists():
            identity = Identity(self._authority.site, role, name)
            self._authority.issue(identity, [name, *HOSTS, *hosts]).write(home)
        return certificate, key

    def flags(self, name: str, role: Role) -> list[str]:
        certificate, key = self.files(name, role)
        return ["--ca_cert", str(self.ca), "--certfile", str(certificate), "--keyfile", str(key)]


class Process:
    """One server as a process of its own, with its log in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = log
        with open(log, "ab") as sink:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env={**os.environ, **environment}
            )

    def __repr__(self) -> str:
        return f"<Process {self.name} {self.pid}{' running' if self.running else ''}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        if self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; the exit code (SIGKILL where it does not end in time)."""
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def wait(self, seconds: float = 20.0) -> int:
        return self._process.wait(seconds)


class Cluster:
    """One site: a nameserver and its storages."""

    def __init__(
        self,
        folder: Path,
        storages: Sequence[str] = ("alice", "bob", "carol"),
        *,
        capacity: int = 8 << 30,
        database: str = "",
        nameserver_flags: Sequence[str] = (),
        storage_flags: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        site: str = "goggles",
    ) -> None:
        self.folder = folder
        self.site = site
        folder.mkdir(parents=True, exist_ok=True)
        self.certificates = Certificates(folder / "certs", site)
        self.database = database or str(folder / "goggles.db")
        self.capacity = capacity
        self.port = free_port()
        self.ports = {name: free_port() for name in storages}
        self.names = list(storages)
        self.hosts: dict[str, str] = {}  # where a server listens and is known, if not on the loopback
        self.prefixes: dict[str, list[str]] = {}  # words before a server's command
        self._nameserver_flags = list(nameserver_flags)
        self._storage_flags = list(storage_flags)
        self._environment = {"PYTHONPATH": SOURCE, **(environment or {})}
        self.nameserver: Process | None = None
        self.storages: dict[str, Process] = {}
        self._sessions: list[Session] = []
        self._probe: Session | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until all storages are active."""
        self.start_nameserver()
        for name in self.names:
            self.start_storage(name)
        self.wait_active(self.names)

    def start_nameserver(self, extra: Sequence[str] = (), environment: dict[str, str] | None = None) -> Process:
        flags = self.certificates.flags("nameserver", Role.NAMESERVER)
        command = ["--port", str(self.port), "--database", self.database, *self._listen("nameserver"), *flags]
        command += ["--site_name", self.site, "--encryption_key_file", str(self.folder / "goggles.key")]
        command += self._peer_flags()
        self.nameserver = self._launch("nameserver", [*command, *self._nameserver_flags, *extra], environment)
        return self.nameserver

    def start_storage(self, name: str, extra: Sequence[str] = (), environment: dict[str, str] | None = None) -> Process:
        """Start it; once more, when the nameserver has missed the one before, so that no state seen later is its."""
        before = self.storages.get(name)
        if before is not None and not before.running:
            with contextlib.suppress(Unavailable):  # a cut network may hide its end
                self._await_missed(name, 2)
        self.ports.setdefault(name, free_port())
        self.root(name).parent.mkdir(exist_ok=True)
        command = ["--name", name, "--hostname", self.host(name), "--port", str(self.ports[name]), *self._listen(name)]
        command += ["--ns_hostname", self.host("nameserver"), "--ns_port", str(self.port)]
        command += ["--capacity", str(self.capacity)]
        command += ["--rootpath", str(self.root(name)), *self.certificates.flags(name, Role.STORAGE)]
        command += self._peer_flags()
        self.storages[name] = self._launch(name, [*command, *self._storage_flags, *extra], environment, "storage")
        return self.storages[name]

    def host(self, name: str) -> str:
        """Where this server is known."""
        return self.hosts.get(name, HOSTS[0])

    def _listen(self, name: str) -> list[str]:
        return ["--listen", self.hosts.get(name, HOSTS[1])]

    def kill_storage(self, name: str) -> None:
        """SIGKILL; return when the nameserver has missed it: until then its old session counts as active."""
        self.storages[name].kill()
        self._await_missed(name)

    def _await_missed(self, name: str, seconds: float = 30.0) -> None:
        """Return when the nameserver has missed this storage or can not be asked."""
        wait_until(f"{name} missed", lambda: self.states().get(name) in (None, "grace", "down"), seconds)

    def trust(self, *others: Cluster) -> None:
        """Let the librarians and storages of these sites come, from the next start on."""
        self.certificates.files("librarian", Role.LIBRARIAN)
        bundle = b"".join(other.certificates.ca.read_bytes() for other in others)
        (self.certificates.folder / "peers.crt").write_bytes(bundle)

    def _peer_flags(self) -> list[str]:
        bundle = self.certificates.folder / "peers.crt"
        return ["--peer_ca", str(bundle)] if bundle.exists() else []

    def _launch(
        self, name: str, flags: Sequence[str], environment: dict[str, str] | None, program: str = "nameserver"
    ) -> Process:
        command = [*self.prefixes.get(name, ()), sys.executable, "-m", f"goggles.cli.{program}", *flags]
        return Process(name, command, self.folder / f"{name}.log", {**self._environment, **(environment or {})})

    def root(self, name: str) -> Path:
        """The folder of a storage."""
        return self.folder / "storages" / name

    def connect(self, name: str = "admin", role: Role = Role.ADMIN, timeout: float = 30.0) -> Session:
        """A session, closed with the cluster."""
        certificate, key = self.certificates.files(name, role)
        files = {"ca_cert": self.certificates.ca, "certfile": certificate, "keyfile": key}
        session = connect(self.host("nameserver"), self.port, **files, timeout=timeout)
        self._sessions.append(session)
        return session

    def dial(self, name: str, role: Role) -> Peer:
        """A bare connection to the nameserver; close it."""
        files = self.certificates.files(name, role)
        dialer = Dialer(Contexts(PkiFiles(self.certificates.ca, *files)))
        return dialer.rpc(Address(self.host("nameserver"), self.port), Role.NAMESERVER)

    def states(self) -> dict[str, str]:
        """The state of each storage, as the nameserver sees it; empty while it can not be asked."""
        try:
            if self._probe is None:
                self._probe = self.connect(timeout=0.5)
            return {info.name: info.state for info in self._probe.du()[1]}
        except GogglesError:
            return {}

    def wait_active(self, names: Sequence[str], seconds: float = 60.0) -> None:
        """Return when all of these storages are active."""

        def done() -> bool:
            self._check_alive()
            states = self.states()
            return all(states.get(name) == "active" for name in names)

        wait_until(f"storages {', '.join(names)} active", done, seconds)

    def wait_whole(self, seconds: float = 60.0) -> None:
        """Return when every file has all its copies."""
        with self.connect() as session:
            wait_until("all copies made", lambda: session.du()[0].owed == 0, seconds)

    def wait_settled(self, seconds: float = 60.0) -> None:
        """Return when every copy is made, every order carried out, and nothing is in flight; a moment later too."""

        def settled(session: Session) -> bool:
            site, storages = session.du()
            copies = sum(info.files for info in storages)
            quiet = not any((site.owed, site.uploads, site.orders, site.reviews))
            return quiet and all(info.state in ("active", "held") for info in storages) and copies >= site.files

        with self.connect() as session:
            wait_until("the site at rest", lambda: settled(session) and _after(MOMENT, settled, session), seconds)

    def _check_alive(self) -> None:
        for process in [self.nameserver, *self.storages.values()]:
            if process is not None and not process.running:
                text = process.log.read_text(errors="replace")[-2000:]
                raise Unavailable(f"{process.name} ended by itself:\n{text}")

    def stop(self) -> None:
        """End everything."""
        for session in self._sessions:
            session.close()
        processes = [*self.storages.values(), *([self.nameserver] if self.nameserver else [])]
        for process in processes:
            process.signal(signal.SIGCONT)
        enders = [threading.Thread(target=process.stop) for process in processes]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
