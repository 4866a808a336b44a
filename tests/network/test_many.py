"""Very many files are offered and queued: each batch costs as much as the first, and memory stays small.

The source's storage is not there, so nothing is sent: this measures offers, answers and queues, in seconds of CPU of
both nameservers.  GOGGLES_MANY says how many files; 100000 take some minutes.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, insert, select, update

from goggles.contracts.peering import State
from goggles.meta import peering, tables
from goggles.meta.database import Database
from goggles.testing.cluster import Cluster, Process, wait_until
from goggles.testing.network import Network

MANY = int(os.environ.get("GOGGLES_MANY", "20000"))
DIRECTORY = 1_000  # files in one
PAGE = 10_000
MIB = 1 << 20


def fill(site: Cluster, storage: str) -> None:
    """Rows of files, as if `storage` held them; its nameserver is stopped."""
    database = Database.open(site.database)
    now = time.time()
    common = {"parent_id": 1, "kind": "d", "copies": None, "created_at": now, "modified_at": now, "size": 0}
    common |= {"sha256": "", "generation": 0, "version": None, "uploader": "", "source": ""}
    try:
        with database.write() as tx:
            holder = tx.execute(select(tables.storages.c.id).where(tables.storages.c.name == storage)).scalar_one()
            last = int(tx.execute(select(func.max(tables.entries.c.id))).scalar_one())
            folders = range(last + 1, last + 1 + -(-MANY // DIRECTORY))
            tx.execute(insert(tables.entries), [{**common, "id": one, "name": f"d{one}"} for one in folders])
            for start in range(0, MANY, PAGE):
                numbers = range(start, min(MANY, start + PAGE))
                rows = [(folders[-1] + 1 + number, folders[number // DIRECTORY], number) for number in numbers]
                files = [
                    {**common, "id": one, "parent_id": above, "name": f"f{number}", "kind": "f", "copies": 1, "size": 1}
                    | {"sha256": f"{number:064x}", "version": f"{number:032x}", "generation": 1}
                    for one, above, number in rows
                ]
                tx.execute(insert(tables.entries), files)
                held = {"storage_id": holder, "size": 1, "created_at": now, "verified_at": now}
                tx.execute(insert(tables.instances), [{**held, "entry_id": one} for one, _, _ in rows])
            tx.execute(update(tables.totals).values(files=MANY, directories=len(folders), size=MANY))
    finally:
        database.close()


def queued(site: Cluster) -> int:
    """Transfers that the other side has answered."""
    database = Database.open(site.database)
    try:
        with database.read() as connection:
            rows = select(func.count()).select_from(peering.outgoing).where(peering.outgoing.c.remote_id != "")
            return int(connection.execute(rows).scalar_one())
    finally:
        database.close()


def memory(process: Process | None) -> float:
    assert process is not None
    return float(psutil.Process(process.pid).memory_info().rss) / MIB


def cpu(process: Process | None) -> float:
    assert process is not None
    return float(sum(psutil.Process(process.pid).cpu_times()[:2]))


def timed(network: Network, site: str, kind: str, *values: tuple[str, object], limit: float = 600.0) -> float:
    """Seconds that a task takes."""
    began = time.monotonic()
    network.admin(site, "run_plan", kind, values, f"{kind} now", limit, timeout=limit + 30)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_batch_costs_as_much_as_the_first(tmp_path: Path) -> None:
    flags = ("--background", "off")
    with Network(tmp_path, {"source": ("alice",), "central": ("carol",)}, flags) as network:
        network.link("source", "central")
        source, central = network["source"], network["central"]
        assert source.nameserver is not None
        source.storages["alice"].stop()
        source.nameserver.stop()
        fill(source, "alice")
        source.start_nameserver()
        wait_until("the nameserver", lambda: source.states() != {}, 30)
        before = memory(source.nameserver), memory(central.nameserver)

        sending = threading.Thread(
            target=timed, args=(network, "source", "send_clone", ("destination_librarian", "central"))
        )
        sending.start()
        marks: list[tuple[float, int]] = []
        while sending.is_alive():
            marks.append((cpu(source.nameserver) + cpu(central.nameserver), queued(source)))
            time.sleep(0.25)
        assert queued(source) == MANY
        first, last = per_batch(marks, 0.02, 0.12), per_batch(marks, 0.9, 0.99)
        grown = memory(source.nameserver) - before[0], memory(central.nameserver) - before[1]
        idle = [timed(network, "source", kind, *more) for kind, more in IDLE]
        passes = timed(network, "source", "outgoing_transfer_hypervisor", ("age_in_days", 0.0))
        passes_back = timed(network, "central", "incoming_transfer_hypervisor", ("age_in_days", 0.0))
        looks = timed(network, "central", "receive_clone")
        spent = marks[-1][0] - marks[0][0]
        print(f"\n{MANY} files for {spent:.1f} s of CPU; a batch {first:.3f} s first, {last:.3f} s last")
        print(f"memory: source {grown[0]:+.0f} MiB, destination {grown[1]:+.0f} MiB")
        print(f"idle: {', '.join(f'{seconds:.2f} s' for seconds in idle)}, at the destination {looks:.2f} s")
        print(f"hypervisors: {passes:.1f} s at the source, {passes_back:.1f} s at the destination")
        assert last < 2 * first
        assert max(grown) < 200
        assert max(*idle, looks) < 2
        assert max(passes, passes_back) < 60
        assert states(central) == {State.INITIATED}


IDLE: list[tuple[str, tuple[tuple[str, object], ...]]] = [
    ("send_clone", (("destination_librarian", "central"),)),
    ("check_consumed_queue", ()),
]


def per_batch(marks: list[tuple[float, int]], low: float, high: float) -> float:
    """Seconds of CPU for 128 files, between these shares of all of them."""
    within = [(at, count) for at, count in marks if low * MANY <= count <= high * MANY]
    return 128 * (within[-1][0] - within[0][0]) / max(1, within[-1][1] - within[0][1])


def states(site: Cluster) -> set[State]:
    database = Database.open(site.database)
    try:
        with database.read() as connection:
            return {State(state) for state in connection.execute(select(peering.incoming.c.state).distinct()).scalars()}
    finally:
        database.close()
