"""Nothing waits for ever: one bad transfer holds up no other, and what can not go on comes to an end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.network.fake_peer import FakePeer
from tests.network.globus.server import Globus
from tests.network.globus.sites import application, prefer, restarted, settings

from goggles.contracts.peering import State
from goggles.errors import GogglesError, Unavailable
from goggles.meta import peering
from goggles.meta.database import Database
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.network import Network

FLAGS = ("--heartbeat", "0.3", "--grace", "1", "--offer_again", "0.5", "--background", "off")


@contextmanager
def linked(folder: Path, stores: tuple[str, ...] = ("carol",), trusted: Sequence[FakePeer] = ()) -> Iterator[Network]:
    """source may push to central; nothing runs by itself."""
    made = Network(folder, {"source": ("alice",), "central": stores}, FLAGS)
    if trusted:
        made["source"].trust(made["central"], *trusted)  # type: ignore[arg-type]  # they have certificates, as sites
    with made as network:
        network.link("source", "central")
        yield network


@contextmanager
def database(site: Cluster) -> Iterator[Database]:
    opened = Database.open(site.database)
    try:
        yield opened
    finally:
        opened.close()


def write(network: Network, path: str, data: bytes) -> None:
    with network["source"].connect() as fs:
        fs.write(path, data)


def transfer(network: Network, path: str) -> bool:
    """Go on with everything at the source; whether the file is at central."""
    for task in ("send_clone", "consume_queue", "check_consumed_queue"):
        network.run("source", task)
    network.run("central", "receive_clone")
    with network["central"].connect() as fs:
        return fs.exists(path)


def states(site: Cluster, table: str, path: str) -> list[State]:
    columns = peering.metadata.tables[table].c
    with database(site) as opened, opened.read() as connection:
        rows = connection.execute(select(columns.state).where(columns.path == path).order_by(columns.created_at))
        return [State(state) for state in rows.scalars()]


def test_a_batch_whose_manager_is_gone_holds_up_no_other(tmp_path: Path) -> None:
    with linked(tmp_path) as network:
        write(network, "/stuck", b"1")
        network.run("source", "send_clone")
        with database(network["source"]) as opened, opened.write() as connection:
            values = {"state": "sent", "manager": "globus", "handle": '{"bound": true}', "priority": 9}
            connection.execute(update(peering.send_queue).values(values))
            connection.execute(update(peering.outgoing).values(state=int(State.ONGOING)))
        write(network, "/free", b"2")
        wait_until("the other", lambda: transfer(network, "/free"), 20)


def test_what_was_staged_on_a_storage_that_does_not_come_back_goes_to_another(tmp_path: Path) -> None:
    with linked(tmp_path, ("carol", "dave")) as network:
        central = network["central"]
        for name in central.names:
            central.storages[name].stop()
            central.start_storage(name, environment={"GOGGLES_FAILPOINTS": "storage.ingest.before_fsync=crash@1"})
        central.wait_active(central.names)
        data = os.urandom(50_000)
        write(network, "/lost", data)

        def dead() -> list[str]:
            return [name for name in central.names if not central.storages[name].running]

        wait_until("a storage that dies of it", lambda: not transfer(network, "/lost") and bool(dead()), 30)
        (gone,) = dead()
        wait_until("its absence is noticed", lambda: central.states().get(gone) == "down", 20)
        for other in set(central.names) - {gone}:
            central.storages[other].kill()
            central.start_storage(other)
        (left,) = set(central.names) - {gone}
        wait_until("the other is back", lambda: central.states().get(left) == "active", 20)
        network.admin("central", "run_plan", "incoming_transfer_hypervisor", (("age_in_days", 1.0),), "young")
        assert states(central, "incoming", "/lost") == [State.STAGED], "it was given up at once"
        network.admin("central", "run_plan", "incoming_transfer_hypervisor", (("age_in_days", 0.0),), "old")
        wait_until("another storage has it", lambda: transfer(network, "/lost"), 20)
        with central.connect() as fs:
            assert b"".join(fs.read("/lost")) == data
        central.start_storage(gone)
        central.wait_active(central.names)
        places = central.root(gone) / ".goggles" / "incoming"
        wait_until("nothing is left of it", lambda: not list(places.iterdir()), 20)


def test_a_librarian_that_is_removed_leaves_no_room_reserved_and_no_bytes(tmp_path: Path) -> None:
    with linked(tmp_path) as network:
        write(network, "/half", os.urandom(5 << 20))
        network.run("source", "send_clone")
        arriving = network["central"].root("carol") / ".goggles" / "incoming"
        assert len(list(arriving.iterdir())) == 1
        network.admin("central", "remove_librarian", "source", True)
        wait_until("its place is gone", lambda: not list(arriving.iterdir()), 10)
        with network["central"].connect() as fs:
            assert [info.reserved for info in fs.du()[1]] == [0]


def test_what_comes_to_a_storage_that_is_drained_goes_on_to_another(tmp_path: Path) -> None:
    with linked(tmp_path, ("carol", "dave")) as network:
        write(network, "/drained", b"1")
        network.run("source", "send_clone")
        central = network["central"]
        (store,) = [name for name in central.names if list((central.root(name) / ".goggles/incoming").iterdir())]
        (other,) = set(central.names) - {store}
        with central.connect() as fs:
            network.admin("central", "drain", store)
            wait_until("it comes", lambda: transfer(network, "/drained"), 20)
            wait_until("it goes on", lambda: fs.stat("/drained").storages == (other,), 20)


def test_a_recall_that_can_not_come_is_refused(tmp_path: Path) -> None:
    """As the manual links two sites, the destination may call back, and add no files."""
    with linked(tmp_path) as network:
        write(network, "/away", b"1")
        wait_until("it is there", lambda: transfer(network, "/away"), 20)
        with network["source"].connect() as fs:
            network.run("central", "receive_clone")
            wait_until("it is known", lambda: fs.stat("/away").elsewhere != (), 20)
        network.admin("source", "evict", "/away")
        with pytest.raises(Unavailable, match="its account here has CALLBACK"):
            network.admin("source", "recall", "/away")
        assert states(network["central"], "outgoing", "/away") == []
        network.admin("source", "update_user", "central", level="READAPPEND")
        network.admin("source", "recall", "/away")


def test_a_file_that_is_wanted_again_by_number_of_copies_is_not_said_to_be_away(tmp_path: Path) -> None:
    with linked(tmp_path) as network:
        network.admin("source", "update_user", "central", level="READAPPEND")
        write(network, "/back", b"1")
        wait_until("it is there", lambda: transfer(network, "/back"), 20)
        with network["source"].connect() as fs:
            network.run("central", "receive_clone")
            wait_until("it is known", lambda: fs.stat("/back").elsewhere != (), 20)
            network.admin("source", "evict", "/back")
            assert fs.stat("/back").unavailable == ("alice",)
            fs.setrep("/back", 1)
            network.admin("source", "recall", "/back")

            def returned() -> bool:
                for task in ("consume_queue", "check_consumed_queue"):
                    network.run("central", task)
                network.run("source", "receive_clone")
                return fs.stat("/back").storages == ("alice",)

            wait_until("it is back", returned, 20)
            assert fs.stat("/back").unavailable == ()


def test_a_batch_larger_than_an_offer_may_be_is_refused_by_its_name(tmp_path: Path) -> None:
    with linked(tmp_path) as network, pytest.raises(GogglesError, match="send_batch_size"):
        plan = (("destination_librarian", "central"), ("send_batch_size", 1_001))
        network.admin("source", "run_plan", "send_clone", plan, "too large")


def test_a_manager_that_is_not_there_gives_way_to_the_next_at_once(tmp_path: Path) -> None:
    """Globus can not be reached; the other librarian and its storage can."""
    with Globus() as globus:
        here, there = globus.collection("/"), globus.collection(tmp_path / "central" / "storages")
        flags = (*FLAGS, *settings(application(globus, tmp_path), here))
    sites = {"source": ("alice",), "central": ("carol",)}
    with Network(tmp_path, sites, flags, globus.environment) as network:
        restarted(network["central"], "carol", "--globus_endpoint", there.id, "--globus_root", "/carol")
        network.link("source", "central")
        prefer(network, "globus", "goggles")
        write(network, "/by-the-other-way", b"1")
        wait_until("it", lambda: transfer(network, "/by-the-other-way"), 30)
        with database(network["source"]) as opened, opened.read() as connection:
            queue = peering.send_queue.c
            assert connection.execute(select(queue.manager, queue.tries)).all() == [("goggles", 0)]
