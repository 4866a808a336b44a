"""Have storages read their copies again, and wait for what they find.

Law: the verdict is the storage's own reading of its own disk; a bad copy is quarantined and made anew.
"""

from __future__ import annotations

import threading

from goggles.contracts import orders
from goggles.contracts.records import Value
from goggles.nameserver.repair import Repair
from goggles.nameserver.roster import Node
from goggles.nameserver.site import Site
from goggles.nameserver.states import READABLE
from goggles.paths import parse

PATIENCE = 25.0  # seconds; the answer must come before the caller gives up


class Verifying:
    """The `verify` of users."""

    def __init__(self, site: Site, repair: Repair) -> None:
        self._site = site
        self._repair = repair

    def verify(self, path: str) -> tuple[tuple[str, str], ...]:
        """(storage, verdict) for each copy: good, bad, or why it can not be said."""
        wanted = parse(path)
        with self._site.look() as tree:
            entry = tree.need_file(wanted)
            holders = tree.instances_of([entry.id]).get(entry.id, [])
        nodes = [self._site.roster.get(holder) for holder in holders]
        waits = [(node, self._ask(node, wanted, entry.version)) for node in nodes]
        return tuple((node.name, wait.answer()) for node, wait in waits)

    def _ask(self, node: Node, path: str, version: str) -> _Wait:
        wait = _Wait(node.state.value)
        if node.state in READABLE:
            wait.expect()

            def report(result: tuple[Value, ...]) -> None:
                self._repair.checked(node, path, version, result)
                wait.report(result)

            with self._site.decisions.lock:
                node.order(orders.check(path, version), report)
        return wait


class _Wait:
    """One answer that will come."""

    def __init__(self, otherwise: str) -> None:
        self._text = f"not asked: {otherwise}"
        self._done = threading.Event()
        self._done.set()

    def expect(self) -> None:
        self._text = "no answer yet"
        self._done.clear()

    def report(self, result: tuple[Value, ...]) -> None:
        self._text = str(result[0]) if result[0] != "error" else str(result[2])
        self._done.set()

    def answer(self) -> str:
        self._done.wait(PATIENCE)
        return self._text
