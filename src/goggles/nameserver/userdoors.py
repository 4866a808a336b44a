"""What clients and administrators may ask of a nameserver.

Law: a method here checks nothing but the shape of its arguments and calls one owner; records leave as tuples of
pairs (`dict(answer)` in a script).
"""

from __future__ import annotations

from goggles import checksums, version
from goggles.contracts.data import Committed, ReadTicket, WriteTicket
from goggles.contracts.packed import pack_columns, pack_rows, plain_rows
from goggles.contracts.records import Pairs, Value
from goggles.errors import BadRequest, GogglesError, LimitExceeded
from goggles.nameserver.doors import Doors, Owners, batch_answer, bounded, each, pair, request_id, triple
from goggles.nameserver.namespace import MAX_LISTING
from goggles.nameserver.states import NodeState
from goggles.nameserver.writing import Writer
from goggles.paths import parse
from goggles.roles import Level, Role
from goggles.wire.service import USERS, Caller, exposed

MAX_LS = 50_000
MAX_VERIFY = 100


class UserDoors(Doors):
    """What clients and administrators may ask."""

    def __init__(self, caller: Caller, owners: Owners) -> None:
        super().__init__(caller, owners)
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

    @exposed(*USERS, Role.NAMESERVER, Role.STORAGE)
    def health(self) -> tuple[str, str]:
        """("well", what it does), once it could read the database and take a decision."""
        site = self._owners.site
        site.decisions.run(lambda tx: None, changes=False)
        states = [node.state for node in site.roster.all()]
        return (
            "well",
            f"epoch {site.epoch.number}, {states.count(NodeState.ACTIVE)} of {len(states)} storages are active",
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
    def scan(self, path: str, after: str, limit: int, packed: bool = False) -> Value:
        """A page of `ls`: up to `limit` entries whose names come after `after` in byte order.

        `packed`: as bytes, which is much faster (`goggles.contracts.packed`)."""
        if packed:
            return pack_columns(*self._names.columns(path, after, limit))
        return tuple(entry.to_wire() for entry in self._names.listing(path, after, limit))

    @exposed(*USERS, level=Level.READONLY)
    def stat(self, path: str) -> Pairs:
        return self._names.stat(path).to_wire()

    @exposed(*USERS, level=Level.READONLY)
    def stat_many(self, paths: tuple[str, ...], packed: bool = False) -> Value:
        """For each path its record, or (code, message, hint); `packed` as with `scan`."""
        bounded(paths)
        found = self._names.stat_many(paths)
        return pack_rows(found) if packed else plain_rows(found)

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
        if size < 0:
            raise BadRequest(f"a file can not have {size} bytes")
        self._names.may_be_file(path)
        roster = self._owners.site.roster
        fit = sorted((c for c in roster.candidates() if c.free >= size), key=lambda c: -c.free)
        return tuple(roster.get(c.id).info().to_wire() for c in fit)

    # --- changing --------------------------------------------------------------------------

    @exposed(*USERS, level=Level.READAPPEND)
    def mkdir(self, path: str, parents: bool = False, exist_ok: bool = False, request: str = "") -> tuple[Value, ...]:
        return self._names.mkdir(path, parents, exist_ok, request_id(request))

    @exposed(*USERS, level=Level.READAPPEND)
    def mkdir_many(self, paths: tuple[str, ...]) -> tuple[Value, ...]:
        """Make each directory and those above it; True (directories that are there already are fine) or an error."""
        return each(paths, lambda path: self._names.mkdir(path, True, True, "") is not None)

    @exposed(*USERS, level=Level.READWRITE)
    def rmdir(self, path: str, recursive: bool = False, request: str = "") -> tuple[Value, ...]:
        return self._names.rmdir(path, recursive, request_id(request))

    @exposed(*USERS, level=Level.READWRITE)
    def rm(self, path: str, request: str = "") -> tuple[Value, ...]:
        return self._names.rm(path, request_id(request))

    @exposed(*USERS, level=Level.READWRITE)
    def mv(self, source: str, target: str, request: str = "") -> tuple[Value, ...]:
        return self._names.mv(source, target, request_id(request))

    @exposed(*USERS, level=Level.READWRITE)
    def setrep(self, path: str, copies: int) -> int:
        return self._names.setrep(path, copies, "")

    # --- bytes -----------------------------------------------------------------------------

    @exposed(*USERS, level=Level.READAPPEND)
    def open_write(self, path: str, size: int, copies: int = 0, avoid: tuple[str, ...] = (), mark: str = "") -> Pairs:
        """Where to send `size` bytes that will be `path`; see WriteTicket.

        `mark`: a digest by which the writer knows its source again, where it may go on after an interruption."""
        if mark and not checksums.is_digest(mark):
            raise BadRequest("a mark is a sha256")
        return self._owners.writing.open_write(
            path, size, self._writer(), copies=copies, avoid=avoid, mark=mark
        ).to_wire()

    @exposed(*USERS, level=Level.READAPPEND)
    def open_write_many(self, wanted: tuple[tuple[str, int], ...], packed: bool = False) -> Value:
        """`open_write` for each (path, size); `packed`: as bytes, which is faster (`goggles.contracts.tickets`)."""
        bounded(wanted)
        answers = self._owners.writing.open_write_many([pair(item) for item in wanted], self._writer())
        return batch_answer(WriteTicket, answers, packed)

    def _writer(self) -> Writer:
        caller = self.caller
        return Writer(caller.identity.uri, caller.level(), caller.account or caller.identity.name)

    @exposed(*USERS, level=Level.READAPPEND)
    def commit(self, upload: str, size: int, sha256: str) -> Pairs:
        """Make the upload visible; `size` and `sha256` are the writer's own.  May be asked again."""
        answer = self._commit([(upload, size, sha256)])[0]
        if isinstance(answer, Committed):
            return answer.to_wire()
        raise answer

    @exposed(*USERS, level=Level.READAPPEND)
    def commit_many(self, uploads: tuple[tuple[str, int, str], ...], packed: bool = False) -> Value:
        """`commit` for each (upload, size, sha256), in one transaction where possible; `packed` as above."""
        bounded(uploads)
        return batch_answer(Committed, self._commit([triple(item) for item in uploads]), packed)

    def _commit(self, items: list[tuple[str, int, str]]) -> list[Committed | BaseException]:
        return self._owners.writing.commit_many(items, self.caller.identity.uri, self.caller.level())

    @exposed(*USERS, level=Level.READAPPEND)
    def abandon(self, upload: str) -> None:
        self._owners.writing.abandon(upload, self.caller.identity.uri)

    @exposed(*USERS, level=Level.READONLY)
    def open_read(self, path: str) -> Pairs:
        """Where the file can be read; see ReadTicket."""
        return self._owners.reading.open_read(path, self.caller.identity.uri).to_wire()

    @exposed(*USERS, level=Level.READONLY)
    def open_read_many(self, paths: tuple[str, ...], packed: bool = False) -> Value:
        """`open_read` for each path; `packed` as `open_write_many`."""
        bounded(paths)
        answers = self._owners.reading.open_read_many(paths, self.caller.identity.uri)
        return batch_answer(ReadTicket, answers, packed)

    @exposed(*USERS, level=Level.READONLY)
    def report_bad(self, path: str, version: str, storage: str) -> None:
        """A copy had wrong bytes; the storage reads it again and acts on what it finds itself."""
        self._owners.verifying.report_bad(parse(path), version, storage)

    @exposed(*USERS, level=Level.READONLY)
    def verify(self, path: str) -> tuple[tuple[str, str], ...]:
        """Have every storage that holds a copy read it again: (storage, good, bad, or why not)."""
        return self._owners.verifying.verify(path)

    @exposed(*USERS, level=Level.READONLY)
    def verify_many(self, paths: tuple[str, ...], patience: float) -> tuple[Value, ...]:
        """`verify` for up to 100 files at the same time: for each ("", copies), or (code, message)."""
        if len(paths) > MAX_VERIFY:
            raise LimitExceeded(f"{MAX_VERIFY} files are verified at once, not {len(paths)}")
        found = self._owners.verifying.verify_many(paths, patience)
        return tuple(
            (one.code, one.message)
            if isinstance(one, GogglesError)
            else ("", tuple((copy.storage, copy.verdict) for copy in one))
            for one in found
        )

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
