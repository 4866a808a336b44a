"""Storages that are unevenly full are evened out, and no file is ever short of a copy."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from goggles.client.session import Session
from goggles.client.shell.loop import Shell
from goggles.errors import Conflict
from goggles.nameserver.levelling import WITHIN
from goggles.testing.cluster import Cluster, wait_until

MIB = 1 << 20
CAPACITY = 64 * MIB
QUICK = ("--grace", "1", "--heartbeat", "0.3")
Factory = Callable[..., Cluster]


def fills(fs: Session) -> dict[str, float]:
    return {info.name: info.used / info.capacity for info in fs.du()[1]}


def filled(cluster: Factory, count: int, *late: str, **more: object) -> tuple[Cluster, Session, dict[str, bytes]]:
    """A site of alice and bob with files on both, to which the others come afterwards."""
    site = cluster("alice", "bob", *late, started=False, capacity=CAPACITY, **more)
    site.start_nameserver()
    for name in ("alice", "bob"):
        site.start_storage(name)
    site.wait_active(["alice", "bob"])
    fs = site.connect()
    files = {f"/file{number}": os.urandom(MIB) for number in range(count)}
    for path, data in files.items():
        fs.write(path, data)
    for name in late:
        site.start_storage(name)
    site.wait_active(site.names)
    site.wait_settled(20)
    return site, fs, files


def copies_on_disks(site: Cluster, path: str) -> int:
    return sum((site.root(name) / path.lstrip("/")).is_file() for name in site.names)


def test_a_new_storage_is_filled_until_all_are_even_and_no_file_is_ever_short(
    cluster: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    site, fs, files = filled(cluster, 24, "carol")
    assert fills(fs)["carol"] == 0
    least, done = [2], threading.Event()

    def watch() -> None:
        while not done.is_set():
            least.append(min(copies_on_disks(site, path) for path in files))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert fs.balance().running
        with pytest.raises(Conflict):
            fs.balance()
        wait_until("balanced", lambda: not fs.balance_state().running, 60)
    finally:
        done.set()
        watcher.join()
    state = fs.balance_state()
    assert (state.result in ("even", "as even as it gets"), state.failed) == (True, 0)
    assert state.moved * MIB == state.size >= 12 * MIB
    site.wait_settled(20)
    shares = fills(fs).values()
    assert max(shares) - min(shares) <= 0.03 + MIB / CAPACITY
    assert min(least) >= 2
    assert all(b"".join(fs.read(path)) == data for path, data in files.items())
    shell = Shell(fs, Path("."), interactive=False, as_json=True)
    capsys.readouterr()
    assert [shell.run_line(line) for line in ("balance", "balance --status", "balance --stop")] == [0, 0, 0]
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["running"], one["moved"], one["result"]) for one in answers] == [(False, 0, state.result)] * 3
    assert state.result == ("even" if state.gap <= WITHIN else "as even as it gets")


def test_it_is_stopped_and_leaves_a_drained_storage_alone(cluster: Factory) -> None:
    more = {"nameserver_flags": (*QUICK, "--repair_rate", "1M", "--repair_streams", "1")}
    _, fs, _ = filled(cluster, 16, "carol", "dave", **more)
    fs.drain("dave")
    fs.balance()
    wait_until("some are moved", lambda: fs.balance_state().moved > 1, 40)
    fs.balance(False)
    wait_until("it has stopped", lambda: not fs.balance_state().running, 40)
    state = fs.balance_state()
    assert (state.result, state.moved < 10) == ("stopped", True)
    assert fills(fs)["carol"] > 0
    assert fills(fs)["dave"] == 0
    fs.drain("dave", False)
