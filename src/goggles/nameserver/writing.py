"""Writing files: tickets, notifications, commits.

Law: a file changes in one commit, and only after enough bytes are durable: at least one storage has staged the
upload with the size and digest that the client itself computed.  What was staged elsewhere with another digest
is thrown away.  Publish orders are sent after the commit, and only then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import orjson

from goggles import checksums, failpoints
from goggles.contracts import orders
from goggles.contracts.data import MAX_COPIES, MAX_SIZE, Committed, Hop, WriteTicket
from goggles.contracts.grants import WRITE
from goggles.errors import (
    BadRequest,
    ChecksumMismatch,
    GogglesError,
    IsADirectory,
    NoSpace,
    PermissionDenied,
    Stale,
    Unavailable,
)
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.keeping import Keeping, Wanted
from goggles.nameserver.placement import choose
from goggles.nameserver.roster import Node, returning
from goggles.nameserver.site import Site
from goggles.nameserver.states import NodeState
from goggles.nameserver.uploads import Upload
from goggles.paths import join, parse, split
from goggles.roles import Level

Chains = dict[int, list[Node]]  # by number of copies: where the last of several files went


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: the identity that grants are made out to, what it may do, and the name that the file keeps."""

    holder: str
    level: Level
    name: str


class Writing:
    """Uploads from ticket to commit."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._keeping = Keeping(site, self.release)

    # --- tickets ---------------------------------------------------------------------------

    def open_write(
        self,
        path: str,
        size: int,
        writer: Writer,
        *,
        copies: int = 0,
        avoid: Sequence[str] = (),
        first: str = "",
        mark: str = "",
    ) -> WriteTicket:
        """Reserve room for `size` bytes and choose the storages; `first` names one that must be the first.

        `mark`: what the writer knows its source by; an upload of this source that was interrupted is gone on with."""
        decide = self._open_write(path, size, writer, copies, avoid, first, mark=mark)
        return self._site.decisions.run(decide, changes=False)

    def open_write_many(self, items: Sequence[tuple[str, int]], writer: Writer) -> list[WriteTicket | BaseException]:
        """`open_write` for each (path, size), in few transactions; errors come as values.

        Files that are opened together go to the same storages while these have room: so they travel together."""
        decides: list[Callable[[Transaction], WriteTicket]] = []
        chains: Chains = {}
        for path, size in items:
            try:
                decides.append(self._open_write(path, size, writer, 0, (), "", chains))
            except GogglesError as error:
                decides.append(partial(_refuse, error))
        return self._site.decisions.run_all(decides, changes=False)

    def _open_write(
        self,
        path: str,
        size: int,
        writer: Writer,
        copies: int,
        avoid: Sequence[str],
        first: str,
        chains: Chains | None = None,
        mark: str = "",
    ) -> Callable[[Transaction], WriteTicket]:
        if not 0 <= size <= MAX_SIZE:
            raise BadRequest(f"a file may have 0 to 2^60 bytes, not {size}")
        if not 0 <= copies <= MAX_COPIES:
            raise BadRequest(f"a file may have 1 to {MAX_COPIES} copies, not {copies}")
        wanted = parse(path)
        parent, name = split(wanted)
        if not name:
            raise IsADirectory("/ is a directory", "give the file a name")

        def decide(tx: Transaction) -> WriteTicket:
            directory = tx.tree.need_dir_id(parent)
            existing = tx.tree.find(wanted)
            _may_write(wanted, existing, writer.level)
            if existing is not None:
                tx.tree.need_unshared(existing.id, wanted, "overwritten")
            number = copies or (existing.copies if existing else None) or tx.tree.copies_for(directory)
            if mark and (kept := self._kept(Wanted(directory, name, size, writer.holder, mark), avoid)):
                chain = [self._site.roster.get(storage) for storage in kept.chain]
                return WriteTicket(kept.id, size, kept.copies, tuple(self._write_hops(kept, wanted, chain)), True)
            chain = self._again(size, number, chains) or self._choose(size, number, avoid, first)
            if chains is not None:
                chains[number] = chain
            upload = self._reserve(tx, directory, name, size, number, writer, chain, mark)
            return WriteTicket(upload.id, size, number, tuple(self._write_hops(upload, wanted, chain)))

        return decide

    def _kept(self, wanted: Wanted, avoid: Sequence[str]) -> Upload | None:
        """An interrupted upload to go on with; else there is room for one more of this holder.  Lock held."""
        found = self._keeping.find(wanted, avoid)
        if found is None:
            self._keeping.bound(wanted.holder)
        return found

    def _again(self, size: int, count: int, chains: Chains | None) -> list[Node]:
        """The storages of the file before, where all of them can take this one too; lock held."""
        chain = (chains or {}).get(count, [])
        room = {c.id: c.free for c in self._site.roster.candidates()} if chain else {}
        return chain if all(room.get(node.id, -1) >= size for node in chain) else []

    def _choose(self, size: int, count: int, avoid: Sequence[str], first: str) -> list[Node]:
        """Lock held."""
        roster = self._site.roster
        active = roster.candidates()
        if not active:
            states = ", ".join(f"{node.name} is {node.state}" for node in roster.all()) or "none has ever come"
            said = f"no storage takes files now ({states}{returning(roster.all())})"
            raise Unavailable(said, "start a storage, or wait until one is active")
        fixed = [c for c in active if roster.get(c.id).name == first]
        if first and not fixed:
            raise Unavailable(f"storage {first} takes no files now")
        wanted = [c for c in active if roster.get(c.id).name not in avoid] or active
        chosen = [c.id for c in fixed] + choose(
            wanted,
            size=size,
            count=count - len(fixed),
            chance=self._site.chance,
            taken=[c.id for c in fixed],
            taken_zones=[c.zone for c in fixed],
        )
        if len(chosen) < count and self._keeping.make_room(size):
            return self._choose(size, count, avoid, first)
        if not chosen:
            most = max(c.free for c in active)
            raise NoSpace(
                f"no storage has room for {size} bytes (the most that one has is {most})",
                "remove files, or add a storage; see du",
            )
        return [roster.get(node) for node in chosen]

    def _reserve(
        self,
        tx: Transaction,
        parent: int,
        name: str,
        size: int,
        copies: int,
        writer: Writer,
        chain: list[Node],
        mark: str,
    ) -> Upload:
        """Lock held."""
        token, site = secrets.token_hex(16), self._site
        upload = Upload(
            token,
            parent,
            name,
            size,
            copies,
            writer.holder,
            tuple(node.id for node in chain),
            site.clock.monotonic() + site.policy.lease,
            version=token,
            uploader=writer.name,
            mark=mark,
        )
        site.uploads.add(upload)
        for node in chain:
            node.reserved += size
        tx.on_rollback(lambda: self.release(token))
        return upload

    def _write_hops(self, upload: Upload, path: str, chain: list[Node]) -> Iterable[Hop]:
        """Each storage takes the bytes from the one before it; the first from the holder of the upload."""
        holder = upload.holder
        for node in chain:
            grant = self._site.grant(WRITE, upload.id, path, upload.size, node, holder)
            yield Hop(node.name, node.address.host, node.address.port, grant, node.await_orders())
            holder = self._site.storage_uri(node)

    # --- what storages say -----------------------------------------------------------------

    def notified(self, session: str, upload: str, size: int, sha256: str) -> str:
        """A storage has staged an upload.  Answers keep, or discard where nobody waits for it any more."""
        if not checksums.is_digest(sha256):
            raise BadRequest(f"{sha256[:80]!r} is not a sha256")
        # No lock: a commit looks at `staged` only after its writer has heard from the storage, which is after this.
        node, found = self._site.roster.by_session(session), self._site.uploads.get(upload)
        if node is None:
            raise Stale("this session of the storage is over", "upgrade again")
        if found is None:
            return self._told_again(upload)
        if node.id not in found.chain:
            return "discard"
        found.staged[node.id] = (session, size, sha256)
        found.deadline = self._site.clock.monotonic() + self._site.policy.lease
        return "keep"

    def _told_again(self, upload: str) -> str:
        """A notice about an upload that is over: what was committed must not be thrown away."""
        with self._site.look() as tree:
            return "keep" if tree.receipt(upload) is not None or tree.by_versions([upload]) else "discard"

    def alive(self, uploads: Iterable[str]) -> None:
        """These uploads gave a sign of life.  Lock held."""
        for name in uploads:
            found = self._site.uploads.get(name)
            if found is not None:
                found.deadline = self._site.clock.monotonic() + self._site.policy.lease

    # --- commit ----------------------------------------------------------------------------

    def commit_many(
        self, items: Sequence[tuple[str, int, str]], holder: str, level: Level
    ) -> list[Committed | BaseException]:
        """Make staged uploads visible.  One answer each: what was committed, or the error."""
        return self._site.decisions.run_all([self._commit(*item, holder, level) for item in items])

    def _commit(
        self, token: str, size: int, sha256: str, holder: str, level: Level
    ) -> Callable[[Transaction], Committed]:
        def decide(tx: Transaction) -> Committed:
            earlier = tx.tree.receipt(token)
            if earlier is not None:
                return Committed(**orjson.loads(earlier))
            upload = self._site.uploads.need(token)
            if upload.holder != holder:
                raise PermissionDenied("this upload belongs to somebody else")
            good = self._good(upload, size, sha256)
            committed = self._write_down(tx, upload, size, sha256, good, level)
            tx.tree.add_receipt(token, orjson.dumps(dict(committed.to_wire())).decode())
            return committed

        return decide

    def _good(self, upload: Upload, size: int, sha256: str) -> list[Node]:
        """The storages of the chain that hold what the client sent; lock held."""
        if size > upload.size:
            raise BadRequest(f"the upload was opened for {upload.size} bytes and has {size}")
        roster = self._site.roster
        good: list[Node] = []
        bad: list[Node] = []
        for storage, (session, got_size, got_sha) in upload.staged.items():
            node = roster.get(storage)
            if node.session == session and node.state is NodeState.ACTIVE:
                (good if (got_size, got_sha) == (size, sha256) else bad).append(node)
        if not good and bad:
            names = ", ".join(node.name for node in bad)
            raise ChecksumMismatch(f"{names} received other bytes than were sent", "put again")
        if not good:
            raise Unavailable("no storage that holds the bytes is up any more", "put again")
        return good

    def _write_down(
        self, tx: Transaction, upload: Upload, size: int, sha256: str, good: list[Node], level: Level
    ) -> Committed:
        parent = tx.tree.path_of(upload.parent)
        if parent is None:
            raise Stale(
                f"the directory for {upload.name!r} was removed while the file was on its way", "put again elsewhere"
            )
        path = join(parent, upload.name)
        _may_write(path, tx.tree.find(path), level)
        written = tx.tree.commit_file(
            upload.parent,
            upload.name,
            size=size,
            sha256=sha256,
            version=upload.version,
            uploader=upload.uploader,
            source=upload.source or self._site.name,
            copies=upload.copies,
            holders=[node.id for node in good],
        )
        owed = max(0, upload.copies - len(good))
        if owed:
            tx.tree.set_owed(written.entry.id, len(good))
        tx.on_commit(
            lambda: self._publish(upload, path, written.entry, good, written.replaced, written.replaced_holders)
        )
        return Committed(path, written.entry.generation, upload.version, len(good), owed)

    def _publish(
        self, upload: Upload, path: str, entry: Entry, good: list[Node], old: Entry | None, old_holders: Sequence[int]
    ) -> None:
        """After the commit, lock held: the books, and the orders."""
        failpoints.hit("nameserver.commit.before_orders")
        self.release(upload.id, keep=[node.id for node in good])
        for holder in old_holders:
            node = self._site.roster.get(holder)
            assert old is not None
            node.used, node.files = node.used - old.size, node.files - 1
            if node not in good:
                node.order(orders.remove(path, old.version))
        for node in good:
            node.used, node.files = node.used + entry.size, node.files + 1
            replaces = old.version if old is not None else ""
            node.order(orders.publish(upload.id, path, entry.version, entry.generation, replaces))
        if any(node.draining for node in good):
            self._site.reconsider.append(entry.id)
        if len(good) < upload.copies:
            self._site.wake_repair.set()
        self._site.story.put(path, upload.uploader, entry, [node.name for node in good], upload.copies)

    def release(self, token: str, keep: Sequence[int] = ()) -> None:
        """Forget an upload: give its room back, and have the storages that will not publish it drop it.  Lock held."""
        upload = self._site.uploads.drop(token)
        if upload is None:
            return
        for storage in upload.chain:
            node = self._site.roster.get(storage)
            node.reserved = max(0, node.reserved - upload.size)
            node.pulls -= 1 if upload.entry else 0
            if storage not in keep:
                node.order(orders.discard(token))

    def abandon(self, token: str, holder: str) -> None:
        """The writer gives up; unknown uploads are fine (they are gone already)."""
        with self._site.decisions.lock:
            upload = self._site.uploads.get(token)
            if upload is not None and upload.holder != holder:
                raise PermissionDenied("this upload belongs to somebody else")
            self.release(token)

    def expire(self) -> None:
        """Abandon uploads without a sign of life for their lease; those that may be gone on with, some time later."""
        with self._site.decisions.lock:
            for upload in self._site.uploads.expired(self._site.clock.monotonic(), self._site.policy.resumable):
                self.release(upload.id)


def _refuse(error: GogglesError, _: Transaction) -> WriteTicket:
    raise error


def _may_write(path: str, existing: Entry | None, level: Level) -> None:
    if existing is None:
        return
    if existing.is_dir:
        raise IsADirectory(f"{path} is a directory", "give the file a name of its own")
    if level < Level.READWRITE:
        raise PermissionDenied(f"{path} exists, and your account may add files but not replace them")
