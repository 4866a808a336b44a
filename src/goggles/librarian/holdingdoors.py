"""What users and administrators may ask about files wherever they are: search, validation, letting go, calling back,
storages, manifests.

Law: as with all doors, only the shape of what comes is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass

from goggles.contracts.records import Pairs, Value
from goggles.errors import BadRequest, LimitExceeded
from goggles.librarian.doors import Desks
from goggles.librarian.evicting import Evicting, Rules
from goggles.librarian.keeping import Keeping
from goggles.librarian.opsdoors import OpsDoors
from goggles.librarian.searching import Query, Searching
from goggles.librarian.sneakernet import SneakerNet, checked
from goggles.librarian.tasks import Tasks
from goggles.librarian.troubles import Troubles
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.doors import Owners, each
from goggles.nameserver.states import READABLE
from goggles.paths import parse
from goggles.roles import Level, Role
from goggles.wire.service import USERS, Caller, exposed

MAX_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class Holdings:
    """Who does what with copies here and elsewhere."""

    searching: Searching
    evicting: Evicting
    keeping: Keeping
    sneakernet: SneakerNet


class HoldingDoors(OpsDoors):
    """The doors about holdings."""

    def __init__(
        self, caller: Caller, owners: Owners, desks: Desks, tasks: Tasks, troubles: Troubles, holdings: Holdings
    ) -> None:
        super().__init__(caller, owners, desks, tasks, troubles)
        self._holdings = holdings

    @exposed(*USERS, level=Level.READONLY)
    def search_files(self, query: Pairs) -> tuple[Value, ...]:
        """(records, where to go on or -1) of the files that a query (see the librarian's Query) finds."""
        records, after = self._holdings.searching.search(Query.from_wire(query))
        return tuple(records), after

    @exposed(*USERS, level=Level.READONLY)
    def validate_file(self, path: str, patience: float = 25.0) -> tuple[Pairs, ...]:
        """Every copy of a file, here and at other librarians, read anew; waits for about `patience` seconds."""
        return tuple(one.to_wire() for one in self._desks.validating.validate(path, (), float(patience)))

    @exposed(*USERS, level=Level.READWRITE)
    def evict(self, path: str, copies: int = 1) -> Pairs:
        """Let the copies of a file here go, where `copies` others at other librarians are found good now."""
        count = self._holdings.evicting.evict(path, Rules(copies=copies))
        return (("path", parse(path)), ("copies", count))

    @exposed(*USERS, level=Level.READWRITE)
    def recall(self, path: str) -> Pairs:
        """Have a file that is not here any more pushed back by a librarian that holds it."""
        return (("path", parse(path)), ("librarian", self._holdings.evicting.recall(path)))

    @exposed(*USERS, level=Level.READAPPEND)
    def set_deletion(self, path: str, allowed: bool) -> None:
        """Whether rolling deletion may let the copies of a file here go."""
        wanted = parse(path)

        def decide(tx: Transaction) -> None:
            tx.tree.set_deletable(tx.tree.need_file(wanted).id, allowed)

        self._owners.site.decisions.run(decide)

    # --- storages --------------------------------------------------------------------------

    @exposed(*USERS, level=Level.READONLY)
    def get_store_list(self) -> tuple[Pairs, ...]:
        """All storages; sizes in bytes."""
        found = []
        for node in self._owners.site.roster.all():
            known: dict[str, Value] = {"name": node.name, "store_type": "local", "state": node.info().state}
            known |= {"free_space": node.free, "capacity": node.capacity, "used": node.used, "files": node.files}
            known |= {"ingestable": node.ingestable, "available": node.state in READABLE, "enabled": node.enabled}
            found.append(tuple(known.items()))
        return tuple(found)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def set_store_state(self, name: str, enabled: bool) -> None:
        """Whether a storage takes new files."""
        self._holdings.keeping.set_enabled(name, enabled)

    # --- manifests -------------------------------------------------------------------------

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_store_manifest(
        self, store: str, destination: str = "", disable_store: bool = False, unavailable: bool = False, after: int = 0
    ) -> tuple[Value, ...]:
        """(header, entries, where to go on or -1): what is on a storage, to be carried to another site."""
        page = self._holdings.sneakernet.manifest(store, destination, disable_store, unavailable, after)
        return page.header, page.entries, page.after

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def stage_manifest_entries(self, source: str, entries: tuple[Value, ...]) -> tuple[Value, ...]:
        """For each entry of a manifest ("have" or "wanted", ""), or (code, message, hint)."""
        _check(source, entries)
        return each(entries, lambda pairs: self._holdings.sneakernet.stage(checked(pairs)))

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def complete_manifest_entries(self, source: str, entries: tuple[Value, ...]) -> tuple[Value, ...]:
        """The files of these entries are here now: for each ("done", remark), or (code, message, hint)."""
        _check(source, entries)
        caller = self.caller.account or self.caller.identity.name
        return each(entries, lambda pairs: self._holdings.sneakernet.complete(source, checked(pairs), caller))


def _check(source: str, entries: tuple[Value, ...]) -> None:
    if not 0 < len(source) <= 64:
        raise BadRequest("a manifest names the librarian that made it")
    if len(entries) > MAX_ENTRIES:
        raise LimitExceeded(f"at most {MAX_ENTRIES} entries of a manifest at once, these are {len(entries)}")
