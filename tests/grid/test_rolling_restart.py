"""Every server is restarted, one after the other, while clients work without a pause (docs/upgrades.md)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goggles.client.session import Session
from goggles.errors import GogglesError
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until

Factory = Callable[..., Cluster]
LONGEST = 30.0  # seconds that an operation may take: what a client waits for a nameserver, as a rule
LARGE = 24 << 20  # bytes; long enough on the way to be cut in the middle


class Worker:
    """One client that does the same again and again; `steps` counts the rounds, `waits` holds what took longest."""

    def __init__(self, site: Cluster, name: str, round_of: Callable[[Worker, Session, int], None]) -> None:
        self.name = name
        self.steps = 0
        self.longest: tuple[float, str] = (0.0, "")
        self.errors: list[str] = []
        self.ended = threading.Event()
        self._round = round_of
        self._fs = site.connect(name, Role.CLIENT)
        self._thread = threading.Thread(target=self._run, name=name)
        self._thread.start()

    def _run(self) -> None:
        while not self.ended.is_set() and not self.errors:
            self._round(self, self._fs, self.steps)
            self.steps += 1

    def do(self, what: str, action: Callable[..., Any], *words: Any, **more: Any) -> Any:
        began = time.monotonic()
        try:
            return action(*words, **more)
        except GogglesError as error:
            self.errors.append(f"{self.name}, {what} after {time.monotonic() - began:.1f} s: {error!r}")
        finally:
            self.longest = max(self.longest, (time.monotonic() - began, f"{self.name}: {what}"))

    def end(self) -> None:
        self.ended.set()
        self._thread.join()


def small_files(worker: Worker, fs: Session, number: int) -> None:
    """Put, read, rename, list, remove."""
    path, data = f"/small/{number}", os.urandom(20_000)
    worker.do("put", fs.write, path, data)
    read = worker.do("get", lambda: b"".join(fs.read(path)))
    worker.do("mv", fs.mv, path, f"{path}-moved")
    names = worker.do("ls", fs.listdir, "/small")
    if number % 2:
        worker.do("rm", fs.rm, f"{path}-moved")
    worker.errors += [] if worker.errors or (read == data and f"{number}-moved" in names) else [f"{path} is not right"]


def large_files(folder: Path) -> Callable[[Worker, Session, int], None]:
    """One file overwritten and read, over and over."""
    source, back = folder / "source", folder / "back"

    def once(worker: Worker, fs: Session, number: int) -> None:
        data = number.to_bytes(8, "big") * (LARGE // 8)
        source.write_bytes(data)
        worker.do("large put", fs.put, source, "/large")
        worker.do("large get", fs.get, "/large", back, overwrite=True)
        worker.errors += [] if worker.errors or back.read_bytes() == data else ["/large is not right"]

    return once


def many_files(folder: Path) -> Callable[[Worker, Session, int], None]:
    """A directory with many files in and out, in batches."""
    (folder / "many").mkdir()
    for number in range(40):
        (folder / "many" / str(number)).write_bytes(os.urandom(3_000))

    def once(worker: Worker, fs: Session, number: int) -> None:
        put = worker.do("put -r", fs.put_tree, folder / "many", "/many")
        got = worker.do("get -r", fs.get_tree, "/many", folder / "got", overwrite=True, resume=False)
        worker.errors += [] if worker.errors else [str(failed) for failed in (put.failed + got.failed)]

    return once


def all_work_on(workers: list[Worker], rounds: int = 2) -> None:
    """Return when each has done a few rounds more."""
    wanted = [worker.steps + rounds for worker in workers]

    def done() -> bool:
        pairs = zip(workers, wanted, strict=True)
        return any(worker.errors for worker in workers) or all(worker.steps >= count for worker, count in pairs)

    wait_until("all work on", done, 90)
    assert [error for worker in workers for error in worker.errors] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_everything_is_restarted_and_no_operation_fails(cluster: Factory, tmp_path: Path) -> None:
    site = cluster("alice", "bob", "carol", nameserver_flags=[])
    with site.connect() as fs:
        fs.mkdir("/small")
    workers = [Worker(site, "ann", small_files), Worker(site, "ben", large_files(tmp_path))]
    workers.append(Worker(site, "cleo", many_files(tmp_path)))
    try:
        all_work_on(workers)
        for name in site.names:
            assert site.storages[name].stop() == 0
            site.start_storage(name)
            site.wait_active([name], 60)
            all_work_on(workers)
        assert site.nameserver is not None
        assert site.nameserver.stop() == 0
        site.start_nameserver()
        site.wait_active(site.names, 60)
        all_work_on(workers)
    finally:
        for worker in workers:
            worker.end()
    for worker in workers:
        print(f"{worker.name}: {worker.steps} rounds, the longest wait {worker.longest[0]:.1f} s ({worker.longest[1]})")
    assert max(worker.longest for worker in workers)[0] < LONGEST
