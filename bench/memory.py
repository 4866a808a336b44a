"""How much memory client and servers take while a large file goes through them."""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path
from typing import Any

import psutil
from rows import row
from stage import MIB, Stage, random_file

from goggles.client.session import connect
from goggles.roles import Role
from goggles.testing.cluster import Cluster


def memory(stage: Stage) -> None:
    """Peaks of a fresh site and a fresh client, for one file in and out."""
    source = random_file(stage.folder / "moved", stage.size)
    processes = multiprocessing.get_context("spawn")
    with Cluster(stage.folder / "memory", ("alice", "bob")) as cluster:
        certificate, key = cluster.certificates.files("admin", Role.ADMIN)
        place = (cluster.port, str(cluster.certificates.ca), str(certificate), str(key))
        peak = processes.Value("d", 0.0)
        client = processes.Process(target=_move, args=(place, str(source), str(stage.folder / "moved-back"), peak))
        client.start()
        client.join()
        servers = [cluster.nameserver, *cluster.storages.values()]
        peaks = [_peak(process.pid) for process in servers if process is not None]
    stage.add(row("peak memory of a client that moves the file", "MiB", [peak.value], (150, 80), lower=True))
    stage.add(row("peak memory of the storages meanwhile", "MiB", [max(peaks[1:])], (150, 80), lower=True))
    source.unlink()
    (stage.folder / "moved-back").unlink()


def _move(place: tuple[int, str, str, str], source: str, target: str, peak: Any) -> None:
    port, ca, certificate, key = place
    with connect("localhost", port, ca_cert=ca, certfile=certificate, keyfile=key) as fs:
        fs.put(Path(source), "/moved")
        fs.get("/moved", Path(target))
    peak.value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _peak(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MIB if psutil.pid_exists(pid) else 0.0
