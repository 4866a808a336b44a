"""Tickets for reading.

Law: a ticket names one version and whoever has it now; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from goggles.contracts.data import Hop, ReadTicket
from goggles.contracts.grants import READ
from goggles.errors import Unavailable
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node, returning
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE
from goggles.paths import parse


class Reading:
    """Where files can be read."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def open_read(self, path: str, holder: str) -> ReadTicket:
        """Where the file can be read, in order of preference."""
        wanted = parse(path)
        with self._site.look() as tree:
            entry = tree.need_file(wanted)
            holders = tree.instances_of([entry.id]).get(entry.id, [])
        nodes = [self._site.roster.get(node) for node in holders]
        readable = [node for node in nodes if node.state in READABLE]
        if not readable:
            raise Unavailable(f"no storage that is up holds {wanted}{returning(nodes)}", _who_has(nodes))
        self._site.chance.shuffle(readable)
        hops = tuple(self._read_hop(entry, wanted, node, holder) for node in readable)
        return ReadTicket(wanted, entry.size, entry.sha256, entry.generation, entry.version, entry.modified, hops)

    def _read_hop(self, entry: Entry, path: str, node: Node, holder: str) -> Hop:
        grant = self._site.grant(READ, entry.version, path, entry.size, node, holder)
        return Hop(node.name, node.address.host, node.address.port, grant, node.await_orders())


def _who_has(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "no copy of it is known; verify, or restore it from elsewhere"
    return "it is on " + ", ".join(f"{node.name} ({node.state})" for node in nodes)
