"""Peers that answer nonsense, speak another version, never answer, or are not who they should be."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.network.fake_peer import PASSWORD, FakePeer

from goggles.contracts.peering import Offer, State
from goggles.errors import (
    BadRequest,
    CertificateError,
    ConnectionLost,
    GogglesError,
    InternalError,
    PermissionDenied,
    ProtocolError,
)
from goggles.testing.cluster import wait_until
from goggles.testing.network import Network

ID, SHA = "a" * 32, "0" * 64


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakePeer]:
    with FakePeer(tmp_path_factory.mktemp("fake")) as fake:
        yield fake


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, fake: FakePeer) -> Iterator[Network]:
    """source pushes to central, which is in order, and to fake."""
    folder = tmp_path_factory.mktemp("bad-peers")
    made = Network(folder, {"source": ("alice",), "central": ("carol",)}, ("--offer_again", "0.1"))
    made["source"].trust(made["central"], fake)  # type: ignore[arg-type]  # it has certificates, as a site has
    fake.start(made["source"])
    with made as network:
        network.link("source", "central")
        network.admin("source", "create_user", "fake", PASSWORD, "READAPPEND")
        network.admin("source", "add_librarian", "fake", "localhost", fake.port, "source:whatever")
        yield network


@pytest.fixture(autouse=True)
def no_traceback(network: Network) -> Iterator[None]:
    """Whatever a peer does, it is told in words."""
    log = network["source"].folder / "nameserver.log"
    before = len(log.read_bytes())
    yield
    assert "Traceback" not in log.read_bytes()[before:].decode()


NONSENSE: dict[str, Callable[..., Any]] = {
    "nothing": lambda *_: None,
    "a number": lambda *_: 7,
    "a text": lambda *_: "yes" * 50,
    "too few": lambda *_: (),
    "too many": lambda *_: ((("id", ID), ("place", "x")),) * 5_000,
    "wrong items": lambda *_: (None, 7, "x", (1, 2, 3)),
    "huge": lambda *_: "x" * (20 << 20),
    "a mistake": lambda *_: 1 / 0,
    "an object": lambda *_: [object()],
    "its own error": lambda *_: (_ for _ in ()).throw(ValueError("of the fake")),
}


@pytest.mark.parametrize("method", ["batch_stage", "open_push", "peer_hello", "checkin_status", "whereabouts"])
@pytest.mark.parametrize("nonsense", list(NONSENSE))
def test_a_destination_that_answers_nonsense_spoils_nothing(
    network: Network, fake: FakePeer, method: str, nonsense: str
) -> None:
    path, before = f"/{method}-{nonsense.replace(' ', '-')}", dict(fake.script)
    with network["source"].connect() as fs:
        fs.write(path, b"for central, whatever fake says")
    fake.script[method] = NONSENSE[nonsense]
    try:
        if method == "peer_hello":
            with pytest.raises(GogglesError):
                network.admin("source", "add_librarian", "other", "localhost", fake.port, "source:whatever")
            found = {dict(peer)["name"]: dict(peer) for peer in network.admin("source", "get_librarian_list", True)}
            assert (found["fake"]["available"], found["central"]["available"]) == (False, True)
        for task in ("send_clone", "consume_queue", "outgoing_transfer_hypervisor"):
            network.run("source", task)
        network.run("source", "duplicate_remote_instance_hypervisor")
        network.wait_arrived("central", [path])
    finally:
        fake.script.update(before)


@pytest.mark.parametrize(
    "change",
    [
        {"store": 7},
        {"store": "s" * 1000},
        {"store": "nul\0"},
        {"host": None},
        {"port": "x"},
        {"facilities": "{"},
        {"facilities": "[]"},
        {"facilities": '{"goggles": 7}'},
        {"answers": ()},
        {"answers": ((("id", 7), ("place", 7)),)},
        {"answers": ((("id", ID), ("place", ("x",))),)},
        {"answers": (("have_it", "here", "s," * 4000),)},
        {"answers": (("no such code", "x\0", "y\0"),)},
    ],
)
def test_an_answer_to_an_offer_is_looked_at_closely(network: Network, fake: FakePeer, change: dict[str, Any]) -> None:
    path, before = f"/closely-{abs(hash(str(change)))}", dict(fake.script)
    network.admin("source", "set_librarian_transfer", "central", False)
    with network["source"].connect() as fs:
        fs.write(path, b"1")
    good = before["batch_stage"]

    def changed(source: str, offers: tuple[Any, ...]) -> Any:
        told = dict(good(source, offers)) | change
        told["answers"] = told["answers"] * len(offers) if "answers" in change else told["answers"]
        return tuple(told.items())

    fake.script["batch_stage"] = changed
    try:
        network.run("source", "send_clone")
        network.run("source", "consume_queue")
    finally:
        fake.script.update(before)
        network.admin("source", "set_librarian_transfer", "central", True)
    with network["source"].connect() as fs:
        assert fs.exists(path)


def test_another_version_of_the_protocol_is_named(network: Network, fake: FakePeer) -> None:
    before = fake.script["peer_hello"]
    fake.script["peer_hello"] = lambda name, protocol: (("name", "fake"), ("protocol", 99))
    try:
        (told,) = [
            dict(one) for one in network.admin("source", "get_librarian_list", True) if dict(one)["name"] == "fake"
        ]
        assert not told["available"]
        assert "speaks another version (99)" in told["why_not"]
        network.admin("source", "remove_librarian", "fake", True)
        with pytest.raises(ProtocolError, match="another version"):
            network.admin("source", "add_librarian", "fake", "localhost", fake.port, "source:whatever")
    finally:
        fake.script["peer_hello"] = before
        network.admin("source", "add_librarian", "fake", "localhost", fake.port, "source:whatever")


def test_a_peer_that_never_answers_holds_up_no_other(network: Network, fake: FakePeer) -> None:
    before = dict(fake.script)
    fake.script["batch_stage"] = lambda *_: time.sleep(40)
    with network["source"].connect() as fs:
        fs.write("/despite-silence", b"1")
    began = time.monotonic()
    try:
        for name in ("fake", "central"):
            threading.Thread(target=send_in_background, args=(network, name), daemon=True).start()
        network.wait_arrived("central", ["/despite-silence"], 25)
        assert time.monotonic() - began < 25
    finally:
        fake.script.update(before)


def send_in_background(network: Network, name: str) -> None:
    with contextlib.suppress(GogglesError):
        network.admin("source", "run_plan", "send_clone", (("destination_librarian", name),), f"to {name}", 5.0)


SAID: list[tuple[str, tuple[Any, ...]]] = [
    ("peer_hello", ("another", 1)),
    ("peer_hello", (7, "x")),
    ("batch_stage", ("central", ())),
    ("batch_stage", ("fake", (1, 2))),
    ("batch_stage", ("fake", ((("id", 7),),))),
    ("batch_stage", ("fake", (None,) * 2_000)),
    ("batch_stage", ("fake", (Offer(ID, 7, "x", None, 1, 2, "x").to_wire(),))),  # type: ignore[arg-type]
    ("open_push", ((("x", "y"),),)),
    ("open_push", (((ID, "no uri"),),)),
    ("checkin_update", ((ID,), 99, "")),
    ("checkin_update", ((7,), 4, "")),
    ("checkin_update", ((ID,), 4, "x" * 100_000)),
    ("checkin_status", (("short",),)),
    ("outgoing_status", ((None,),)),
    ("clone_complete", (((ID, ID, 99, "s", ""),),)),
    ("clone_complete", (((ID, ID, "x", "s", ""),),)),
    ("clone_complete", ((7,),)),
    ("please_send", ("relative", 1, SHA)),
    ("please_send", ("/nothing-there", 1, SHA)),
    ("whereabouts", (((1, 2, 3),),)),
    ("whereabouts", ((("/x", "1", SHA),),)),
    ("validate_for", ("/x", (7,), 1.0)),
    ("run_task", ("send_clone",)),
    ("get_librarian_list", ()),
]


@pytest.mark.parametrize(("method", "args"), SAID, ids=[f"{m}-{n}" for n, (m, _) in enumerate(SAID)])
def test_a_source_that_says_nonsense_is_refused_in_words(
    network: Network, fake: FakePeer, method: str, args: tuple[Any, ...]
) -> None:
    peer = fake.dial(network["source"])
    try:
        with pytest.raises(GogglesError) as caught:
            peer.call(method, *args)
    finally:
        peer.close()
    assert not isinstance(caught.value, InternalError)


BAD_OFFERS: list[dict[str, Any]] = [
    {"id": "x" * 32},
    {"path": "relative"},
    {"path": "/"},
    {"path": "/a/../b"},
    {"path": "/nul\0"},
    {"path": "/.goggles/x"},
    {"path": "/" + "x" * 300},
    {"path": "/deep" * 3000},
    {"size": -1},
    {"size": 1 << 62},
    {"sha256": "short"},
    {"made_at": float("nan")},
    {"made_at": float("inf")},
    {"made_at": -1e300},
    {"made_at": 10**400},
    {"uploader": "u\0" * 20},
    {"source": "s" * 16_000},
]


@pytest.mark.parametrize("change", BAD_OFFERS, ids=range(len(BAD_OFFERS)))
def test_one_bad_offer_does_not_spoil_its_batch(network: Network, fake: FakePeer, change: dict[str, Any]) -> None:
    number = BAD_OFFERS.index(change)
    good = Offer(f"{number:032x}", f"/good/{number}", 1, SHA, "u", "s", 1.0)
    bad = {**dict(good.to_wire()), "id": f"{number + 1000:032x}", "path": f"/bad/{number}", **change}
    peer = fake.dial(network["source"])
    try:
        answer = dict(peer.call("batch_stage", "fake", (good.to_wire(), tuple(bad.items()))))
        first, second = answer["answers"]
        assert len(dict(first)["id"]) == 32
        taken = len(second) != 3
        ids = (dict(first)["id"], *([dict(second)["id"]] if taken else []))
        assert all(peer.call("checkin_update", ids, int(State.CANCELLED), ""))
    except GogglesError as error:
        no_message = any(isinstance(value, int) and value > 10**255 for value in change.values())
        refusal = ConnectionLost if no_message else BadRequest
        assert isinstance(error, refusal), "only what has not the shape of an offer spoils the whole"
    finally:
        peer.close()


def test_a_librarian_of_a_ca_that_is_not_trusted_is_not_let_in(network: Network, tmp_path: Path) -> None:
    with FakePeer(tmp_path / "stranger", "fake") as stranger, pytest.raises((CertificateError, ConnectionLost)):
        stranger.dial(network["source"])


def test_a_trusted_librarian_with_the_wrong_password_is_not_let_in(network: Network, fake: FakePeer) -> None:
    network.admin("source", "update_user", "fake", "another password", "READAPPEND")
    try:
        with pytest.raises(PermissionDenied):
            fake.dial(network["source"])
    finally:
        network.admin("source", "update_user", "fake", PASSWORD, "READAPPEND")


def test_the_nameserver_is_as_it_was_after_all_that(network: Network) -> None:
    process = network["source"].nameserver
    assert process is not None
    assert process.running
    assert psutil.Process(process.pid).num_threads() < 120
    wait_until("no storage is lost", lambda: network["source"].states() == {"alice": "active"}, 20)
