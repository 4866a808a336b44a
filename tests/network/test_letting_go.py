"""Copies are let go at the same moment by those who rely on each other, and one good copy is always left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.network.fake_peer import PASSWORD, FakePeer

from goggles.errors import Conflict, GogglesError
from goggles.testing.cluster import wait_until
from goggles.testing.descriptors import descriptors
from goggles.testing.network import Network

LARGE = 200 << 20
PLAN = (("age_in_days", 0.0), ("number_of_remote_copies", 1), ("force_deletion", True))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePeer]:
    with FakePeer(tmp_path_factory.mktemp("fake")) as fake:
        yield fake


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, fake: FakePeer) -> Iterator[Network]:
    """source and central push to each other; fake says that it has whatever source has."""
    made = Network(tmp_path_factory.mktemp("letting-go"), {"source": ("alice",), "central": ("carol",)})
    made["source"].trust(made["central"], fake)  # type: ignore[arg-type]  # it has certificates, as a site has
    fake.start(made["source"])
    with made as network:
        network.link("source", "central")
        network.admin("source", "update_user", "central", level="READAPPEND")
        network.admin("source", "create_user", "fake", PASSWORD, "READAPPEND")
        yield network


def hold_both(network: Network, path: str, data: bytes) -> None:
    """A file that both sites have, and know that the other has."""
    with network["source"].connect() as fs:
        fs.write(path, data)
    network.run("source", "send_clone")
    network.wait_arrived("central", [path])
    wait_until("central is known", lambda: "central" in holders(network, "source", path), 30)
    network.run("central", "send_clone")
    wait_until("source is known", lambda: "source" in holders(network, "central", path), 30)


def holders(network: Network, site: str, path: str) -> set[str]:
    with network[site].connect() as fs:
        return {librarian for librarian, _ in fs.stat(path).elsewhere}


def on_disk(network: Network, path: str) -> list[str]:
    stores = (("source", "alice"), ("central", "carol"))
    return [site for site, store in stores if (network[site].root(store) / path[1:]).exists()]


def wait_carried_out(network: Network) -> None:
    """Return when the storages have done what they were told."""
    for site in network.sites.values():
        with site.connect() as fs:
            wait_until("no order waits", lambda fs=fs: fs.du()[0].orders == 0, 30)


def is_read(network: Network, site: str, store: str, path: str) -> bool:
    """Whether a storage has a file open."""
    wanted, pid = network[site].root(store) / path[1:], network[site].storages[store].pid
    return str(wanted) in descriptors(pid)


def test_a_copy_that_is_let_go_while_it_is_read_for_another_is_not_vouched_for(
    network: Network, fake: FakePeer
) -> None:
    hold_both(network, "/large", os.urandom(LARGE))
    network.admin("source", "add_librarian", "fake", "localhost", fake.port, "source:whatever")
    whole = fake.script["batch_stage"]

    def have_it(source: str, offers: tuple[Any, ...]) -> Any:
        told = dict(whole(source, offers)) | {"answers": (("have_it", "here", "store"),) * len(offers)}
        return tuple(told.items())

    fake.script["batch_stage"] = have_it
    network.run("source", "send_clone")
    wait_until("fake is known", lambda: "fake" in holders(network, "source", "/large"), 30)
    asked, go_on = threading.Event(), threading.Event()

    def slow(path: str, visited: tuple[str, ...], patience: float) -> Any:
        asked.set()
        go_on.wait(60)
        return ()

    fake.script["validate_for"] = slow
    results: dict[str, object] = {}

    def evict(site: str) -> None:
        try:
            results[site] = network.admin(site, "evict", "/large", timeout=120.0)
        except GogglesError as error:
            results[site] = error

    first, second = (threading.Thread(target=evict, args=(site,)) for site in ("source", "central"))
    first.start()
    assert asked.wait(30)
    wait_until("central has begun", lambda: is_read(network, "central", "carol", "/large"), 30)
    wait_until("central has answered", lambda: not is_read(network, "central", "carol", "/large"), 30)
    second.start()
    wait_until("source reads for central", lambda: is_read(network, "source", "alice", "/large"), 30)
    go_on.set()
    first.join()
    second.join()
    wait_carried_out(network)
    network.admin("source", "remove_librarian", "fake", True)
    assert on_disk(network, "/large"), f"no copy is left: {results}"
    assert isinstance(results["central"], Conflict)


def test_two_that_trust_what_they_heard_do_not_both_let_go(network: Network) -> None:
    hold_both(network, "/trusted", b"precious")
    plan = (*PLAN, ("verify_downstream_checksums", False))
    for site in ("source", "central"):
        network.admin(site, "run_plan", "rolling_deletion", plan, "roll")
        wait_carried_out(network)
    assert on_disk(network, "/trusted") == ["central"]
