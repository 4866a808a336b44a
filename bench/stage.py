"""Where the measurements are made: one cluster of real processes, its clients, and how a figure is taken."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rows import Limit, Row

from goggles.client.session import Session, connect
from goggles.roles import Role
from goggles.testing.cluster import Cluster

MIB = 1 << 20


@dataclass
class Stage:
    """`runs`: how often each thing is done; `size`: bytes of the large file; `quick`: less of everything."""

    folder: Path
    runs: int
    size: int
    quick: bool
    console: Console
    rows: list[Row] = field(default_factory=list)
    limits: dict[str, Limit] = field(default_factory=dict)
    paces: list[float] = field(default_factory=list)  # of the processor, beside each run since the last row

    def add(self, found: Row) -> Row:
        found, self.paces = replace(found, paces=tuple(self.paces or [pace() for _ in range(3)])), []
        if self.quick:  # too little to be judged
            found = replace(found, target=None)
        self.rows.append(found)
        ratio = f", {found.value:.2f} of {found.limit}" if found.against else ""
        self.console.print(f"  {found.work}: {found.median:.4g} {found.unit}{ratio} {found.verdict}", highlight=False)
        return found

    def rest(self, cluster: Cluster) -> None:
        """What the row before left to be done, by the site and by the kernel, is done before the next begins."""
        cluster.wait_settled()
        os.sync()

    def limit(self, name: str) -> Limit:
        """A limit of the machine, to be measured beside a figure."""
        return self.limits[name].fresh()

    def of_several(self, run: Callable[[int], float]) -> list[float]:
        """The figure of each run, in which eight processes are started; one warm-up first."""
        figures = []
        for number in range(1 if self.quick else self.runs + 1):
            self.paces.append(pace())
            figures.append(run(number))
        return figures[-self.runs :]

    def rate(self, action: Callable[[int], object], amount: float, beside: Limit | None = None) -> list[float]:
        """`amount` per second in each run; one warm-up first.  `beside`: measured before each run."""
        return [amount / seconds for seconds in self.seconds(action, beside)]

    def seconds(self, action: Callable[[int], object], beside: Limit | None = None) -> list[float]:
        figures = []
        for number in range(self.runs + 1):
            if beside is not None and number:
                beside.again()
            self.paces.append(pace())
            began = time.perf_counter()
            action(number)
            figures.append(time.perf_counter() - began)
        return figures[1:]


def pace() -> float:
    """How often in a second of its time this processor does a little work in Python: what a slow moment is known by."""
    began, total = time.thread_time(), 0
    for number in range(200_000):
        total += number * number & 255
    return 1 / (time.thread_time() - began)


def random_file(path: Path, size: int) -> Path:
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        file.write(block[: size % MIB])
    return path


def small_files(folder: Path, count: int, size: int = 4096) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.bin").write_bytes(os.urandom(size))
    return folder


# --- several clients, each a process of its own ----------------------------------------------

Work = Callable[..., None]


def _client(place: tuple[int, str, str, str], work: Work, arguments: tuple[Any, ...], gate: Any, done: Any) -> None:
    port, ca, certificate, key = place
    with connect("localhost", port, ca_cert=ca, certfile=certificate, keyfile=key) as fs:
        fs.check()
        gate.wait()
        work(fs, *arguments)
        done.put(time.monotonic())
        gate.wait()  # a process that ends takes time from those that are at work


def together(cluster: Cluster, work: Work, arguments: list[tuple[Any, ...]]) -> float:
    """Seconds from when all clients may begin until the last has ended."""
    processes = multiprocessing.get_context("spawn")
    certificate, key = cluster.certificates.files("admin", Role.ADMIN)
    place = (cluster.port, str(cluster.certificates.ca), str(certificate), str(key))
    gate, done = processes.Barrier(len(arguments) + 1), processes.Queue()
    clients = [
        processes.Process(target=_client, args=(place, work, each, gate, done), daemon=True) for each in arguments
    ]
    for client in clients:
        client.start()
    gate.wait()
    began = time.monotonic()
    ended = max(done.get(timeout=300) for _ in clients)
    gate.wait()
    for client in clients:
        client.join()
    return float(ended - began)


def put_one(fs: Session, local: str, path: str) -> None:
    fs.put(Path(local), path)


def make_directories(fs: Session, below: str, count: int) -> None:
    for number in range(count):
        fs.mkdir(f"{below}/{number}")
