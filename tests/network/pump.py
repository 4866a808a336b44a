"""Drives the transfers of a network without waiting for the second of the schedule."""

from __future__ import annotations

import threading
from typing import Self

from goggles.errors import GogglesError
from goggles.roles import Role
from goggles.testing.network import Network

WORK = ("consume_queue", "check_consumed_queue", "receive_clone")
PAUSE = 0.2


class Pump:
    """Runs what is due at all sites, over and over; a site that is down is passed over."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(site,), daemon=True) for site in network.sites]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30.0)

    def _run(self, site: str) -> None:
        while not self._stop.wait(PAUSE):
            try:
                self._work(site)
            except (GogglesError, OSError):
                continue

    def _work(self, site: str) -> None:
        """Until its connection breaks."""
        peer = self._network[site].dial("admin", Role.ADMIN)
        try:
            while not self._stop.wait(PAUSE):
                for task in WORK:
                    peer.call("run_task", task)
        finally:
            peer.close()
