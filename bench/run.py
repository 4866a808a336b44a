"""`make bench`: real processes over real TLS, each figure beside the limit of the machine in the same run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]

import limits  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from goggles.client.session import Session  # noqa: E402
from goggles.roles import Role  # noqa: E402
from goggles.testing.cluster import Cluster  # noqa: E402

MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One figure: median, least and most of its runs, and the ratio to a limit (at least `floor`)."""

    work: str
    unit: str
    median: float
    least: float
    most: float
    limit: str = ""
    ratio: float | None = None
    floor: float | None = None

    @property
    def good(self) -> bool:
        value = self.ratio if self.ratio is not None else self.median
        return self.floor is None or value >= self.floor


def row(
    work: str, unit: str, figures: list[float], limit: str = "", against: float = 0.0, floor: float | None = None
) -> Row:
    middle = limits.middle(figures)
    return Row(work, unit, middle, figures[0], figures[-1], limit, middle / against if against else None, floor)


class Bench:
    """All measurements on one cluster."""

    def __init__(self, folder: Path, runs: int, size: int) -> None:
        self.folder, self.runs, self.size = folder, runs, size
        self.rows: list[Row] = []
        self.console = Console()

    def run(self) -> list[Row]:
        with Cluster(self.folder / "site", ("alice", "bob")) as cluster:
            certificates = cluster.certificates
            certificate, key = certificates.files("nameserver", Role.NAMESERVER)
            tls = self._tls(certificates.ca, certificate, key)
            durable = limits.median_of(3, lambda: limits.durable_files(self.folder / "durable"))
            self.add(row("bare TLS 1.3, two processes", "MB/s", tls))
            self.add(row("sha256, one thread", "MB/s", limits.median_of(3, limits.sha256_rate)))
            self.add(row("create, fsync, rename, fsync folder", "files/s", durable))
            with cluster.connect() as fs:
                self._large(fs, limits.middle(tls))
                self._small(fs, limits.middle(durable))
                self._calls(fs)
        return self.rows

    def _tls(self, ca: Path, certificate: Path, key: Path) -> list[float]:
        return limits.median_of(self.runs, lambda: limits.bare_tls(ca, certificate, key))

    def add(self, found: Row) -> None:
        self.rows.append(found)
        self.console.print(f"  {found.work}: {found.median:.3g} {found.unit}", highlight=False)

    def times(self, action: Callable[[int], None], amount: float) -> list[float]:
        """`amount` per second in each run, sorted; one warm-up first."""
        figures = []
        for number in range(self.runs + 1):
            began = time.perf_counter()
            action(number)
            figures.append(amount / (time.perf_counter() - began))
        return sorted(figures[1:])

    def _large(self, fs: Session, tls: float) -> None:
        source, target = self.folder / "large", self.folder / "back"
        block = os.urandom(MIB)
        with open(source, "wb") as file:
            for _ in range(self.size // MIB):
                file.write(block)
        amount, name = self.size / 1e6, f"{self.size // MIB} MiB"
        fs.mkdir("/one")
        fs.setrep("/one", 1)
        put_one = self.times(lambda n: fs.put(source, "/one/large") and None, amount)
        self.add(row(f"put {name}, 1 durable copy", "MB/s", put_one, "bare TLS", tls))
        put_two = self.times(lambda n: fs.put(source, "/large") and None, amount)
        self.add(row(f"put {name}, 2 durable copies", "MB/s", put_two, "bare TLS", tls, 0.12))
        get = self.times(lambda n: fs.get("/large", target, overwrite=True) and None, amount)
        self.add(row(f"get {name}, warm", "MB/s", get, "bare TLS", tls, 0.25))
        fs.rm("/large")
        fs.rm("/one/large")

    def _small(self, fs: Session, durable: float) -> None:
        source = self.folder / "small"
        source.mkdir()
        for number in range(2_000):
            (source / f"{number}.bin").write_bytes(os.urandom(4096))
        put = self.times(lambda n: fs.put_tree(source, f"/small{n}") and None, 2_000)
        self.add(row("put -r 2,000 x 4 KiB, 2 durable copies", "files/s", put, "durable files", durable))
        self.rows.append(Row("the same, seconds for 2,000 at most 10", "files/s", put[0], put[0], put[-1], floor=200))
        get = self.times(lambda n: fs.get_tree("/small0", self.folder / f"small-{n}") and None, 2_000)
        self.add(row("get -r of the same (at most 5 s)", "files/s", get, floor=400))

    def _calls(self, fs: Session) -> None:
        def stat(_: int) -> None:
            for _ in range(500):
                fs.stat("/small0/1.bin")

        self.add(row("stat, one by one", "calls/s", self.times(stat, 500)))

        def small(_: int) -> None:
            for number in range(50):
                fs.put(self.folder / "small" / f"{number}.bin", f"/single-{number}")

        self.add(row("put 4 KiB, one by one, 2 copies", "files/s", self.times(small, 50)))


def show(rows: list[Row], console: Console) -> None:
    table = Table(title="verbose-goggles beside the limits of this machine")
    for heading in ("work", "median", "min - max", "unit", "ratio", "floor"):
        table.add_column(heading, justify="left" if heading in ("work", "unit") else "right", overflow="fold")
    for one in rows:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f} of {one.limit}"
        floor = "" if one.floor is None else f"{one.floor:g} {'ok' if one.good else 'MISSED'}"
        table.add_row(one.work, f"{one.median:.4g}", f"{one.least:.4g} - {one.most:.4g}", one.unit, ratio, floor)
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, smaller files: under a minute")
    parser.add_argument(
        "--json", type=Path, default=Path("bench/last.json"), help="where the figures go (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="."))
    try:
        bench = Bench(folder.resolve(), 2 if options.quick else 5, (128 if options.quick else 1024) * MIB)
        rows = bench.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(rows, bench.console)
    options.json.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")
    return 0 if all(one.good for one in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
