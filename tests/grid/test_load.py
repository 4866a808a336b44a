"""Many clients at once: storages stay active, nobody gets an error, and who is too many is told so and comes back."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from goggles.errors import Overloaded
from goggles.roles import Role
from goggles.testing.cluster import Cluster, Process
from goggles.testing.load import Load, at

Factory = Callable[..., Cluster]
DEFAULTS: tuple[str, ...] = ()  # heartbeats, grace and lease as users have them


def log_of(site: Cluster) -> str:
    return (site.folder / "nameserver.log").read_text()


@contextlib.contextmanager
def few_files(soft: int) -> Iterator[None]:
    """Programs that are started meanwhile begin with this bound, and may raise it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_500_idle_and_64_busy_clients_starve_nobody(cluster: Factory) -> None:
    """Beginning with 256 open files, so that it must raise that itself."""
    with few_files(256):
        site = cluster(nameserver_flags=DEFAULTS)
    assert site.nameserver is not None
    server, fs = psutil.Process(site.nameserver.pid), site.connect("lone", Role.CLIENT)
    fs.mkdir("/lone")
    alone, states = [], set()

    def look() -> None:
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            began = time.perf_counter()
            fs.stat("/lone")
            alone.append(time.perf_counter() - began)
            states.update(site.states().values())

    with Load(site) as load:
        before = server.memory_info().rss
        load.idle(500)
        figures = load.busy(64, 20, meanwhile=look)
        grown, threads = (server.memory_info().rss - before) >> 20, server.num_threads()
        idlers = load.end_idle()
    alone.sort()
    print(f"{figures}; {grown} MiB more, {threads} threads")
    print(f"a lone client: median {1e3 * at(alone, 0.5):.1f} ms, p99 {1e3 * at(alone, 0.99):.1f} ms of {len(alone)}")
    assert (figures.errors, idlers.errors) == ([], [])
    assert states <= {"active", ""}, states
    assert "lost" not in log_of(site)
    assert at(alone, 0.5) < 0.25
    assert at(alone, 0.99) < 2.0
    assert grown < 250, "a connection costs about 150 kB"
    assert 500 < threads < 800


def rates_with(load: Load, *clients: int) -> list[float]:
    rates = []
    for count in clients:
        figures = load.busy(count, 8)
        print(f"{count} clients where 8 requests are taken: {figures}")
        rates.append(figures.rate)
        assert figures.errors == []
    return rates


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_goodput_does_not_collapse_when_there_are_four_times_as_many_as_are_taken(cluster: Factory) -> None:
    """Shown in one of three turns: a machine may become slower in the middle of one, a collapse comes in each."""
    site = cluster("alice", "bob", nameserver_flags=("--max_requests", "8"))
    with Load(site) as load:
        turns = (rates_with(load, 8, 16, 32) for _ in range(3))
        assert any(rates[-1] >= 0.7 * max(rates) for rates in turns)
    assert "lost" not in log_of(site)


def test_clients_come_back_when_there_was_no_place(cluster: Factory) -> None:
    site = cluster("alice", nameserver_flags=("--max_connections", "8"))
    site.certificates.files("ann", Role.CLIENT)

    def come_and_go(number: int) -> None:
        for turn in range(4):
            with site.connect("ann", Role.CLIENT) as fs:
                fs.mkdir(f"/{number} {turn}")

    clients = [threading.Thread(target=come_and_go, args=(number,)) for number in range(12)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert "more are not taken: client ann" in log_of(site), "more came than there are places for"
    assert len(site.connect().listdir("/")) == 48
    assert site.states() == {"alice": "active"}


def test_requests_beyond_the_bound_are_made_again(cluster: Factory) -> None:
    site = cluster("alice", nameserver_flags=("--max_requests", "1", "--copies", "1"))
    with Load(site, processes=2) as load:
        figures = load.busy(8, 4)
    assert figures.errors == []
    assert len(figures.all()) > 40


class Poor(Cluster):
    """Its nameserver may not have more than 500 open files."""

    def _launch(self, name: str, flags, environment, program: str = "nameserver") -> Process:
        command = [sys.executable, "-m", f"goggles.cli.{program}", *flags]
        bound = ["sh", "-c", 'ulimit -n 500; exec "$@"', "sh"] if program == "nameserver" else []
        return Process(name, [*bound, *command], self.folder / f"{name}.log", self._environment)


def test_what_the_system_allows_is_told_at_the_start_and_kept(tmp_path: Path) -> None:
    with Poor(tmp_path, ("alice",)) as site:
        said = "this process may have 500 open files, 2000 connections need 2448: no more than 52 are taken"
        assert said in log_of(site)
        peers = [site.dial(name, Role.CLIENT) for name in ("ann", "bob") for _ in range(23)]
        with pytest.raises(Overloaded, match="52 callers are connected"):
            for _ in range(20):
                peers.append(site.dial(f"carol{len(peers) % 2}", Role.CLIENT))
        assert site.states() == {"alice": "active"}
        assert "accept failed" not in log_of(site)
        for peer in peers:
            peer.close()
    assert threading.active_count() < 20
