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
from rows import row, show  # noqa: E402
from stage import MIB, Stage  # noqa: E402

from goggles.roles import Role  # noqa: E402
from goggles.testing.cluster import Certificates, Cluster  # noqa: E402

SECTIONS = ("large", "small", "calls", "memory", "big", "others")


def measure_limits(stage: Stage) -> None:
    certificates = Certificates(stage.folder / "limits")
    (certificate, key), ca = certificates.files("nameserver", Role.NAMESERVER), certificates.ca
    runs = stage.runs

    def add(work: str, unit: str, figures: Sequence[float]) -> None:
        stage.add(row(work, unit, figures))

    add("bare TLS 1.3, two processes", "MB/s", [limits.bare_tls(ca, certificate, key) for _ in range(runs)])
    add("round trips of 100 bytes over TLS", "rt/s", [limits.round_trips(ca, certificate, key) for _ in range(runs)])
    add("sha256, one thread", "MB/s", [limits.sha256_rate() for _ in range(runs)])
    durable = [limits.durable_files(stage.folder / "durable") for _ in range(runs)]
    add("create, fsync, rename, fsync folder", "files/s", durable)
    add("SQLite commits, synchronous=FULL", "tx/s", [limits.sqlite_commits(stage.folder / "tx") for _ in range(runs)])


def measure(stage: Stage, sections: Sequence[str]) -> None:
    measure_limits(stage)
    with Cluster(stage.folder / "site", ("alice", "bob")) as cluster, cluster.connect() as fs:
        if "large" in sections:
            files.large(stage, cluster, fs)
            files.several(stage, cluster)
        if {"small", "calls", "others"} & set(sections):
            files.small(stage, fs)
        if "small" in sections:
            files.single(stage, fs)
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
