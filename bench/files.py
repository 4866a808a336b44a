"""Large files, many small ones, and one at a time."""

from __future__ import annotations

import time
from pathlib import Path

from limits import DURABLE, TLS
from rows import Limit, row
from stage import MIB, Stage, put_one, random_file, small_files, together

from goggles.checksums import of_file
from goggles.client.session import Session
from goggles.contracts.records import FileInfo
from goggles.testing.cluster import Cluster


def large(stage: Stage, cluster: Cluster, fs: Session) -> None:
    """One large file in, out, and from storage to storage."""
    name = f"{stage.size // MIB} MiB"
    source, amount = random_file(stage.folder / "large", stage.size), stage.size / 1e6
    fs.mkdir("/one")
    fs.setrep("/one", 1)
    tls = stage.limit(TLS)
    put_one_copy = stage.rate(lambda n: fs.put(source, "/one/large"), amount, tls)
    stage.add(row(f"put {name}, 1 durable copy", "MB/s", put_one_copy, (0.35, 0.5), tls))
    stage.rest(cluster)
    tls = stage.limit(TLS)
    repair = [amount / _repair(fs, cluster, tls) for _ in range(stage.runs)]
    stage.add(row(f"copy {name} between storages (repair)", "MB/s", repair, (0.4, 0.6), tls))
    stage.rest(cluster)
    tls = stage.limit(TLS)
    put_two = stage.rate(lambda n: fs.put(source, "/large"), amount, tls)
    stage.add(row(f"put {name}, 2 durable copies", "MB/s", put_two, (0.2, 0.3), tls))
    stage.rest(cluster)
    warm(cluster, "large")
    tls = stage.limit(TLS)
    get = stage.rate(lambda n: fs.get("/large", stage.folder / "back", overwrite=True), amount, tls)
    stage.add(row(f"get {name}, warm, to a local file", "MB/s", get, (0.45, 0.65), tls))
    for path in ("/large", "/one/large"):
        fs.rm(path)
    (stage.folder / "back").unlink()
    source.unlink()


def warm(cluster: Cluster, name: str) -> None:
    """Each storage has this file in memory: what it wrote went past the page cache."""
    for storage in cluster.names:
        with open(cluster.root(storage) / name, "rb", buffering=0) as file:
            of_file(file)


def _repair(fs: Session, cluster: Cluster, tls: Limit) -> float:
    """Seconds until there is a second copy; then it is taken away again."""
    tls.again()
    began = time.perf_counter()
    fs.setrep("/one/large", 2)
    _until_copies(fs, 2)
    seconds = time.perf_counter() - began
    fs.setrep("/one/large", 1)
    _until_copies(fs, 1)
    cluster.wait_settled()
    return seconds


def _until_copies(fs: Session, count: int) -> None:
    def there() -> bool:
        info = fs.stat("/one/large")
        return isinstance(info, FileInfo) and info.live == count

    while not there():
        time.sleep(0.01)


def few(stage: Stage) -> int:
    """How many small files of 4 KiB are many."""
    return 500 if stage.quick else 2_000


def small(stage: Stage, cluster: Cluster, fs: Session) -> None:
    """Many small files; each run under new names."""
    count = few(stage)
    source = small_files(stage.folder / "small", count)
    stage.rest(cluster)
    durable = stage.limit(DURABLE)
    put = stage.rate(lambda n: fs.put_tree(source, f"/small{n}"), count, durable)
    stage.add(row(f"put -r {count} x 4 KiB, 2 durable copies", "files/s", put, (0.15, 0.5), durable))
    stage.rest(cluster)
    get = stage.rate(lambda n: fs.get_tree("/small0", stage.folder / f"small-{n}"), count)
    stage.add(row("get -r of the same", "files/s", get, (1500, 4200)))


def single(stage: Stage, cluster: Cluster, fs: Session) -> None:
    """One small file at a time, over a kept connection."""
    source, target, times = stage.folder / "small" / "1.bin", stage.folder / "single", 50

    def put(run: int) -> None:
        for number in range(times):
            fs.put(source, f"/single-{run}-{number}")

    def get(run: int) -> None:
        for number in range(times):
            fs.get(f"/single-0-{number}", target, overwrite=True)

    stage.rest(cluster)
    put_ms = [1e3 * seconds / times for seconds in stage.seconds(put)]
    stage.add(row("put 4 KiB, 2 durable copies", "ms", put_ms, (12, 6), lower=True))
    stage.rest(cluster)
    get_ms = [1e3 * seconds / times for seconds in stage.seconds(get)]
    stage.add(row("get 4 KiB", "ms", get_ms, (3, 1.5), lower=True))


def several(stage: Stage, cluster: Cluster, fs: Session) -> None:
    """Eight clients at once, each with a file of its own; beside it one client with as many bytes."""
    size = (8 if stage.quick else 32) * MIB
    sources = [random_file(stage.folder / f"of-{n}", size) for n in range(8)]
    whole = random_file(stage.folder / "whole", 8 * size)

    def alone() -> float:
        began = time.perf_counter()
        fs.put(whole, "/whole")
        return 8 * size / 1e6 / (time.perf_counter() - began)

    one = Limit("one client with as many bytes", "MB/s", alone)

    def run(number: int) -> float:
        one.again()
        arguments = [(str(source), f"/several-{number}-{n}") for n, source in enumerate(sources)]
        return 8 * size / 1e6 / together(cluster, put_one, arguments)

    stage.rest(cluster)
    figures = stage.of_several(run)
    stage.add(row(f"8 clients put {size // MIB} MiB each, 2 copies", "MB/s", figures, (0.8, 1.0), one))
    for source in (*sources, whole):
        source.unlink()


def undurable(stage: Stage, folder: Path) -> None:
    """The small files again, on a site that answers before they are on disk."""
    flags = ["--durability", "os"]
    with (
        Cluster(folder, ("alice", "bob"), nameserver_flags=flags, storage_flags=flags) as cluster,
        cluster.connect() as fs,
    ):
        stage.rest(cluster)
        put = stage.rate(lambda n: fs.put_tree(stage.folder / "small", f"/small{n}"), few(stage))
        stage.add(row("put -r of the same with --durability os", "files/s", put, (1500, 3600)))
