"""How large a nameserver becomes: bytes of database and of memory for real files that were really put.

    python bench/sizing.py --files 100000 [--postgresql]

Each line: files in the tree, bytes of database for each, resident memory of the nameserver in MiB, files put in a
second.  At the end: a dump, and how long a nameserver takes that is started anew until its storages are active.
The figures of docs/sizing.md were made with it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import psutil

from goggles.meta.database import Database
from goggles.meta.dumping import dump, suffix
from goggles.testing.cluster import Cluster
from goggles.testing.postgres import running

MIB = 1 << 20
DIRECTORY = 1_000  # files in one
STEPS = (1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


def database_bytes(where: str) -> int:
    """What the database takes on its disk, the log of SQLite included."""
    database = Database.open(where)
    try:
        if "://" not in where:
            return sum(path.stat().st_size for path in Path(where).parent.glob(f"{Path(where).name}*"))
        with database.read() as connection:
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar() or 0)
    finally:
        database.close()


def memory(site: Cluster, name: str = "nameserver") -> float:
    """Resident, MiB."""
    process = site.nameserver if name == "nameserver" else site.storages[name]
    assert process is not None
    return float(psutil.Process(process.pid).memory_info().rss / MIB)


def put(site: Cluster, folder: Path, first: int) -> None:
    """A directory of files with names as an instrument gives them."""
    source = folder / "source"
    source.mkdir()
    for number in range(first, first + DIRECTORY):
        (source / f"zen.{2_459_000 + number // DIRECTORY}.{number % DIRECTORY:05}.sum.uvh5").write_bytes(b"%d" % number)
    with site.connect() as fs:
        path = f"/raw/{2_459_000 + first // DIRECTORY}"
        fs.mkdir(path, parents=True)
        done = fs.put_tree(source, path)
    assert done.files == DIRECTORY, done
    shutil.rmtree(source)


def fill(site: Cluster, folder: Path, wanted: int) -> Iterator[str]:
    began, empty = time.monotonic(), database_bytes(site.database)
    yield f"empty: {empty / MIB:.1f} MiB of database, {memory(site):.0f} MiB resident"
    for number in range(DIRECTORY, wanted + 1, DIRECTORY):
        put(site, folder, number - DIRECTORY)
        if number in STEPS or number == wanted:
            size = database_bytes(site.database)
            rate = number / (time.monotonic() - began)
            each = (size - empty) / number
            yield (
                f"{number} files: {size / MIB:.1f} MiB of database, {each:.0f} bytes each,"
                f" {memory(site):.0f} MiB resident, {rate:.0f} files/s"
            )


def at_the_end(site: Cluster, folder: Path) -> Iterator[str]:
    began, target = time.monotonic(), folder / f"dump{suffix(site.database)}"
    dump(site.database, target)
    yield f"dump: {target.stat().st_size / MIB:.1f} MiB in {time.monotonic() - began:.1f} s"
    assert site.nameserver is not None
    site.nameserver.stop()
    began = time.monotonic()
    site.start_nameserver()
    site.wait_active(site.names, 600)
    yield f"started anew: storages active after {time.monotonic() - began:.1f} s, {memory(site):.0f} MiB resident"
    yield f"a storage: {memory(site, site.names[0]):.0f} MiB resident"
    for name in site.names:
        used = subprocess.run(["du", "-s", "-B1", site.root(name)], capture_output=True, text=True, check=True).stdout
        yield f"folder of {name}: {int(used.split()[0]) / MIB:.0f} MiB on its disk"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--postgresql", action="store_true", help="a PostgreSQL of its own instead of SQLite")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="goggles-sizing-")))
        database = stack.enter_context(running()).new_database() if options.postgresql else ""
        site = stack.enter_context(Cluster(folder / "site", ("alice", "bob"), database=database))
        for line in fill(site, folder, options.files):
            print(line, flush=True)
        for line in at_the_end(site, folder):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
