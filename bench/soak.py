"""Whether memory stays flat: a site under load for a long time, and how each of its processes grows.

    nice venv/bin/python bench/soak.py --minutes 60

Prints a line each minute, and at the end the least-squares slope of each process after its first fifth.  A run of
half an hour and more means something; Python's heap settles in the first minutes.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from goggles.testing.cluster import MIB, Cluster
from goggles.testing.load import Figures, Load

FIRST = 0.2  # part of the time that does not count


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The least-squares slope of (x, y)."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


@dataclass
class Watch:
    """Samples of the processes of a site: (seconds, MiB resident), and the most threads and open files."""

    cluster: Cluster
    every: float = 5.0
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(self.every):
            self.sample()

    def sample(self) -> None:
        servers = [self.cluster.nameserver, *self.cluster.storages.values()]
        for server in servers:
            if server is not None and server.running:
                process = psutil.Process(server.pid)
                size = process.memory_info().rss / MIB
                self.memory.setdefault(server.name, []).append((time.monotonic() - self.began, size))
                self.threads[server.name] = max(self.threads.get(server.name, 0), process.num_threads())
                self.files[server.name] = max(self.files.get(server.name, 0), process.num_fds())

    def growth(self) -> dict[str, float]:
        """MiB per hour of each process, without the first part of the time."""
        return {name: 3600 * slope(points[int(FIRST * len(points)) :]) for name, points in self.memory.items()}

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {points[-1][1]:.1f} MiB, {self.threads[name]} threads, {self.files[name]} files"
            for name, points in self.memory.items()
        )


def soak(folder: Path, minutes: float, clients: int, pause: float, database: str = "") -> tuple[Watch, Figures]:
    """A site of two storages under this load; a line on standard output for each minute."""
    total, ends = Figures(), time.monotonic() + 60 * minutes
    with Cluster(folder, ("alice", "bob"), database=database) as cluster, Load(cluster, 2) as load:
        watch, stop = Watch(cluster), threading.Event()
        watcher = threading.Thread(target=watch.run, args=(stop,), daemon=True)
        watcher.start()
        for minute in itertools.count(1):
            figures = load.busy(clients, min(60.0, max(1.0, ends - time.monotonic())), pause=pause)
            total.errors += figures.errors
            print(f"minute {minute}: {figures}; {watch}", flush=True)
            if time.monotonic() >= ends:
                break
        stop.set()
        watcher.join()
    return watch, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two calls of a client")
    parser.add_argument("--database", default="", help="a URL; SQLite where none is given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        watch, total = soak(Path(folder), given.minutes, given.clients, given.pause, given.database)
    for name, growth in watch.growth().items():
        print(f"{name}: {growth:+.2f} MiB/hour, {watch.memory[name][-1][1]:.1f} MiB at the end")
    print(f"{len(total.errors)} errors reached a client", *total.errors[:10], sep="\n")


if __name__ == "__main__":
    main()
