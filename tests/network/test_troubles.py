"""The table of errors: what goes wrong is written down once, found, cleared, and told to a webhook."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from goggles.errors import BadRequest, NotFound, PermissionDenied
from goggles.roles import Role
from goggles.testing.cluster import free_port, wait_until
from goggles.testing.network import Network

AUTHENTICATOR = "a:b"


class Listener:
    """A web server that keeps what is posted to it, and answers with `status`."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 200
        told, outer = self.told, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Nothing is said."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?secret=xyzzy"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, listener: Listener) -> Iterator[Network]:
    flags = ["--webhook", listener.url, "--heartbeat", "0.3", "--grace", "1"]
    folder = tmp_path_factory.mktemp("troubles")
    with Network(folder, {"source": ("alice", "bob"), "central": ("carol",)}, flags) as network:
        network.link("source", "central")
        yield network


def search(network: Network, site: str = "source", **query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in network.admin(site, "search_errors", tuple(query.items()))]


def wait_for(network: Network, words: str, site: str = "source", **query: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [row for row in search(network, site, **query) if words in row["message"]]
        return bool(found)

    wait_until(f"an error that says {words!r}", there, 20)
    return found[0]


def test_a_peer_that_does_not_answer_is_told_once_and_again_after_it_was_cleared(
    network: Network, listener: Listener
) -> None:
    network.admin("source", "add_librarian", "dead", "localhost", free_port(), AUTHENTICATOR, check_connection=False)
    with network["source"].connect() as fs:
        fs.write("/for-the-dead", b"1")
    for _ in range(3):
        network.run("source", "send_clone")
    row = wait_for(network, "librarian dead")
    assert (row["severity"], row["category"]) == ("error", "librarian_network_availability")
    assert row["caller"].startswith("goggles.librarian.peers.")
    assert (row["cleared"], row["cleared_time"]) == (False, 0.0)
    about = [one for one in search(network, include_resolved=True) if one["message"] == row["message"]]
    assert len(about) == 1, "the same error stands there twice"
    network.admin("source", "clear_error", row["id"])
    network.admin("source", "clear_error", row["id"])
    cleared = search(network, id=row["id"], include_resolved=True)[0]
    assert cleared["cleared"]
    assert cleared["cleared_time"] >= row["raised_time"]
    assert search(network, id=row["id"]) == []
    network.run("source", "send_clone")
    assert wait_for(network, "librarian dead")["id"] > row["id"]
    wait_until("both told to the webhook", lambda: len(about_dead(listener)) == 2, 10)
    told = about_dead(listener)[0]
    assert (told["site"], told["category"]) == ("source", "librarian_network_availability")
    assert told["message"] in told["text"]


def about_dead(listener: Listener) -> list[dict[str, Any]]:
    return [one for one in listener.told if "librarian dead" in one["message"]]


def test_what_stands_survives_a_restart_and_is_still_not_written_twice(network: Network) -> None:
    row = wait_for(network, "librarian dead")
    nameserver = network["source"].nameserver
    assert nameserver is not None
    nameserver.stop()
    network["source"].start_nameserver()
    network["source"].wait_active(("alice", "bob"))
    network.run("source", "send_clone")
    again = [
        one for one in search(network, include_resolved=True, max_results=1000) if "librarian dead" in one["message"]
    ]
    assert [one["id"] for one in again if not one["cleared"]] == [row["id"]]


def test_a_storage_that_stays_away_is_told(network: Network) -> None:
    network["source"].storages["bob"].kill()
    row = wait_for(network, "storage bob has been away", category="data_availability")
    assert row["severity"] == "error"
    network["source"].start_storage("bob")
    network["source"].wait_active(("bob",))


def test_a_bad_copy_is_told_and_that_it_was_the_last(network: Network) -> None:
    with network["central"].connect() as fs:
        fs.write("/rotten", b"good bytes")
        network["central"].wait_settled()
        (network["central"].root("carol") / "rotten").write_bytes(b"bad  bytes")
        assert fs.verify("/rotten") == [("carol", "bad")]
        fs.rm("/rotten")
    assert wait_for(network, "bad copy of /rotten", "central")["category"] == "data_integrity"
    lost = wait_for(network, "last copy of /rotten", "central")
    assert (lost["severity"], lost["category"]) == ("critical", "data_availability")


def test_wrong_bytes_that_arrive_are_told_on_both_sides(network: Network) -> None:
    source = network["source"]
    with source.connect() as fs:
        fs.write("/wrong", b"good bytes")
        source.wait_settled()
        (holder,) = fs.locations("/wrong")
        (source.root(holder) / "wrong").write_bytes(b"bad  bytes")
        network.run("source", "send_clone")
        here = wait_for(network, "/wrong did not arrive as it was sent", "central")
        assert (here["severity"], here["category"]) == ("error", "data_integrity")
        there = wait_for(network, "librarian central could not take /wrong")
        assert (there["severity"], there["category"]) == ("warning", "transfer")
        fs.rm("/wrong")


def test_a_destination_without_room_is_told_on_both_sides(network: Network) -> None:
    central = network["central"]
    central.storages["carol"].stop()
    central.start_storage("carol", ["--capacity", "100K"])
    central.wait_active(("carol",))
    with network["source"].connect() as fs:
        fs.write("/large", os.urandom(1 << 20))
    network.run("source", "send_clone")
    assert wait_for(network, "librarian central has no room")["category"] == "store_full"
    assert wait_for(network, "room for what librarian source sends", "central")
    central.storages["carol"].stop()
    central.start_storage("carol")
    central.wait_active(("carol",))


def test_a_storage_in_safe_mode_is_told(network: Network) -> None:
    central = network["central"]
    with central.connect() as fs:
        for number in range(30):
            fs.write(f"/safe-{number}", b"%d" % number)
    central.wait_settled()
    central.storages["carol"].stop()
    for number in range(30):
        os.unlink(central.root("carol") / f"safe-{number}")
        (central.root("carol") / f"strange-{number}").write_bytes(b"nobody knows")
    central.start_storage("carol")
    wait_until("carol is held", lambda: central.states().get("carol") == "held", 30)
    assert wait_for(network, "in safe mode", "central")["category"] == "data_availability"
    assert "30 files" in wait_for(network, "lost the last copies", "central", severity="critical")["message"]


def test_queries_are_bounded_and_checked(network: Network) -> None:
    everything = search(network, include_resolved=True, max_results=1000)
    assert len(everything) >= 3
    times = [row["raised_time"] for row in everything]
    assert times == sorted(times, reverse=True)
    assert len(search(network, include_resolved=True, max_results=1)) == 1
    middle = times[1]
    assert {row["id"] for row in search(network, include_resolved=True, create_time_start=middle)} == {
        row["id"] for row in everything if row["raised_time"] >= middle
    }
    assert {row["id"] for row in search(network, include_resolved=True, create_time_end=middle)} == {
        row["id"] for row in everything if row["raised_time"] <= middle
    }
    assert all(row["severity"] == "error" for row in search(network, severity="error"))
    for wrong in ({"severity": "bad"}, {"max_results": 1001}, {"max_results": True}, {"nonsense": 1}, {"id": "1"}):
        with pytest.raises(BadRequest, match=next(iter(wrong))):
            search(network, **wrong)
    with pytest.raises(BadRequest, match=r"\(key, value\)"):
        network.admin("source", "search_errors", ("severity",))
    with pytest.raises(NotFound, match="no error 999999"):
        network.admin("source", "clear_error", 999_999)


def test_errors_are_for_administrators(network: Network) -> None:
    peer = network["source"].dial("client", Role.CLIENT)
    try:
        for method, args in (("search_errors", ()), ("clear_error", (1,)), ("get_tasks", ())):
            with pytest.raises(PermissionDenied):
                peer.call(method, *args)
    finally:
        peer.close()


def test_a_webhook_that_fails_is_a_line_in_the_log_without_its_secret(network: Network, listener: Listener) -> None:
    listener.status = 500
    network.admin("source", "remove_librarian", "dead", True)
    network.admin("source", "add_librarian", "mute", "localhost", free_port(), AUTHENTICATOR, check_connection=False)
    network.run("source", "send_clone")
    row = wait_for(network, "librarian mute")
    log = network["source"].folder / "nameserver.log"
    wait_until("a line in the log", lambda: "the webhook at 127.0.0.1 could not" in log.read_text(), 10)
    assert "xyzzy" not in log.read_text()
    assert row["message"] in {one["message"] for one in listener.told}
