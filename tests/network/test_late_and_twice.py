"""What another site says or sends late, twice, or while something else is at work, does no harm."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.network.fake_peer import PASSWORD, FakePeer

from goggles.contracts.peering import Offer, Reception, State
from goggles.errors import GogglesError
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.testing.cluster import wait_until
from goggles.testing.network import PASSWORD as REAL
from goggles.testing.network import Network
from goggles.wire.data import Buffer, DataLink, Kind
from goggles.wire.dial import Address, Dialer

FLAGS = ("--heartbeat", "0.3", "--grace", "1", "--background", "off")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakePeer]:
    with FakePeer(tmp_path / "fake") as fake:
        yield fake


@pytest.fixture
def network(tmp_path: Path, fake: FakePeer) -> Iterator[Network]:
    """fake may add files at source; source could push to central, which it does not know yet."""
    made = Network(tmp_path, {"source": ("alice",), "central": ("carol",)}, FLAGS)
    made["source"].trust(made["central"], fake)  # type: ignore[arg-type]  # it has certificates, as a site has
    fake.start(made["source"])
    with made as network:
        network.admin("source", "create_user", "fake", PASSWORD, "READAPPEND")
        network.admin("source", "add_librarian", "fake", "localhost", fake.port, "source:whatever")
        yield network


@contextmanager
def delivery(network: Network, fake: FakePeer, grant: bytes, data: bytes) -> Iterator[DataLink]:
    """A push from fake's storage, of which everything but the end has been sent."""
    files = fake.certificates.files("store", Role.STORAGE)
    dialer = Dialer(Contexts(PkiFiles(fake.certificates.ca, *files, peer_ca=network["source"].certificates.ca)))
    address = Address("localhost", network["source"].ports["alice"])
    link = dialer.data(address, Role.STORAGE, "alice", abroad=True)
    try:
        link.send_value(Kind.REQUEST, ("append", grant, 0))
        buffer = Buffer()
        buffer.space[: len(data)] = data
        buffer.used = len(data)
        link.send_data(buffer)
        yield link
    finally:
        link.close()


def test_what_is_still_being_sent_again_is_read_when_that_ends(network: Network, fake: FakePeer) -> None:
    data = os.urandom(10_000)
    peer = fake.dial(network["source"])
    try:
        offer = Offer("1" * 32, "/twice", len(data), hashlib.sha256(data).hexdigest(), "u", "s", 1.0)
        told: Reception = Reception.from_wire(peer.call("batch_stage", "fake", (offer.to_wire(),)))
        arrival = dict(told.answers[0])["id"]  # type: ignore[call-overload]
        holder = Identity(fake.site, Role.STORAGE, "store").uri
        (grant,) = peer.call("open_push", ((arrival, holder),))
        with delivery(network, fake, grant, data):
            peer.call("checkin_update", (arrival,), int(State.STAGED), "")
            network.run("source", "receive_clone")
            time.sleep(1.5)
            assert peer.call("checkin_status", (arrival,))[0][0] == State.STAGED
        with network["source"].connect() as fs:
            wait_until("it", lambda: network.run("source", "receive_clone") >= 0 and fs.exists("/twice"), 20)
            assert b"".join(fs.read("/twice")) == data
        with pytest.raises(GogglesError), delivery(network, fake, grant, b"other bytes") as link:
            link.send_value(Kind.END, (11,))
            link.answer()
        assert b"".join(network["source"].connect().read("/twice")) == data
    finally:
        peer.close()


def test_one_transfer_offered_twice_in_a_batch_spoils_no_other(network: Network, fake: FakePeer) -> None:
    sha = hashlib.sha256(b"1").hexdigest()
    offers = [Offer(digit * 32, f"/{name}", 1, sha, "u", "s", 1.0).to_wire() for digit, name in ("1a", "1b", "2c")]
    peer = fake.dial(network["source"])
    try:
        told: Reception = Reception.from_wire(peer.call("batch_stage", "fake", tuple(offers)))
        assert [len(answer) for answer in told.answers] == [2, 3, 2]  # type: ignore[arg-type]
    finally:
        peer.close()
    assert "Traceback" not in (network["source"].folder / "nameserver.log").read_text()


def test_a_connection_to_a_librarian_that_was_removed_is_not_used_for_the_next(
    network: Network, fake: FakePeer
) -> None:
    """The database may give the next one the same number."""
    hello, begun = fake.script["peer_hello"], threading.Event()

    def slow(name: str, protocol: int) -> object:
        begun.set()
        time.sleep(2)
        return hello(name, protocol)

    fake.script["peer_hello"] = slow
    with network["source"].connect() as fs:
        fs.write("/for-central", b"1")

    def send() -> None:
        with suppress(GogglesError):
            network.run("source", "send_clone")

    sending = threading.Thread(target=send)
    sending.start()
    assert begun.wait(20)
    network.admin("source", "remove_librarian", "fake", True)
    authenticator = REAL.format("source", "central")
    network.admin("central", "create_user", "source", authenticator, "READAPPEND")
    network.admin("source", "create_user", "central", authenticator, "CALLBACK")
    network.admin("central", "add_librarian", "source", "localhost", network["source"].port, f"central:{authenticator}")
    port = network["central"].port
    network.admin("source", "add_librarian", "central", "localhost", port, f"source:{authenticator}", False)
    sending.join()
    fake.asked.clear()
    network.run("source", "send_clone")
    assert [method for method, _ in fake.asked] == []
