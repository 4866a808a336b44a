"""A process dies at each step of a transfer that has a name: everything arrives once, and both sites agree."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from goggles.contracts.peering import State
from goggles.errors import GogglesError
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.testing.cluster import Cluster, Process, wait_until
from goggles.testing.fsck import fsck
from goggles.testing.network import Network

AT_SOURCE = (
    "librarian.offer.before_call",
    "librarian.offer.after_call",
    "librarian.consume.before_commit",
    "librarian.arrived.before_call",
)
AT_DESTINATION = ("librarian.ingested.before_commit", "librarian.tell.before_call")
AT_STORAGE = ("storage.ingest.before_fsync", "storage.ingest.before_sync", "storage.ingest.after_rename")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    flags = ["--heartbeat", "0.3", "--grace", "2"]
    with Network(tmp_path_factory.mktemp("points"), {"source": ("alice",), "central": ("carol",)}, flags) as network:
        network.link("source", "central")
        yield network


def armed(network: Network, point: str) -> Process:
    """Start what comes by `point` again, to die there."""
    environment = {"GOGGLES_FAILPOINTS": f"{point}=crash@1"}
    site = network["source" if point in AT_SOURCE else "central"]
    if point in AT_STORAGE:
        site.kill_storage("carol")
        dying = site.start_storage("carol", environment=environment)
    else:
        assert site.nameserver is not None
        site.nameserver.kill()
        dying = site.start_nameserver(environment=environment)
    for each in network.sites.values():
        each.wait_active(each.names)
    return dying


def revive(network: Network, dying: Process, point: str) -> None:
    dying.wait(60)
    site = network["source" if point in AT_SOURCE else "central"]
    if point in AT_STORAGE:
        site.start_storage("carol")
    else:
        site.start_nameserver()


def transfers(site: Cluster) -> set[State]:
    """The states of all transfers; one whose source has not been told how it ended counts as under way."""
    database = Database.open(site.database)
    try:
        with database.read() as connection:
            rows = [row.state for row in connection.execute(select(peering.outgoing.c.state))]
            coming = connection.execute(select(peering.incoming.c.state, peering.incoming.c.told)).all()
            rows += [row.state if row.told else State.ONGOING for row in coming]
    finally:
        database.close()
    return {State(state) for state in rows}


def try_to_send(network: Network) -> None:
    with contextlib.suppress(GogglesError):  # whoever is asked may die of it
        network.run("source", "send_clone")


@pytest.mark.slow
@pytest.mark.parametrize("point", [*AT_SOURCE, *AT_DESTINATION, *AT_STORAGE])
def test_everything_arrives_once_where_a_process_dies_at(network: Network, point: str) -> None:
    home = "/" + point.replace(".", "-")
    files = {f"{home}/{number}": os.urandom(20_000 + number) for number in range(6)}
    with network["source"].connect() as fs:
        fs.mkdir(home)
        for path, data in files.items():
            fs.write(path, data)
    dying = armed(network, point)
    reviver = threading.Thread(target=revive, args=(network, dying, point))
    reviver.start()
    try_to_send(network)
    wait_until(f"a death at {point}", lambda: not dying.running, 30)
    reviver.join()
    for site in network.sites.values():
        site.wait_active(site.names)

    def arrived() -> bool:
        try_to_send(network)
        with network["central"].connect() as there:
            return all(there.exists(path) for path in files)

    wait_until("everything there", arrived, 60)
    for task in ("check_consumed_queue", "outgoing_transfer_hypervisor"):
        network.run("source", task)
    wait_until("both sides done", lambda: all(transfers(s) == {State.COMPLETED} for s in network.sites.values()), 60)
    with network["central"].connect() as there:
        assert {path: b"".join(there.read(path)) for path in files} == files
    for site in network.sites.values():
        site.wait_settled()
        wait_until(
            f"{site.site} in order",
            lambda site=site: fsck(site.database, {name: site.root(name) for name in site.names}) == [],
            20,
        )
