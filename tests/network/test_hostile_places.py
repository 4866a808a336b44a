"""A destination may name as a place for our bytes nothing but an arrival of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.network.fake_peer import PASSWORD, FakePeer

from goggles.contracts.peering import Place, Reception
from goggles.testing.cluster import wait_until
from goggles.testing.network import Network

ID = "a" * 32


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakePeer]:
    with FakePeer(tmp_path / "fake") as fake:
        yield fake


@pytest.fixture
def network(tmp_path: Path, fake: FakePeer) -> Iterator[Network]:
    """source, whose storage may copy into `shared`, and which pushes to fake by copying."""
    (tmp_path / "shared").mkdir()
    made = Network(tmp_path, {"source": ("alice",)}, ("--offer_again", "0.1"))
    made["source"].trust(fake)  # type: ignore[arg-type]  # it has certificates, as a site has
    made["source"]._storage_flags += ["--push_local", str(tmp_path / "shared")]
    fake.start(made["source"])
    with made as network:
        network.admin("source", "create_user", "fake", PASSWORD, "READAPPEND")
        authenticator = "source:whatever"
        network.admin("source", "add_librarian", "fake", "localhost", fake.port, authenticator, managers=("local",))
        yield network


@pytest.mark.parametrize("place", ["victim", "../shared/victim", f".goggles/incoming/{'b' * 32}/data", ""])
def test_no_other_file_is_written_than_the_arrival_of_this_transfer(
    network: Network, fake: FakePeer, tmp_path: Path, place: str
) -> None:
    shared = tmp_path / "shared"
    victims = [shared / "victim", shared / ".goggles/incoming" / ("b" * 32) / "data"]
    for victim in victims:
        victim.parent.mkdir(parents=True, exist_ok=True)
        victim.write_bytes(b"of somebody else")

    arrived = shared / ".goggles/incoming" / ID
    arrived.mkdir(parents=True)

    def batch_stage(source: str, offers: tuple[Any, ...]) -> Any:
        places = {"/evil": Place("c" * 32, place), "/good": Place(ID, f".goggles/incoming/{ID}/data")}
        answers = tuple(places[dict(offer)["path"]].to_wire() for offer in offers)
        facilities = json.dumps({"local": {"root": str(shared)}})
        return Reception("store", "localhost", 9, facilities, 1 << 40, answers).to_wire()

    fake.script["batch_stage"] = batch_stage
    with network["source"].connect() as fs:
        fs.write("/evil", b"overwritten")
        fs.write("/good", b"welcome")
    network.run("source", "send_clone")
    wait_until("the other", lambda: network.run("source", "consume_queue") >= 0 and is_there(arrived), 30)
    time.sleep(0.5)
    assert [victim.read_bytes() for victim in victims] == [b"of somebody else"] * 2


def is_there(arrived: Path) -> bool:
    return (arrived / "data").exists() and (arrived / "data").read_bytes() == b"welcome"
