"""Whether memory stays flat: a site under load for a long time, and how each of its processes grows.

    nice venv/bin/python bench/soak.py --minutes 60

Prints a line each minute, and at the end the least-squares slope of each process over its last third.  Until then
bounded memories fill: page caches of SQLite in the nameserver (64 MiB at most), the names of the last 100,000 uploads
in each storage (some 15 MiB).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from goggles.testing.cluster import Cluster
from goggles.testing.load import Figures, Load
from goggles.testing.watch import Watch

LAST_THIRD = 2 / 3


def soak(folder: Path, minutes: float, clients: int, pause: float, database: str = "") -> tuple[Watch, Figures]:
    """A site of two storages under this load; a line on standard output for each minute."""
    total, ends = Figures(), time.monotonic() + 60 * minutes
    made = Cluster(folder, ("alice", "bob"), database=database)
    with made as cluster, Load(cluster, 2) as load, Watch(cluster) as watch:
        for minute in itertools.count(1):
            figures = load.busy(clients, min(60.0, max(1.0, ends - time.monotonic())), pause=pause)
            total.errors += figures.errors
            print(f"minute {minute}: {figures}; {watch}", flush=True)
            if time.monotonic() >= ends:
                break
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
    for name, growth in watch.growth(LAST_THIRD).items():
        print(f"{name}: {growth:+.2f} MiB/hour, {watch.memory[name][-1][1]:.1f} MiB at the end")
    print(f"{len(total.errors)} errors reached a client", *total.errors[:10], sep="\n")


if __name__ == "__main__":
    main()
