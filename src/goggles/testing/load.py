"""Many clients at once on one site, for tests, benchmarks and long runs.

    with Load(cluster) as load:
        load.idle(500)
        figures = load.busy(64, seconds=20)

Law: clients are threads of a few processes of their own, each with a session of its own; an error that reaches one
of them is kept, and it goes on.  Nothing of it is left running when the block ends.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from goggles.client.session import Session, connect
from goggles.errors import GogglesError, Unavailable
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until
from goggles.wire.dial import Address, Dialer

KEPT = 8  # files that a busy client keeps in its directory
SMALL = 4_096  # bytes of each
PATIENCE = 30.0  # seconds for which a client tries again


@dataclass(frozen=True, slots=True)
class Place:
    """Where a site is, and who calls it."""

    port: int
    ca: str
    certificate: str
    key: str

    @classmethod
    def of(cls, cluster: Cluster, name: str = "loader") -> Place:
        certificate, key = cluster.certificates.files(name, Role.CLIENT)
        return cls(cluster.port, str(cluster.certificates.ca), str(certificate), str(key))

    def connect(self, timeout: float = PATIENCE) -> Session:
        return connect(
            "localhost", self.port, ca_cert=self.ca, certfile=self.certificate, keyfile=self.key, timeout=timeout
        )

    def dialer(self) -> Dialer:
        return Dialer(Contexts(PkiFiles(Path(self.ca), Path(self.certificate), Path(self.key))))


@dataclass(slots=True)
class Figures:
    """What clients did: seconds of each call by its kind, and the errors that reached them."""

    seconds: float = 0.0
    taken: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        calls = sorted(self.all())
        slow = ", ".join(f"{kind} {1e3 * at(sorted(each), 0.5):.0f}" for kind, each in sorted(self.taken.items()))
        return (
            f"{self.rate:.0f} calls/s, median {1e3 * at(calls, 0.5):.1f} ms, p99 {1e3 * at(calls, 0.99):.1f} ms, "
            f"most {1e3 * at(calls, 1):.0f} ms ({slow}), {len(self.errors)} errors"
        )

    def all(self) -> list[float]:
        return [one for each in self.taken.values() for one in each]

    @property
    def rate(self) -> float:
        """Calls per second."""
        return len(self.all()) / self.seconds if self.seconds else 0.0

    def quantile(self, part: float) -> float:
        """Seconds within which this part of all calls was answered."""
        return at(sorted(self.all()), part)

    def add(self, other: Figures) -> None:
        for kind, each in other.taken.items():
            self.taken.setdefault(kind, []).extend(each)
        self.errors += other.errors
        self.seconds = max(self.seconds, other.seconds)


def at(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of `ordered` lies; 0 where there are none."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class User:
    """One client: does this and that below a directory of its own, and leaves no more than `KEPT` files there."""

    def __init__(self, fs: Session, home: str, seed: int) -> None:
        self._fs = fs
        self._home = home
        self._random = random.Random(seed)
        self._files: dict[str, bytes] = {}
        self._count = 0
        self.figures = Figures()

    def settle(self) -> None:
        self._fs.mkdir(self._home, parents=True, exist_ok=True)
        self._put()

    def step(self) -> None:
        """One thing, timed; what it raises is kept."""
        action = self._random.choice((self._stat, self._stat, self._ls, self._put, self._get, self._mkdir, self._rm))
        began = time.perf_counter()
        try:
            action()
        except GogglesError as error:
            self.figures.errors.append(f"{action.__name__[1:]} of {self._home}: {error}")
        self.figures.taken.setdefault(action.__name__[1:], []).append(time.perf_counter() - began)

    def check(self) -> None:
        """Everything that was answered is there, for whoever has the patience."""
        for path, data in self._files.items():
            wait_until(f"{path} can be read", partial(self._read, path, data), 4 * PATIENCE)

    def _read(self, path: str, data: bytes) -> bool:
        """False where it can not be read now."""
        try:
            if b"".join(self._fs.read(path)) != data:
                self.figures.errors.append(f"{path} has other bytes than were written")
        except Unavailable:
            return False
        except GogglesError as error:
            self.figures.errors.append(f"check of {path}: {error}")
        return True

    def _any(self) -> str:
        return self._random.choice(list(self._files)) if self._files else self._home

    def _stat(self) -> None:
        self._fs.stat(self._any())

    def _ls(self) -> None:
        self._fs.ls(self._home)

    def _put(self) -> None:
        self._count += 1
        path = f"{self._home}/file {self._count % KEPT}"
        data = self._random.randbytes(self._random.randrange(SMALL))
        self._fs.write(path, data)
        self._files[path] = data

    def _get(self) -> None:
        if self._files:
            path, data = self._random.choice(list(self._files.items()))
            if b"".join(self._fs.read(path)) != data:
                self.figures.errors.append(f"{path} has other bytes than were written")

    def _mkdir(self) -> None:
        self._fs.mkdir(f"{self._home}/directory {self._count % KEPT}", exist_ok=True)

    def _rm(self) -> None:
        if len(self._files) > 1:
            path = self._any()
            self._fs.rm(path)
            del self._files[path]


def _busy(place: Place, homes: Sequence[str], seconds: float, pause: float, gate: Any, results: Any) -> None:
    """The main of a process of busy clients; one thread for each of `homes`."""
    users = [User(place.connect(), home, number) for number, home in enumerate(homes)]
    ends = [0.0]

    def live(user: User) -> None:
        while time.monotonic() < ends[0]:
            user.step()
            time.sleep(pause * random.uniform(0.5, 1.5))
        user.check()

    for user in users:
        user.settle()
    gate.wait(120)
    began = time.monotonic()
    ends[0] = began + seconds
    threads = [threading.Thread(target=live, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Figures(seconds)
    for user in users:
        total.add(user.figures)
    results.put(total)


def _idle(place: Place, count: int, gate: Any, stop: Any, results: Any) -> None:
    """The main of a process of idle clients: `count` kept connections, each asked once more at the end."""
    dialer, address = place.dialer(), Address("localhost", place.port)
    peers = [dialer.rpc(address, Role.NAMESERVER) for _ in range(count)]
    gate.wait(120)
    stop.wait()
    errors = []
    for peer in peers:
        try:
            peer.call("hello")
        except GogglesError as error:
            errors.append(f"an idle client: {error}")
        peer.close()
    results.put(Figures(errors=errors))


class Load:
    """Clients of one site, until the end of the block."""

    def __init__(self, cluster: Cluster, processes: int = 4) -> None:
        self._place = Place.of(cluster)
        self._processes = processes
        self._spawn = multiprocessing.get_context("spawn")
        self._stop = self._spawn.Event()
        self._idlers: list[Any] = []
        self._idle_results: Any = self._spawn.Queue()
        self._started: list[Any] = []
        self._gates: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for process in self._started:
            process.join(10 if exc[0] is None else 0.1)
            process.kill()

    def idle(self, count: int) -> None:
        """Keep `count` connections that say nothing; returns when they stand."""
        gate = self._gate(3)
        for part in (count // 2, count - count // 2):
            process = self._start(_idle, self._place, part, gate, self._stop, self._idle_results)
            self._idlers.append(process)
        gate.wait(120)

    def end_idle(self) -> Figures:
        """Ask each idle one once more, and let them go; what went wrong."""
        self._stop.set()
        return _sum(self._idle_results, self._idlers)

    def busy(
        self, clients: int, seconds: float, *, pause: float = 0.0, meanwhile: Callable[[], None] | None = None
    ) -> Figures:
        """Let `clients` do this and that for `seconds`; `meanwhile` runs here at the same time.

        `pause`: seconds that each waits between two things, on average."""
        count = min(self._processes, clients)
        homes = [[f"/load/{number}" for number in range(part, clients, count)] for part in range(count)]
        gate, results = self._gate(count + 1), self._spawn.Queue()
        started = [self._start(_busy, self._place, each, seconds, pause, gate, results) for each in homes]
        gate.wait(120)
        if meanwhile is not None:
            meanwhile()
        return _sum(results, started)

    def _gate(self, parties: int) -> Any:
        """Kept to the end: its memory must not become the next one's while the last party leaves it."""
        self._gates.append(self._spawn.Barrier(parties))
        return self._gates[-1]

    def _start(self, main: Callable[..., None], *args: Any) -> Any:
        process = self._spawn.Process(target=main, args=args, daemon=True)
        process.start()
        self._started.append(process)
        return process


def _sum(results: Any, processes: Sequence[Any]) -> Figures:
    total = Figures()
    for _ in processes:
        while results.empty() and any(process.is_alive() for process in processes):
            time.sleep(0.05)
        try:
            total.add(results.get(timeout=10))
        except Exception as error:
            raise Unavailable("a process of clients ended without an answer; its standard error says why") from error
    return total
