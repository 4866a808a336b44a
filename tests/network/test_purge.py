"""Transfers that are over are forgotten after a while, and whoever speaks of them then does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.network.fake_peer import PASSWORD, FakePeer
from tests.network.test_stuck import database, linked, states, transfer, write

from goggles.contracts.peering import State
from goggles.errors import GogglesError
from goggles.meta import peering
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.testing.cluster import Cluster, wait_until
from goggles.testing.network import Network
from goggles.wire import faults

TABLES = (peering.outgoing, peering.incoming, peering.send_queue)


def purge(network: Network, site: str, days: float = 0.0) -> int:
    return int(network.admin(site, "run_plan", "purge_transfers", (("age_in_days", days),), "purge"))


def rows(site: Cluster) -> list[int]:
    """Outgoing and incoming transfers, and batches."""
    with database(site) as opened, opened.read() as connection:
        return [int(connection.execute(select(func.count()).select_from(table)).scalar() or 0) for table in TABLES]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """source has sent /done to central, which has told so."""
    with linked(tmp_path) as network:
        write(network, "/done", b"1")
        wait_until("it is there", lambda: transfer(network, "/done"), 20)
        network.run("central", "receive_clone")
        with network["source"].connect() as fs:
            wait_until("it is known", lambda: fs.stat("/done").elsewhere != (), 20)
        network.run("source", "check_consumed_queue")
        yield network


def test_what_is_over_goes_in_time_and_the_file_stays(network: Network) -> None:
    source, central = network["source"], network["central"]
    assert (rows(source), rows(central)) == ([1, 0, 1], [0, 1, 0])
    assert [purge(network, "source", 1.0), purge(network, "central", 1.0)] == [0, 0]
    assert rows(source) == [1, 0, 1]
    wait_until("it is old enough", lambda: purge(network, "source") >= 0 and rows(source) == [0, 0, 0], 10)
    wait_until("there too", lambda: purge(network, "central") >= 0 and rows(central) == [0, 0, 0], 10)
    for task in ("outgoing_transfer_hypervisor", "send_clone", "consume_queue", "check_consumed_queue"):
        network.run("source", task)
    network.run("central", "incoming_transfer_hypervisor")
    with source.connect() as here, central.connect() as there:
        assert here.stat("/done").elsewhere == (("central", "carol"),)
        assert b"".join(there.read("/done")) == b"1"
    assert rows(source) == [0, 0, 0], "it was sent again"


def test_what_lives_and_what_its_source_has_not_heard_of_stays(tmp_path: Path) -> None:
    with linked(tmp_path) as network:
        source, central = network["source"], network["central"]
        write(network, "/first", b"1")
        network.run("source", "send_clone")
        assert [purge(network, "source"), purge(network, "central")] == [0, 0]
        assert states(source, "outgoing", "/first") == [State.INITIATED]
        network.admin("central", "update_user", "source", level="READAPPEND")
        network.admin("source", "update_user", "central", level="NONE")  # so that it can not be told
        wait_until("it is there", lambda: transfer(network, "/first"), 20)
        network.run("central", "receive_clone")
        assert purge(network, "central") == 0
        assert states(central, "incoming", "/first") == [State.COMPLETED]
        network.admin("source", "update_user", "central", level="CALLBACK")

        def told() -> bool:
            network.run("central", "receive_clone")
            return fs.stat("/first").elsewhere == (("central", "carol"),)

        with source.connect() as fs:
            wait_until("it is told", told, 30)
        wait_until("it may go now", lambda: purge(network, "central") == 1, 10)


def test_what_was_refused_is_remembered_while_that_keeps_it_from_being_offered(tmp_path: Path) -> None:
    with linked(tmp_path) as network:
        with network["central"].connect() as fs:
            fs.write("/taken", b"something else")
        source = network["source"]
        assert source.nameserver is not None
        source.nameserver.stop()
        source.start_nameserver(["--offer_again", "600"])
        source.wait_active(["alice"])
        write(network, "/taken", b"1")
        network.run("source", "send_clone")
        assert states(source, "outgoing", "/taken") == [State.FAILED]
        assert purge(network, "source") == 0
        network.run("source", "send_clone")
        assert states(source, "outgoing", "/taken") == [State.FAILED]


def test_a_file_is_mended_by_its_source_also_when_nobody_remembers_who_sent_it(network: Network) -> None:
    central = network["central"]
    wait_until("it is forgotten", lambda: purge(network, "central") >= 0 and rows(central) == [0, 0, 0], 10)
    (central.root("carol") / "done").unlink()
    network.admin("central", "verify", "/done")
    with central.connect() as fs:
        wait_until("noticed", lambda: fs.stat("/done").held == "nowhere", 20)
        network.run("central", "corruption_fixer")
        wait_until("healed", lambda: transfer(network, "/done") and fs.stat("/done").held == "here", 30)
        assert b"".join(fs.read("/done")) == b"1"


def test_late_calls_for_what_is_forgotten_change_nothing(tmp_path: Path) -> None:
    with FakePeer(tmp_path / "fake") as fake, linked(tmp_path, trusted=(fake,)) as network:
        source = network["source"]
        fake.start(source)
        network.admin("source", "remove_librarian", "central", True)
        network.admin("source", "create_user", "fake", PASSWORD, "READAPPEND")
        network.admin("source", "add_librarian", "fake", "localhost", fake.port, "source:whatever")
        write(network, "/to-fake", b"1")
        network.run("source", "send_clone")
        with database(source) as opened, opened.read() as connection:
            (sent,) = connection.execute(select(peering.outgoing)).all()
        peer = fake.dial(source)
        try:
            peer.call("clone_complete", ((sent.id, sent.remote_id, int(State.FAILED), "store", "no"),))
            late(network, peer, fake, sent)
        finally:
            peer.close()


def late(network: Network, peer: object, fake: FakePeer, sent: object) -> None:
    """Everything that may be said of a transfer, once it is forgotten."""
    source, call = network["source"], peer.call  # type: ignore[attr-defined]
    network.run("source", "consume_queue")
    wait_until("it is forgotten", lambda: purge(network, "source") >= 0 and rows(source) == [0, 0, 0], 10)
    call("clone_complete", ((sent.id, sent.remote_id, int(State.COMPLETED), "store", ""),))  # type: ignore[attr-defined]
    assert call("outgoing_status", (sent.id,)) == ((-1, ""),)  # type: ignore[attr-defined]
    assert call("checkin_status", ("b" * 32,)) == ((-1, ""),)
    for state in (State.ONGOING, State.STAGED, State.FAILED, State.CANCELLED):
        assert call("checkin_update", ("b" * 32,), int(state), "") == (False,)
    (answer,) = call("open_push", (("b" * 32, Identity(fake.site, Role.STORAGE, "store").uri),))
    assert isinstance(faults.from_tuple(*answer), GogglesError)
    assert rows(source) == [0, 0, 0]
    with source.connect() as fs:
        assert fs.stat("/to-fake").elsewhere == ()


def test_an_offer_of_what_came_and_was_forgotten_is_answered_by_the_file(network: Network) -> None:
    """The source's database is of last week, and offers it anew."""
    central = network["central"]
    wait_until("it is forgotten", lambda: purge(network, "central") >= 0 and rows(central) == [0, 0, 0], 10)
    network.admin("source", "remove_librarian", "central", True)
    network.admin("source", "delete_user", "central")
    network.admin("central", "remove_librarian", "source", True)
    network.admin("central", "delete_user", "source")
    network.link("source", "central")
    network.run("source", "send_clone")
    assert states(network["source"], "outgoing", "/done") == [State.COMPLETED]
    with network["source"].connect() as fs:
        assert fs.stat("/done").elsewhere == (("central", "carol"),)
