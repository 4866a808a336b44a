"""Tickets for reading.

Law: a ticket names one version and whoever has it now; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from goggles.contracts.data import Hop, ReadTicket
from goggles.contracts.grants import READ
from goggles.errors import GogglesError, Unavailable
from goggles.nameserver.entry import Entry
from goggles.nameserver.roster import Node, returning
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE
from goggles.nameserver.tree import Tree
from goggles.paths import parse


class Reading:
    """Where files can be read."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def open_read(self, path: str, holder: str) -> ReadTicket:
        """Where the file can be read, in order of preference."""
        answer = self.open_read_many([path], holder)[0]
        if isinstance(answer, GogglesError):
            raise answer
        return answer

    def open_read_many(self, paths: Sequence[str], holder: str) -> list[ReadTicket | GogglesError]:
        """`open_read` for each path; errors come as values."""
        with self._site.look() as tree:
            found = [_find(tree, path) for path in paths]
            holders = tree.instances_of([entry.id for _, entry in found if isinstance(entry, Entry)])
        return [
            self._ticket(path, entry, holders.get(entry.id, []), holder) if isinstance(entry, Entry) else entry
            for path, entry in found
        ]

    def _ticket(self, path: str, entry: Entry, holders: Sequence[int], holder: str) -> ReadTicket | GogglesError:
        nodes = [self._site.roster.get(node) for node in holders]
        readable = [node for node in nodes if node.state in READABLE]
        if not readable:
            return Unavailable(f"no storage that is up holds {path}{returning(nodes)}", _who_has(nodes))
        self._site.chance.shuffle(readable)
        hops = tuple([self._read_hop(entry, path, node, holder) for node in readable])
        return ReadTicket(path, entry.size, entry.sha256, entry.generation, entry.version, entry.modified, hops)

    def _read_hop(self, entry: Entry, path: str, node: Node, holder: str) -> Hop:
        grant = self._site.grant(READ, entry.version, path, entry.size, node, holder)
        return Hop(node.name, node.address.host, node.address.port, grant, node.await_orders())


def _find(tree: Tree, path: str) -> tuple[str, Entry | GogglesError]:
    try:
        wanted = parse(path)
        return wanted, tree.need_file(wanted)
    except GogglesError as error:
        return path, error


def _who_has(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "no copy of it is known; verify, or restore it from elsewhere"
    return "it is on " + ", ".join(f"{node.name} ({node.state})" for node in nodes)
