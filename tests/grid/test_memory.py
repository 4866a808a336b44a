"""No process needs more memory, threads or open files because a file is large."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster
from goggles.testing.load import Load
from goggles.testing.watch import Watch

MIB = 1 << 20
SIZE = 768 * MIB
MOST = 96 * MIB  # a few chunks for each stage of a transfer, and what Python keeps


def grown(process: psutil.Process, before: int) -> int:
    """Bytes by which the process has ever been larger than `before`."""
    return high_water(process.pid) - before


@pytest.mark.slow
def test_a_large_file_costs_no_more_than_a_small_one(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(SIZE)
    with Cluster(tmp_path / "site", ("alice", "bob")) as cluster:
        flags = client_flags(cluster, tmp_path)
        assert cluster.nameserver is not None
        servers = [psutil.Process(one.pid) for one in (cluster.nameserver, *cluster.storages.values())]
        (tmp_path / "small").write_bytes(b"x")
        run(flags, "put small /small", "get -f /small -o back")
        before = [(server.memory_info().rss, server.num_threads()) for server in servers]
        assert run(flags, "put large /large", "get -f /large -o back") < 150 * MIB
        for server, (rss, threads) in zip(servers, before, strict=True):
            assert grown(server, rss) < MOST
            assert server.num_threads() <= threads + 8
            assert server.num_fds() < 200
    assert (tmp_path / "back").stat().st_size == SIZE


@pytest.mark.slow
def test_a_bound_on_addresses_leaves_room_for_threads(tmp_path: Path) -> None:
    """`ulimit -v`: the heaps that glibc reserves for threads once took 1.2 GB, and a storage did not start."""
    (tmp_path / "large").write_bytes(os.urandom(64 * MIB))
    cluster = Cluster(tmp_path / "site", ("alice", "bob"))
    cluster.prefixes = dict.fromkeys(("nameserver", "alice", "bob"), within(512 * MIB))
    with cluster:
        run(client_flags(cluster, tmp_path), "put large /large", "get /large -o back", before=within(320 * MIB))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
        cluster.wait_settled()


@pytest.mark.slow
def test_memory_stays_flat_under_load(cluster: Callable[..., Cluster]) -> None:
    """The short form of bench/soak.py: after the first half no process grows by more than a little for each call."""
    site = cluster("alice", "bob")
    with Load(site, processes=2) as load, Watch(site, every=0.5) as watch:
        load.busy(8, 15)
        watch.sample()
        settled = {name: points[-1][1] for name, points in watch.memory.items()}
        calls = sum(len(load.busy(8, 10).all()) for _ in range(2))
        watch.sample()
    print(f"{calls} calls; {watch}; slopes in MiB/hour {watch.growth()}")
    for name, before in settled.items():
        assert (watch.memory[name][-1][1] - before) * MIB < 4 * MIB + 512 * calls, name
        assert watch.threads[name] < 60


def client_flags(cluster: Cluster, local: Path) -> list[str]:
    certificate, key = cluster.certificates.files("ann", Role.CLIENT)
    flags = ["--ns_port", str(cluster.port), "--ca_cert", str(cluster.certificates.ca), "--local", str(local)]
    return [*flags, "--certfile", str(certificate), "--keyfile", str(key)]


def within(size: int) -> list[str]:
    """Words before a command that may have so many bytes of addresses."""
    return ["sh", "-c", f'ulimit -v {size // 1024}; exec "$@"', "sh"]


def run(flags: list[str], *commands: str, before: Sequence[str] = ()) -> int:
    """The most memory that the client had, in bytes."""
    words = [word for command in commands for word in ("-c", command)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    peak = 0
    command = [*before, sys.executable, "-m", "goggles.cli.client", *flags, *words]
    with subprocess.Popen(command, env=environment) as client:
        while client.poll() is None:
            peak = max(peak, high_water(client.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(0.05)
    assert client.returncode == 0
    return peak


def high_water(pid: int) -> int:
    """The most memory that a running process has had since it began, in bytes; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0
