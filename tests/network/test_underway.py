"""What is on its way to other sites is told as it waits, and once a manager has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goggles.testing.network import Network


def flights(network: Network) -> list[dict[str, Any]]:
    return [dict(row) for row in network.admin("source", "get_transfers")]


def test_a_batch_waits_is_sent_and_is_over(tmp_path: Path) -> None:
    sites = {"source": ("alice",), "central": ("carol",)}
    with Network(tmp_path, sites, ("--background", "off")) as network:
        network.link("source", "central")
        with network["source"].connect() as session:
            for size in (1, 10, 100):
                session.write(f"/{size}", bytes(size))
        network.run("source", "send_clone")
        (waiting,) = flights(network)
        assert (waiting["peer"], waiting["state"], waiting["manager"]) == ("central", "waiting", "")
        assert (waiting["files"], waiting["size"], waiting["files_done"], waiting["rate"]) == (3, 111, 0, 0.0)

        network.run("source", "consume_queue")
        (sent,) = flights(network)
        assert (sent["batch"], sent["state"], sent["manager"]) == (waiting["batch"], "sent", "goggles")
        assert (sent["files"], sent["size"]) == (3, 111)

        while flights(network):
            network.run("source", "check_consumed_queue")
        network.run("central", "receive_clone")
        network.wait_arrived("central", ["/1", "/10", "/100"])
