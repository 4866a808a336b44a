"""`make bench`: real processes over real TLS, each figure beside the limit of the machine in the same run.

What each row means: bench/README.md.  The exit code is 0 where every figure reaches its least."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "src")]

import big  # noqa: E402
import calls  # noqa: E402
import files  # noqa: E402
import limits  # noqa: E402
import memory  # noqa: E402
import others  # noqa: E402
from rich.console import Console  # noqa: E402
from rows import Limit, row, show  # noqa: E402
from stage import MIB, Stage  # noqa: E402

from goggles.roles import Role  # noqa: E402
from goggles.testing.cluster import Certificates, Cluster  # noqa: E402

SECTIONS = ("large", "small", "calls", "memory", "big", "others")


TLS_BYTES, TRIPS = 512 * MIB, 5_000


def measure_limits(stage: Stage) -> None:
    certificates, folder = Certificates(stage.folder / "limits"), stage.folder
    (certificate, key), ca = certificates.files("nameserver", Role.NAMESERVER), certificates.ca
    less = 4 if stage.quick else 1
    known = (
        Limit(limits.TLS, "MB/s", lambda: limits.bare_tls(ca, certificate, key, TLS_BYTES // less)),
        Limit(limits.ROUND_TRIPS, "rt/s", lambda: limits.round_trips(ca, certificate, key, TRIPS // less)),
        Limit("sha256, one thread", "MB/s", limits.sha256_rate),
        Limit(limits.DURABLE, "files/s", lambda: limits.durable_files(folder / "durable")),
        Limit("SQLite commits, synchronous=FULL", "tx/s", lambda: limits.sqlite_commits(folder / "tx")),
    )
    for limit in known:
        stage.limits[limit.work] = limit
        stage.add(row(limit.work, limit.unit, [limit.measure() for _ in range(stage.runs)]))


def measure(stage: Stage, sections: Sequence[str]) -> None:
    measure_limits(stage)
    with Cluster(stage.folder / "site", ("alice", "bob")) as cluster, cluster.connect() as fs:
        if "large" in sections:
            files.large(stage, cluster, fs)
            files.several(stage, cluster, fs)
        if {"small", "calls", "others"} & set(sections):
            files.small(stage, cluster, fs)
        if "small" in sections:
            files.single(stage, cluster, fs)
        if "calls" in sections:
            calls.calls(stage, cluster, fs)
    if "small" in sections:
        files.undurable(stage, stage.folder / "undurable")
    if "memory" in sections:
        memory.memory(stage)
    if "big" in sections:
        big.tree(stage)
        big.check(stage)
    if "others" in sections:
        others.rsync(stage)


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, smaller files: under a minute")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections alone")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to work (default: here)")
    parser.add_argument(
        "--json", type=Path, default=Path("bench/last.json"), help="where the figures go (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    console, about = Console(width=max(140, Console().width)), machine()
    sections = options.only or [each for each in SECTIONS if not (options.quick and each in ("big", "others"))]
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder)).resolve()
    runs, size = (2, 128 * MIB) if options.quick else (5, 1024 * MIB)
    stage = Stage(folder, runs, size, options.quick, console)
    try:
        measure(stage, sections)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(stage.rows, console)
    found = {"machine": about, "rows": [one.to_json() for one in stage.rows]}
    options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(one.verdict != "MISSED" for one in stage.rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
