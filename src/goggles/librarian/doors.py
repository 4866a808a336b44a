"""What other librarians, and our own storages, may say to this one.

Law: as with all doors: only the shape of what comes is checked here.  A librarian is who it logged in as, and that must
be the name of a peer that is known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from goggles import version
from goggles.contracts.peering import MAX_OFFER, PROTOCOL, Offer, State
from goggles.contracts.records import Pairs, Value
from goggles.errors import BadRequest, Conflict, GogglesError, LimitExceeded, PermissionDenied
from goggles.librarian.inbox import Inbox
from goggles.librarian.managers.pushing import Reports
from goggles.librarian.outbox import Outbox
from goggles.librarian.peers import PeerInfo, Peers
from goggles.librarian.states import Event
from goggles.librarian.underway import UnderWay
from goggles.librarian.validating import Validating
from goggles.nameserver.doors import Doors, Owners
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.wire import faults
from goggles.wire.service import Caller, exposed

EVENTS = {
    State.ONGOING: Event.START,
    State.STAGED: Event.ARRIVE,
    State.FAILED: Event.FAIL,
    State.CANCELLED: Event.CANCEL,
}


@dataclass(frozen=True, slots=True)
class Desks:
    """Who does what in a librarian."""

    peers: Peers
    inbox: Inbox
    outbox: Outbox
    reports: Reports
    validating: Validating
    underway: UnderWay


class PeerDoors(Doors):
    """The doors for other librarians."""

    def __init__(self, caller: Caller, owners: Owners, desks: Desks) -> None:
        super().__init__(caller, owners)
        self._desks = desks

    def _peer(self) -> PeerInfo:
        """The peer at the other end, by its log-in."""
        account = self.caller.account
        if not account:
            raise PermissionDenied("log in first", "login(user, password)")
        found = self._desks.peers.find(account)
        if found is None:
            raise PermissionDenied(
                f"{account} has an account here, but is no librarian that is known here",
                f"an administrator adds it: librarian add-librarian ... --name={account}",
            )
        return found

    @exposed(Role.LIBRARIAN, level=Level.READONLY)
    def peer_hello(self, name: str, protocol: int) -> Pairs:
        """Who is here.  The caller's name must be the one that it logged in with."""
        if self.caller.account and name != self.caller.account:
            raise Conflict(
                f"a librarian that calls itself {name[:80]!r} logs in as {self.caller.account!r}",
                "the account must have the name of the librarian: create-user with that name",
            )
        site = self._owners.site
        return (("name", site.name), ("protocol", PROTOCOL), ("program", version.__version__), ("theirs", protocol))

    @exposed(Role.LIBRARIAN, level=Level.READAPPEND)
    def batch_stage(self, source: str, offers: tuple[Value, ...]) -> Pairs:
        """Answer an offer of files: places for them."""
        peer = self._peer()
        if source != peer.name:
            raise Conflict(f"{peer.name} offers files in the name of {source[:80]!r}")
        return self._desks.inbox.batch_stage(peer, [_offer(item) for item in _few(offers)]).to_wire()

    @exposed(Role.LIBRARIAN, level=Level.READAPPEND)
    def open_push(self, items: tuple[Value, ...]) -> tuple[Value, ...]:
        """For each (our id, identity of the sending storage) a grant."""
        asked = [_push_item(item) for item in _few(items)]
        answers = self._desks.inbox.open_push(self._peer(), asked)
        return tuple(faults.to_tuple(one) if isinstance(one, GogglesError) else one for one in answers)

    @exposed(Role.LIBRARIAN, level=Level.READAPPEND)
    def checkin_update(self, arrivals: tuple[str, ...], state: int, why: str) -> tuple[bool, ...]:
        """The source says that these transfers are now in this state; for each whether it is so here."""
        if state not in EVENTS:
            raise BadRequest(f"{state} is no state that a source can tell")
        return tuple(self._desks.inbox.update(self._peer(), _ids(arrivals), EVENTS[State(state)], why[:1000]))

    @exposed(Role.LIBRARIAN, level=Level.CALLBACK)
    def checkin_status(self, arrivals: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
        """(state, storage) of transfers to us, by our ids; (-1, '') where one is not known."""
        return tuple(self._desks.inbox.status(self._peer(), _ids(arrivals)))

    @exposed(Role.LIBRARIAN, level=Level.CALLBACK)
    def outgoing_status(self, transfers: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
        """(state, '') of transfers from us to the caller, by our ids; (-1, '') where one is not known."""
        return tuple(self._desks.outbox.status(self._peer(), _ids(transfers)))

    @exposed(Role.LIBRARIAN, level=Level.CALLBACK)
    def clone_complete(self, items: tuple[Value, ...]) -> None:
        """The destination says how transfers of ours ended: (our id, its id, state, its storage, error)."""
        self._desks.outbox.completed(self._peer(), [_ended(item) for item in _few(items)])

    @exposed(Role.LIBRARIAN, level=Level.CALLBACK)
    def please_send(self, path: str, size: int, sha256: str) -> None:
        """The caller needs a file that we hold; it will be offered to it."""
        self._desks.outbox.promise(self._peer(), path, size, sha256)

    @exposed(Role.LIBRARIAN, level=Level.READONLY)
    def whereabouts(self, files: tuple[Value, ...], staying: bool = False) -> tuple[Value, ...]:
        """For each (path, size, sha256) the storages here that hold these very bytes; with `staying` none where they
        are about to be let go."""
        self._peer()
        return tuple(self._desks.validating.whereabouts([_file(item) for item in _few(files)], staying))

    @exposed(Role.LIBRARIAN, level=Level.READONLY)
    def validate_for(self, path: str, visited: tuple[str, ...], patience: float) -> tuple[Pairs, ...]:
        """Every copy of a file as it is now, here and beyond; `visited` librarians are not asked again."""
        self._peer()
        if not all(isinstance(name, str) for name in _few(visited)):
            raise BadRequest("the librarians that were asked already are given by name")
        return tuple(one.to_wire() for one in self._desks.validating.validate(path, visited, float(patience)))

    # --- our own storages ------------------------------------------------------------------

    @exposed(Role.STORAGE)
    def pushed(self, session: str, transfer: str, code: str, message: str) -> None:
        """A storage has sent a file, or could not."""
        if self._owners.site.roster.by_session(session) is not None:
            self._desks.reports.add(transfer, (message or code)[:500])

    @exposed(Role.STORAGE)
    def ingested(self, session: str, arrival: str, code: str, message: str) -> None:
        """A storage has read an arrival: '' as code where it is what was announced."""
        self._desks.inbox.ingested(session, arrival, code, message)


def _few(items: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(items) > MAX_OFFER:
        raise LimitExceeded(f"a batch may have {MAX_OFFER} items, this has {len(items)}")
    return items


def _ids(items: tuple[str, ...]) -> list[str]:
    if not all(isinstance(item, str) and len(item) == 32 for item in _few(items)):
        raise BadRequest("these are no ids of transfers")
    return list(items)


def _offer(item: Value) -> Offer:
    try:
        known = dict(item)
        offer: Any = Offer.from_wire(item)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"that is no offer: {error}", "are both sides of the same version?") from error
    texts = (offer.id, offer.path, offer.sha256, offer.uploader, offer.source)
    numbers = isinstance(offer.size, int) and isinstance(offer.made_at, int | float)
    if not all(isinstance(text, str) for text in texts) or not numbers or len(known) > 20:
        raise BadRequest("that is no offer")
    return cast(Offer, offer)


def _push_item(item: Value) -> tuple[str, str]:
    match item:
        case (str(arrival), str(holder)) if len(arrival) == 32:
            if Identity.from_uri(holder).role is Role.STORAGE:
                return arrival, holder
    raise BadRequest("an item of this batch must be (id, identity of a storage)")


def _file(item: Value) -> tuple[str, int, str]:
    match item:
        case (str(path), int(size), str(sha256)):
            return path, size, sha256
    raise BadRequest("an item of this batch must be (path, size, sha256)")


def _ended(item: Value) -> tuple[str, str, int, str, str]:
    match item:
        case (str(ours), str(theirs), int(state), str(store), str(error)) if state in set(State):
            return ours, theirs, state, store[:64], error[:1000]
    raise BadRequest("an item of this batch must be (id, id, state, storage, error)")
