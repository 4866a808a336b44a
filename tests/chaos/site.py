"""The site that a campaign works on: its processes, and what is due to happen to them."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.chaos import history
from tests.chaos.lines import Lines
from tests.chaos.wires import Wires
from tests.chaos.worker import Orders

from goggles import failpoints
from goggles.client.session import Session
from goggles.errors import GogglesError
from goggles.roles import Role
from goggles.testing.cluster import Cluster, Process

STORAGES = ("alice", "bob", "carol", "dave")
CLIENTS = tuple(f"c{number}" for number in range(6))
FLAGS = ("--grace", "3", "--heartbeat", "0.5", "--lease", "8")
SERVERS = ("nameserver", *STORAGES)
ADDRESSES = {name: f"127.0.1.{number}" for number, name in enumerate(SERVERS, 1)}
LINES, WIRES = NETWORKS = ("lines", "wires")


class Site:
    """A nameserver, four storages, six clients.  `network`: none, or one of NETWORKS.

    Where there are `lines`, all they say to each other goes through them: each server is known by an address of its
    own, at which its line listens.  Where there are `wires`, each has a network of its own, and they join them."""

    def __init__(
        self, folder: Path, seed: str, *, copies: Sequence[int], network: str = "", database: str = ""
    ) -> None:
        self.folder = folder
        self.notes: list[tuple[float, str, str]] = []
        self.environments: list[Callable[[str], dict[str, str]]] = []  # what a process is started with
        self.workers: dict[str, Process] = {}
        self.cluster = Cluster(folder / "site", STORAGES, nameserver_flags=FLAGS, database=database)
        self._seed = seed
        self._copies = tuple(copies)
        self._lives = dict.fromkeys(CLIENTS, 0)
        self._chance = random.Random(f"{seed} site")
        self._armed: set[str] = set()  # started with a step at which they die
        self._over = False  # no client starts any more
        self._due: list[tuple[float, Callable[[], None]]] = []
        self.returning: set[str] = set()
        self.lines = Lines(self._owners) if network == LINES else None
        self.wires = Wires([*SERVERS, *CLIENTS]) if network == WIRES else None
        self._join()

    def _join(self) -> None:
        """Have all know each other by the addresses of lines or wires, which their certificates hold."""
        if self.wires is not None:
            self.cluster.hosts = {name: self.wires.address(name) for name in SERVERS}
            self.cluster.prefixes = {name: self.wires.prefix(name) for name in SERVERS}
        for name in SERVERS:
            role = Role.NAMESERVER if name == "nameserver" else Role.STORAGE
            self.cluster.certificates.files(name, role, [self.cluster.hosts.get(name, ADDRESSES[name])])

    def note(self, what: str, who: str = "faults") -> None:
        self.notes.append((time.monotonic(), who, what))

    # --- processes -------------------------------------------------------------------------

    def processes(self) -> dict[str, Process]:
        servers = self.servers()
        return {**servers, **self.workers}

    def servers(self) -> dict[str, Process]:
        assert self.cluster.nameserver is not None
        return {"nameserver": self.cluster.nameserver, **self.cluster.storages}

    def _owners(self) -> Iterator[tuple[int, str]]:
        if self.cluster.nameserver is not None:
            yield self.cluster.nameserver.pid, "nameserver"
        for name, process in [*self.cluster.storages.items(), *self.workers.items()]:
            yield process.pid, name

    def start(self, name: str, *, armed: bool = True) -> None:
        environment: dict[str, str] = {}
        for given in self.environments if armed else ():
            environment.update(given(name))
        (self._armed.add if failpoints.ENVIRONMENT in environment else self._armed.discard)(name)
        self.note(f"start {name} {' '.join(f'{key}={value}' for key, value in environment.items())}".rstrip())
        if name == "nameserver":
            self.cluster.start_nameserver(environment=environment)
        elif name in STORAGES:
            self.cluster.start_storage(name, self._by_lines(name), environment=environment)
        else:
            self._start_worker(name, environment)

    def disarm(self) -> None:
        """Start the servers that are dead, and those that would die yet."""
        for name, process in self.servers().items():
            if name in self._armed or not process.running:
                process.kill()
                self.start(name, armed=False)

    def _by_lines(self, name: str) -> list[str]:
        return ["--hostname", ADDRESSES[name], "--ns_hostname", ADDRESSES["nameserver"]] if self.lines else []

    def _start_worker(self, name: str, environment: dict[str, str]) -> None:
        certificate, key = self.cluster.certificates.files(name, Role.CLIENT)
        orders = Orders(
            name=name,
            life=self._lives[name],
            seed=f"{self._seed} {name}",
            folder=str(self.folder),
            host=ADDRESSES["nameserver"] if self.lines else self.cluster.host("nameserver"),
            port=self.cluster.port,
            ca_cert=str(self.cluster.certificates.ca),
            certfile=str(certificate),
            keyfile=str(key),
            copies=self._copies,
        )
        self._lives[name] += 1
        prefix = self.wires.prefix(name) if self.wires else []
        command = [*prefix, sys.executable, "-m", "tests.chaos.worker", orders.text()]
        self.workers[name] = Process(name, command, self.folder / f"{name}.err", environment)

    def ask(self, what: str, action: Callable[[Session], object]) -> bool:
        """Do it as an administrator; whether that was answered."""
        try:
            with self.cluster.connect(timeout=2) as fs:
                action(fs)
        except GogglesError as error:
            self.note(f"{what}: {error!r}")
            return False
        self.note(what)
        return True

    @contextlib.contextmanager
    def paused(self, names: Sequence[str]) -> Iterator[None]:
        """These processes stand still during the block."""
        for name in names:
            self.processes()[name].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for name in names:
                self.processes()[name].signal(signal.SIGCONT)

    def whole(self) -> bool:
        """Whether every storage is there and every file has all its copies, asked twice."""
        return all(self._whole() for _ in range(2))

    def _whole(self) -> bool:
        if not set(self.cluster.states().values()) <= {"active", "draining"}:
            return False
        try:
            with self.cluster.connect(timeout=1) as fs:
                return fs.du()[0].owed == 0
        except GogglesError:
            return False

    def start_all(self) -> None:
        """Servers, then clients; returns when the storages are active."""
        if self.lines is not None:
            for name in SERVERS:
                port = self.cluster.port if name == "nameserver" else self.cluster.ports[name]
                self.lines.open(name, ADDRESSES[name], port)
        for name in SERVERS:
            self.start(name, armed=False)
        self.cluster.wait_active(STORAGES)
        with self.cluster.connect() as fs:
            fs.mkdir(history.SHARED)
        for name in CLIENTS:
            self.start(name, armed=False)

    def steps(self) -> int:
        """How many operations clients have begun and ended, as lines of their logs."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.glob("c*.*.log")) // 2

    def stop_workers(self) -> list[str]:
        """Let each end what it does; what went wrong with one that did not end by itself."""
        self._over = True
        for process in self.workers.values():
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        deadline = time.monotonic() + 100
        while any(one.running for one in self.workers.values()) and time.monotonic() < deadline:
            self.tick()
            time.sleep(0.05)
        return [f"{name} did not end" for name, one in self.workers.items() if one.running]

    def records(self) -> list[history.Record]:
        """What all clients wrote down, in the order of each."""
        found: list[history.Record] = []
        for name, lives in self._lives.items():
            for life in range(lives):
                found += history.read(name, self.folder / f"{name}.{life}.log")
        return found

    def stop(self) -> None:
        for process in self.workers.values():
            process.kill()
        self.cluster.stop()
        if self.lines is not None:
            self.lines.close()
        if self.wires is not None:
            self.wires.close()

    # --- what is due -----------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, action))

    def tick(self, *, everything: bool = False) -> None:
        """Do what is due (or `everything` that will be), and have the dead come back after a while."""
        now = time.monotonic()
        for item in [item for item in self._due if everything or item[0] <= now]:
            self._due.remove(item)
            item[1]()
        for name, process in self.servers().items():
            self._return(name, process)

    def tick_workers(self) -> None:
        for name, process in list(self.workers.items()):
            self._return(name, process)

    def _return(self, name: str, process: Process) -> None:
        if not process.running and name not in self.returning:
            self.returning.add(name)
            self.later(self._chance.uniform(0, 3), partial(self._come_back, name))

    def _come_back(self, name: str) -> None:
        self.returning.discard(name)
        if not (self._over and name in CLIENTS) and not self.processes()[name].running:
            self.start(name)
