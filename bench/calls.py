"""Calls to the nameserver alone: looking and making directories."""

from __future__ import annotations

from files import few
from limits import ROUND_TRIPS
from rows import row
from stage import Stage, make_directories, small_files, together

from goggles.client.session import Session
from goggles.testing.cluster import Cluster


def calls(stage: Stage, cluster: Cluster, fs: Session) -> None:
    stage.rest(cluster)
    trips = stage.limit(ROUND_TRIPS)
    one_by_one = stage.rate(lambda n: [fs.stat("/small0/1.bin") for _ in range(1_000)], 1_000, trips)
    stage.add(row("stat of a file, one by one", "calls/s", one_by_one, (0.25, 0.4), trips))
    paths = [f"/small0/{number}.bin" for number in range(few(stage))]
    trips = stage.limit(ROUND_TRIPS)
    many = stage.rate(lambda n: fs.stat_many(paths), len(paths), trips)
    stage.add(row("stat of files, many at once", "files/s", many, (0.8, 1.2), trips))
    entries = 2_000 if stage.quick else 10_000
    source = small_files(stage.folder / "long", entries, 16)
    fs.put_tree(source, "/long")
    stage.rest(cluster)
    long_ls = [1e3 * seconds for seconds in stage.seconds(lambda n: fs.ls("/long"))]
    stage.add(
        row(f"ls of {entries:,} files with details", "ms", long_ls, (12e-3 * entries, 5e-3 * entries), lower=True)
    )
    _directories(stage, cluster, fs)


def _directories(stage: Stage, cluster: Cluster, fs: Session) -> None:
    each = 100 if stage.quick else 400

    def run(number: int) -> float:
        below = [f"/made-{number}-{client}" for client in range(8)]
        fs.mkdirs([*below])
        return 8 * each / together(cluster, make_directories, [(path, each) for path in below])

    stage.rest(cluster)
    figures = stage.of_several(run)
    stage.add(row("durable mkdir from 8 clients", "calls/s", figures, (1500, 4000)))
