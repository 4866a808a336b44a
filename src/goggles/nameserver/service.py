"""The methods that a nameserver exposes, each with those who may call it.

Law: a method here checks nothing but the shape of its arguments and calls one owner; records leave as tuples of
pairs (`dict(answer)` in a script).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from goggles import version
from goggles.contracts.data import MAX_BATCH, Committed
from goggles.contracts.orders import Held, StorageHello
from goggles.contracts.records import Pairs, Record, Value
from goggles.errors import BadRequest, GogglesError, LimitExceeded
from goggles.nameserver.accounts import Accounts
from goggles.nameserver.attach import Attachment
from goggles.nameserver.namespace import MAX_LISTING, Namespace
from goggles.nameserver.repair import Repair
from goggles.nameserver.site import Site
from goggles.nameserver.verifying import Verifying
from goggles.nameserver.writing import Writing
from goggles.paths import parse
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.wire import faults
from goggles.wire.service import USERS, Caller, Service, exposed

MAX_LS = 50_000


@dataclass(frozen=True, slots=True)
class Owners:
    """Who does what behind the doors."""

    site: Site
    namespace: Namespace
    writing: Writing
    attachment: Attachment
    repair: Repair
    accounts: Accounts
    verifying: Verifying
    export: Any  # () -> path of the exported tree.json


class UserDoors(Service):
    """What clients and administrators may ask."""

    def __init__(self, caller: Caller, owners: Owners) -> None:
        super().__init__(caller)
        self._owners = owners
        self._names = owners.namespace

    # --- looking ---------------------------------------------------------------------------

    @exposed(*USERS, Role.STORAGE)
    def hello(self) -> Pairs:
        """Who answers, and as whom the caller is known."""
        site = self._owners.site
        level = self.caller.level()
        return (
            ("site", site.name),
            ("site_id", site.site_id),
            ("epoch", site.epoch.number),
            ("program", version.__version__),
            ("identity", str(self.caller.identity)),
            ("level", level.name),
        )

    @exposed(*USERS, level=Level.READONLY)
    def ls(self, path: str) -> tuple[Pairs, ...]:
        records: list[Pairs] = []
        after = ""
        while True:
            page = self._names.listing(path, after, MAX_LISTING)
            records.extend(entry.to_wire() for entry in page)
            if len(page) < MAX_LISTING:
                return tuple(records)
            if len(records) >= MAX_LS:
                raise LimitExceeded(
                    f"{path} has more than {MAX_LS} entries", "page through it with scan(path, after, limit)"
                )
            after = page[-1].path.rpartition("/")[2]

    @exposed(*USERS, level=Level.READONLY)
    def scan(self, path: str, after: str, limit: int) -> tuple[Pairs, ...]:
        """A page of `ls`: up to `limit` entries whose names come after `after` in byte order."""
        return tuple(entry.to_wire() for entry in self._names.listing(path, after, limit))

    @exposed(*USERS, level=Level.READONLY)
    def stat(self, path: str) -> Pairs:
        return self._names.stat(path).to_wire()

    @exposed(*USERS, level=Level.READONLY)
    def stat_many(self, paths: tuple[str, ...]) -> tuple[Value, ...]:
        """For each path its record, or (code, message, hint)."""
        return self._each(paths, lambda path: self._names.stat(path).to_wire())

    @exposed(*USERS, level=Level.READONLY)
    def isdir(self, path: str) -> bool:
        entry = self._names.find(path)
        return entry is not None and entry.is_dir

    @exposed(*USERS, level=Level.READONLY)
    def isfile(self, path: str) -> bool:
        entry = self._names.find(path)
        return entry is not None and not entry.is_dir

    @exposed(*USERS, level=Level.READONLY)
    def listdir(self, path: str) -> tuple[str, ...]:
        names: list[str] = []
        while True:
            page = self._names.names(path, names[-1] if names else "")
            names.extend(page)
            if len(page) < MAX_LISTING:
                return tuple(names)

    @exposed(*USERS, level=Level.READONLY)
    def locations(self, path: str) -> tuple[Pairs, ...]:
        return tuple(info.to_wire() for info in self._names.locations(path))

    @exposed(*USERS, level=Level.READONLY)
    def du(self) -> tuple[Pairs, ...]:
        return tuple(info.to_wire() for info in self._names.du()[1])

    @exposed(*USERS, level=Level.READONLY)
    def site_info(self) -> tuple[Pairs, tuple[Pairs, ...]]:
        """The state of the site and of its storages."""
        site, storages = self._names.du()
        return site.to_wire(), tuple(info.to_wire() for info in storages)

    @exposed(*USERS, level=Level.READONLY)
    def availableStorages(self, path: str, size: int) -> tuple[Pairs, ...]:
        """The storages that could take a file of `size` bytes now, those with the most room first."""
        parse(path)
        roster = self._owners.site.roster
        fit = sorted((c for c in roster.candidates() if c.free >= size), key=lambda c: -c.free)
        return tuple(roster.get(c.id).info().to_wire() for c in fit)

    # --- changing --------------------------------------------------------------------------

    @exposed(*USERS, level=Level.READAPPEND)
    def mkdir(self, path: str, parents: bool = False, exist_ok: bool = False, request: str = "") -> tuple[Value, ...]:
        return self._names.mkdir(path, parents, exist_ok, _request(request))

    @exposed(*USERS, level=Level.READAPPEND)
    def mkdir_many(self, paths: tuple[str, ...]) -> tuple[Value, ...]:
        """Make each directory and those above it; True (directories that are there already are fine) or an error."""
        return self._each(paths, lambda path: self._names.mkdir(path, True, True, "") is not None)

    @exposed(*USERS, level=Level.READWRITE)
    def rmdir(self, path: str, recursive: bool = False, request: str = "") -> tuple[Value, ...]:
        return self._names.rmdir(path, recursive, _request(request))

    @exposed(*USERS, level=Level.READWRITE)
    def rm(self, path: str, request: str = "") -> tuple[Value, ...]:
        return self._names.rm(path, _request(request))

    @exposed(*USERS, level=Level.READWRITE)
    def mv(self, source: str, target: str, request: str = "") -> tuple[Value, ...]:
        return self._names.mv(source, target, _request(request))

    @exposed(*USERS, level=Level.READWRITE)
    def setrep(self, path: str, copies: int) -> int:
        return self._names.setrep(path, copies, "")

    # --- bytes -----------------------------------------------------------------------------

    @exposed(*USERS, level=Level.READAPPEND)
    def open_write(self, path: str, size: int, copies: int = 0, avoid: tuple[str, ...] = ()) -> Pairs:
        """Where to send `size` bytes that will be `path`; see WriteTicket."""
        return self._open_write(path, size, copies, avoid)

    @exposed(*USERS, level=Level.READAPPEND)
    def open_write_many(self, wanted: tuple[tuple[str, int], ...]) -> tuple[Value, ...]:
        """`open_write` for each (path, size)."""
        _bounded(wanted)
        holder, level = self.caller.identity.uri, self.caller.level()
        answers = self._owners.writing.open_write_many([_pair(item) for item in wanted], holder, level)
        return tuple(_answer(answer) for answer in answers)

    def _open_write(self, path: str, size: int, copies: int, avoid: tuple[str, ...]) -> Pairs:
        holder, level = self.caller.identity.uri, self.caller.level()
        return self._owners.writing.open_write(path, size, holder, level, copies=copies, avoid=avoid).to_wire()

    @exposed(*USERS, level=Level.READAPPEND)
    def commit(self, upload: str, size: int, sha256: str) -> Pairs:
        """Make the upload visible; `size` and `sha256` are the writer's own.  May be asked again."""
        answer = self._commit([(upload, size, sha256)])[0]
        if isinstance(answer, Committed):
            return answer.to_wire()
        raise answer

    @exposed(*USERS, level=Level.READAPPEND)
    def commit_many(self, uploads: tuple[tuple[str, int, str], ...]) -> tuple[Value, ...]:
        """`commit` for each (upload, size, sha256), in one transaction where possible."""
        _bounded(uploads)
        answers = self._commit([_triple(item) for item in uploads])
        return tuple(_answer(answer) for answer in answers)

    def _commit(self, items: list[tuple[str, int, str]]) -> list[Committed | BaseException]:
        return self._owners.writing.commit_many(items, self.caller.identity.uri, self.caller.level())

    @exposed(*USERS, level=Level.READAPPEND)
    def abandon(self, upload: str) -> None:
        self._owners.writing.abandon(upload, self.caller.identity.uri)

    @exposed(*USERS, level=Level.READONLY)
    def open_read(self, path: str) -> Pairs:
        """Where the file can be read; see ReadTicket."""
        return self._owners.writing.open_read(path, self.caller.identity.uri).to_wire()

    @exposed(*USERS, level=Level.READONLY)
    def open_read_many(self, paths: tuple[str, ...]) -> tuple[Value, ...]:
        holder = self.caller.identity.uri
        return self._each(paths, lambda path: self._owners.writing.open_read(path, holder).to_wire())

    @exposed(*USERS, level=Level.READONLY)
    def report_bad(self, path: str, version: str, storage: str) -> None:
        """A copy had wrong bytes; the storage reads it again and acts on what it finds itself."""
        self._owners.verifying.report_bad(parse(path), version, storage)

    @exposed(*USERS, level=Level.READONLY)
    def verify(self, path: str) -> tuple[tuple[str, str], ...]:
        """Have every storage that holds a copy read it again: (storage, good, bad, or why not)."""
        return self._owners.verifying.verify(path)

    def _each(self, items: tuple[Any, ...], action: Any) -> tuple[Value, ...]:
        _bounded(items)
        answers: list[Value] = []
        for item in items:
            try:
                answers.append(action(item))
            except GogglesError as error:
                answers.append(faults.to_tuple(error))
        return tuple(answers)

    # --- administration --------------------------------------------------------------------

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def accept(self, name: str) -> str:
        """Let a storage out of safe mode: the tree is right, what it does not know is quarantined."""
        return self._owners.attachment.accept(name, adopt=False)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def restoretree(self, name: str) -> str:
        """Let a storage out of safe mode: the storage is right, what the tree does not know is taken into it."""
        return self._owners.attachment.accept(name, adopt=True)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def drain(self, name: str, on: bool = True) -> None:
        """Empty a storage for retirement, or use it again."""
        self._owners.attachment.set_draining(name, on)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def export_tree(self) -> str:
        """Write the tree to the --treejson file now; its path."""
        return str(self._owners.export())

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def accounts(self) -> tuple[tuple[str, str], ...]:
        return self._owners.accounts.listing()

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def set_account(self, name: str, level: str) -> None:
        """Lower what the holder of a certificate of this name may do ('' removes the account)."""
        self._owners.accounts.set_level(name, level)


class StorageDoors(UserDoors):
    """What storages may say and ask."""

    _session = ""

    @exposed(Role.STORAGE)
    def upgrade(self, hello: tuple[Value, ...]) -> Pairs:
        welcome = self._owners.attachment.upgrade(_record(StorageHello, hello), self.caller.identity)
        self._session = welcome.session
        return welcome.to_wire()

    @exposed(Role.STORAGE)
    def inventory(self, session: str, batch: tuple[Value, ...]) -> tuple[int, ...]:
        return self._owners.attachment.inventory(session, _held(batch))

    @exposed(Role.STORAGE)
    def walk_tree(self, session: str, after: int) -> int:
        return self._owners.attachment.walk_tree(session, after)

    @exposed(Role.STORAGE)
    def verdict(self, session: str) -> tuple[str, str]:
        return self._owners.attachment.verdict(session)

    @exposed(Role.STORAGE)
    def condemned(self, session: str, batch: tuple[Value, ...]) -> None:
        self._owners.attachment.condemned(session, _held(batch))

    @exposed(Role.STORAGE)
    def activate(self, session: str) -> None:
        self._owners.attachment.activate(session)

    @exposed(Role.STORAGE)
    def heartbeat(self, session: str, disk_free: int, uploads: tuple[str, ...]) -> str:
        return self._owners.attachment.heartbeat(session, disk_free, uploads)

    @exposed(Role.STORAGE)
    def write_notification(self, session: str, upload: str, size: int, sha256: str) -> str:
        """The storage has staged these bytes and they are durable.  Answers keep or discard."""
        if self._owners.site.uploads.is_pull(upload):
            return self._owners.repair.pulled(session, upload, size, sha256)
        return self._owners.writing.notified(session, upload, size, sha256)

    @exposed(Role.STORAGE)
    def write_notifications(self, session: str, batch: tuple[tuple[str, int, str], ...]) -> tuple[Value, ...]:
        return self._each(batch, lambda item: self.write_notification(session, *_triple(item)))

    @exposed(Role.STORAGE)
    def pull_failed(self, session: str, upload: str, message: str) -> None:
        self._owners.repair.pull_failed(session, upload, message)

    @exposed(Role.STORAGE)
    def check_done(self, session: str, job: str, verdict: str) -> None:
        """What a storage found when it read a copy again: good, bad, or why it can not be said."""
        self._owners.verifying.done(session, job, verdict)

    # --- for a client that talks to the storage itself (section "Scripting") ----------------

    @exposed(Role.STORAGE)
    def open_read_for(self, holder: str, path: str) -> Pairs:
        self._may(holder, Level.READONLY)
        return self._owners.writing.open_read(path, holder).to_wire()

    @exposed(Role.STORAGE)
    def open_write_for(self, holder: str, path: str, size: int) -> Pairs:
        level, first = self._may(holder, Level.READAPPEND), self.caller.identity.name
        return self._owners.writing.open_write(path, size, holder, level, first=first).to_wire()

    @exposed(Role.STORAGE)
    def commit_for(self, holder: str, upload: str, size: int, sha256: str) -> Pairs:
        level = self._may(holder, Level.READAPPEND)
        answer = self._owners.writing.commit_many([(upload, size, sha256)], holder, level)[0]
        if isinstance(answer, Committed):
            return answer.to_wire()
        raise answer

    @exposed(Role.STORAGE)
    def abandon_for(self, holder: str, upload: str) -> None:
        self._owners.writing.abandon(upload, holder)

    def _may(self, holder: str, level: Level) -> Level:
        return self._owners.accounts.need(Identity.from_uri(holder), level)

    def on_disconnect(self, connection: Any) -> None:
        if self._session:
            self._owners.attachment.lost(self._session, "its connection broke")


class NameserverService(StorageDoors):
    """All doors of a nameserver; which of them open depends on the caller."""


def _request(text: str) -> str:
    if text and (len(text) != 32 or not all(c in "0123456789abcdef" for c in text)):
        raise BadRequest("a request id has 32 hexadecimal digits")
    return text


def _bounded(items: tuple[Any, ...]) -> None:
    if len(items) > MAX_BATCH:
        raise LimitExceeded(f"a batch may have {MAX_BATCH} items, this has {len(items)}")


def _answer(answer: Record | BaseException) -> tuple[Value, ...]:
    """One item of a batch: the record, or (code, message, hint)."""
    if isinstance(answer, BaseException):
        return faults.to_tuple(faults.known(answer, "a batch"))
    return answer.to_wire()


def _pair(item: Any) -> tuple[str, int]:
    match item:
        case (str(path), int(size)):
            return path, size
    raise BadRequest("an item of this batch must be (path, size)")


def _triple(item: Any) -> tuple[str, int, str]:
    match item:
        case (str(upload), int(size), str(sha256)):
            return upload, size, sha256
    raise BadRequest("an item of this batch must be (upload, size, sha256)")


def _record(kind: Any, pairs: tuple[Value, ...]) -> Any:
    try:
        return kind.from_wire(pairs)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"that is no {kind.__name__}: {error}", "are both sides of the same version?") from error


def _held(batch: tuple[Value, ...]) -> list[Held]:
    _bounded(batch)
    return [_record(Held, item) for item in batch]
