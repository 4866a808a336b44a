"""Places for what arrives, on a storage of ours."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from goggles.contracts import orders
from goggles.contracts.records import Value
from goggles.errors import Unavailable
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site

PATIENCE = 20.0  # seconds that a storage may take


def make_places(site: Site, node: Node, arrivals: Sequence[str]) -> None:
    """Have the storage make places; Unavailable where it does not answer."""
    if not arrivals:
        return
    done, results = threading.Event(), list[tuple[Value, ...]]()

    def report(result: tuple[Value, ...]) -> None:
        results.append(result)
        done.set()

    with site.decisions.lock:
        node.order(orders.expect(tuple(arrivals)), report)
    if not done.wait(PATIENCE):
        raise Unavailable(f"storage {node.name} does not answer", "try again later")
    if results[0][0] == "error":
        raise Unavailable(f"storage {node.name} has no place: {results[0][2]}", "try again later")
