"""How the processes of a site grow.

Law: what is told is resident memory as the kernel counts it; heap and page caches of the database settle in
the first minutes, so a first part of the time does not count.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from goggles.testing.cluster import MIB, Cluster

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
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self.every):
            self.sample()

    def sample(self) -> None:
        servers = [self.cluster.nameserver, *self.cluster.storages.values()]
        for server in servers:
            if server is not None and server.running:
                with contextlib.suppress(FileNotFoundError):
                    self._look(server.name, Path(f"/proc/{server.pid}"))

    def _look(self, name: str, process: Path) -> None:
        pages = int((process / "statm").read_text().split()[1])
        size = pages * os.sysconf("SC_PAGESIZE") / MIB
        self.memory.setdefault(name, []).append((time.monotonic() - self.began, size))
        self.threads[name] = max(self.threads.get(name, 0), len(os.listdir(process / "task")))
        self.files[name] = max(self.files.get(name, 0), len(os.listdir(process / "fd")))

    def growth(self, first: float = FIRST) -> dict[str, float]:
        """MiB per hour of each process, without the `first` part (0 to 1) of the time."""
        return {name: 3600 * slope(points[int(first * len(points)) :]) for name, points in self.memory.items()}

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {points[-1][1]:.1f} MiB, {self.threads[name]} threads, {self.files[name]} files"
            for name, points in self.memory.items()
        )
