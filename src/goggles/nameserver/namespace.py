"""Files and directories: what users ask of the tree.

Law: looking (ls, stat, ...) reads a snapshot and takes no lock; changing (mkdir, rm, ...) is one decision, and
the storages are told afterwards, in the order of the decisions.  A request id that comes twice is answered with
the first answer, so a caller that lost an answer may ask again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from goggles.contracts import orders
from goggles.contracts.data import MAX_COPIES
from goggles.contracts.packed import ERROR, Columns, Row
from goggles.contracts.records import DIRECTORY, FILE, DirInfo, FileInfo, SiteInfo, StorageInfo, Value
from goggles.contracts.records import Entry as EntryInfo
from goggles.errors import BadPath, BadRequest, GogglesError, IsADirectory, NotADirectory
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.entry import Entry
from goggles.nameserver.marks import Elsewhere
from goggles.nameserver.replication import Standing
from goggles.nameserver.site import Site
from goggles.nameserver.states import NodeState
from goggles.nameserver.tree import Tree
from goggles.paths import DfsPath, parse, split

MAX_LISTING = 10_000
SETREP_PAGE = 500
DAY = 86_400.0
RECORDS: dict[str, type[FileInfo] | type[DirInfo]] = {FILE: FileInfo, DIRECTORY: DirInfo}


class Namespace:
    """The users' view of the tree."""

    def __init__(self, site: Site) -> None:
        self._site = site

    # --- looking ---------------------------------------------------------------------------

    def stat(self, path: str) -> EntryInfo:
        found = self._glance(path)
        if found is not None:
            return _record(*found)
        with self._site.look() as tree:
            return _record(*self._stat(tree, path))

    def stat_many(self, paths: Sequence[str]) -> list[tuple[str, Row]]:
        """All of one moment: FILE or DIRECTORY and the values of its record, or ERROR and those of why not."""
        found = self._glance(paths[0]) if len(paths) == 1 else None
        if found is not None:
            return [found]
        with self._site.look() as tree:
            return [self._stat_or_error(tree, path) for path in paths]

    def _glance(self, path: str) -> tuple[str, Row] | None:
        """The answer for a file that can only be here, in less time; None: look."""
        if self._site.linked:
            return None
        try:
            wanted = parse(path)
        except BadPath:
            return None
        with self._site.glance() as tree:
            found = tree.glance(wanted)
        return None if found is None or self._site.linked else (FILE, self._file_values(wanted, *found))

    def _stat_or_error(self, tree: Tree, path: str) -> tuple[str, Row]:
        try:
            return self._stat(tree, path)
        except GogglesError as error:
            return ERROR, (error.code, error.message, error.hint)

    def _stat(self, tree: Tree, path: str) -> tuple[str, Row]:
        wanted = parse(path)
        entry = tree.need(wanted)
        if entry.is_dir:
            names = tuple(e.name for e in tree.listing(wanted, "", MAX_LISTING))
            count = tree.count_children([entry.id]).get(entry.id, 0)
            return DIRECTORY, _dir_values(entry, wanted, names, count)
        return FILE, tuple(column[0] for column in self._file_columns(tree, [entry], [wanted]))

    def listing(self, path: str, after: str = "", limit: int = MAX_LISTING) -> list[EntryInfo]:
        """A page of the entries of a directory, in byte order of their names; a file lists itself."""
        order, columns = self.columns(path, after, limit)
        records: Any = {kind: map(RECORDS[kind], *columns[kind]) for kind in columns}
        return [next(records[kind]) for kind in order]

    def columns(self, path: str, after: str, limit: int) -> tuple[list[str], dict[str, Columns]]:
        """`listing` as (FILE or DIRECTORY for each entry, the values of the records of each kind)."""
        if not 0 < limit <= MAX_LISTING:
            raise BadRequest(f"a page may have 1 to {MAX_LISTING} entries, not {limit}")
        wanted = parse(path)
        with self._site.look() as tree:
            entry = tree.need(wanted)
            if not entry.is_dir:
                return [FILE], {FILE: self._file_columns(tree, [entry], [wanted])}
            return self._columns(tree, wanted, tree.listing(wanted, after, limit))

    def find(self, path: str) -> Entry | None:
        with self._site.look() as tree:
            return tree.find(parse(path))

    def may_be_file(self, path: str) -> None:
        """Raise unless a file could be written to `path`."""
        wanted = parse(path)
        with self._site.look() as tree:
            tree.need_dir(split(wanted)[0])
            there = tree.find(wanted)
        if there is not None and there.is_dir:
            raise IsADirectory(f"{wanted} is a directory", "give the file a name of its own")

    def names(self, path: str, after: str = "", limit: int = MAX_LISTING) -> tuple[str, ...]:
        with self._site.look() as tree:
            wanted = parse(path)
            if not tree.need(wanted).is_dir:
                raise NotADirectory(f"{wanted} is a file")
            return tuple(e.name for e in tree.listing(wanted, after, limit))

    def locations(self, path: str) -> list[StorageInfo]:
        """The storages that hold a copy of the file, readable ones first."""
        with self._site.look() as tree:
            entry = tree.need_file(parse(path))
            holders = tree.instances_of([entry.id]).get(entry.id, [])
        nodes = [self._site.roster.get(holder) for holder in holders]
        return [node.info() for node in sorted(nodes, key=lambda n: (n.standing is not Standing.LIVE, n.name))]

    def du(self) -> tuple[SiteInfo, list[StorageInfo]]:
        site = self._site
        with site.look() as tree:
            files, directories, size = tree.totals()
            owed = tree.owed_count()
        infos = [node.info() for node in site.roster.all()]
        warnings = tuple(warning for info in infos for warning in self._warnings(info))
        if site.dialer.contexts.expires_soon(site.clock.now()):
            warnings += ("the certificate of the nameserver expires in less than 30 days",)
        info = SiteInfo(
            site=site.name,
            files=files,
            directories=directories,
            size=size,
            owed=owed,
            uploads=len(site.uploads),
            orders=sum(node.waiting for node in site.roster.all()),
            epoch=site.epoch.number,
            warnings=warnings,
            reviews=site.reviews(),
        )
        return info, infos

    def _warnings(self, info: StorageInfo) -> Iterable[str]:
        if info.state == "held":
            yield f"storage {info.name} is in safe mode: {info.held_because}"
        now = self._site.clock.now()
        days = (info.certificate_expires - now) / DAY
        if info.certificate_expires and days < 30:
            yield f"the certificate of storage {info.name} expires in {max(0, int(days))} days"
        if info.scrub_bad:
            yield f"the scrub of storage {info.name} found {info.scrub_bad} bad copies since its round began"
        if info.scrub_days and info.scrub_ended and now - info.scrub_ended > 2 * info.scrub_days * DAY:
            yield f"storage {info.name} has not read all its files for {int((now - info.scrub_ended) / DAY)} days"

    # --- changing --------------------------------------------------------------------------

    def mkdir(self, path: str, parents: bool, exist_ok: bool, request: str) -> tuple[Value, ...]:
        """The directories made."""
        wanted = parse(path)

        def decide(tx: Transaction) -> tuple[Value, ...]:
            made = tx.tree.mkdir(wanted, parents=parents, exist_ok=exist_ok)
            for directory in made:
                self._tell_all(tx, orders.mkdir(directory))
                self._told(tx, "mkdir", "made directory %s", path=directory)
            return tuple(made)

        return self._once(request, decide)

    def rmdir(self, path: str, recursive: bool, request: str) -> tuple[Value, ...]:
        wanted = parse(path)

        def decide(tx: Transaction) -> tuple[Value, ...]:
            if recursive:
                tx.tree.remove_tree(wanted)
                self._tell_of_removal(tx, wanted)
                tx.on_commit(self._trash)
                self._told(tx, "rmdir", "removed directory %s and all in it", path=wanted)
            else:
                tx.tree.rmdir(wanted)
                self._tell_all(tx, orders.rmdir(wanted))
                self._told(tx, "rmdir", "removed directory %s", path=wanted)
            return ()

        return self._once(request, decide)

    def rm(self, path: str, request: str) -> tuple[Value, ...]:
        wanted = parse(path)

        def decide(tx: Transaction) -> tuple[Value, ...]:
            entry, holders = tx.tree.rm(wanted)
            self.forget_copies(tx, wanted, entry, holders)
            tx.on_commit(self._site.wake_repair.set)
            self._told(tx, "rm", "removed %s", path=wanted)
            return ()

        return self._once(request, decide)

    def mv(self, source: str, target: str, request: str) -> tuple[Value, ...]:
        old, new = parse(source), parse(target)

        def decide(tx: Transaction) -> tuple[Value, ...]:
            moved = tx.tree.move(old, new)
            if moved.replaced is not None:
                self.forget_copies(tx, new, moved.replaced, moved.replaced_holders)
            if moved.entry.is_dir:
                self._tell_all(tx, orders.move(old, new))
            else:
                self._tell_holders(tx, moved.entry, orders.move_file(old, new, moved.entry.version))
            self._told(tx, "mv", "moved %s to %s", path=old, to=new)
            return ()

        return self._once(request, decide)

    def setrep(self, path: str, copies: int, request: str) -> int:
        """Set the number of copies of a file, or of a directory (for new files) and all files below; files changed."""
        if not 1 <= copies <= MAX_COPIES:
            raise BadRequest(f"a file may have 1 to {MAX_COPIES} copies, not {copies}")
        wanted = parse(path)
        entry = self._site.decisions.run(lambda tx: tx.tree.set_copies(wanted, copies))
        self._site.reconsider.extend([] if entry.is_dir else [entry.id])
        changed = self._set_below(entry.id, copies) if entry.is_dir else 1
        self._site.wake_repair.set()
        return changed

    def _set_below(self, directory: int, copies: int) -> int:
        """Set it for all files below, a page in a decision; their number."""
        changed, after = 0, 0
        while True:
            page = partial(_set_page, directory=directory, copies=copies, after=after)
            ids = self._site.decisions.run(page)
            if not ids:
                return changed
            changed, after = changed + len(ids), ids[-1]
            self._site.reconsider.extend(ids)

    def forget_copies(self, tx: Transaction, path: DfsPath, entry: Entry, holders: Iterable[int]) -> None:
        """Tell the storages that held `entry`, which is not in the tree any more, to remove it."""
        for holder in holders:
            node = self._site.roster.get(holder)
            tx.on_commit(partial(node.lose, entry.size, orders.remove(path, entry.version)))

    def _tell_of_removal(self, tx: Transaction, path: DfsPath) -> None:
        """Only storages that are known to have there what the tree had may remove it unseen; others are asked again."""
        for node in self._site.roster.all():
            if node.state is NodeState.ACTIVE:
                tx.on_commit(partial(node.order, orders.remove_tree(path)))
            else:
                tx.on_commit(node.miss)

    def _told(self, tx: Transaction, event: str, message: str, **facts: str) -> None:
        """The values of `facts` stand in `message`, in their order."""
        tx.on_commit(lambda: self._site.story.tell(event, message, **facts))

    def _tell_holders(self, tx: Transaction, entry: Entry, order: orders.Order) -> None:
        for holder in tx.tree.instances_of([entry.id]).get(entry.id, ()):
            tx.on_commit(partial(self._site.roster.get(holder).order, order))

    def _trash(self) -> None:
        self._site.has_trash = True
        self._site.wake_repair.set()

    def _tell_all(self, tx: Transaction, order: orders.Order) -> None:
        for node in self._site.roster.all():
            tx.on_commit(partial(node.order, order))

    def _once(self, request: str, decide: Callable[[Transaction], tuple[Value, ...]]) -> tuple[Value, ...]:
        """Run `decide`; a request id (32 hex digits) that was answered before gets the same answer."""

        def guarded(tx: Transaction) -> tuple[Value, ...]:
            if not request:
                return decide(tx)
            earlier = tx.tree.receipt(request)
            if earlier is not None:
                return tuple(json.loads(earlier))
            answer = decide(tx)
            tx.tree.add_receipt(request, json.dumps(answer))
            return answer

        return self._site.decisions.run(guarded)

    # --- records ---------------------------------------------------------------------------

    def _columns(self, tree: Tree, parent: DfsPath, entries: list[Entry]) -> tuple[list[str], dict[str, Columns]]:
        prefix, found = parent.rstrip("/") + "/", dict[str, Columns]()
        files = [entry for entry in entries if entry.kind == "f"]
        if files:
            found[FILE] = self._file_columns(tree, files, [prefix + entry.name for entry in files])
        if len(files) == len(entries):
            return [FILE] * len(files), found
        directories = [entry for entry in entries if entry.is_dir]
        counts = tree.count_children([entry.id for entry in directories])
        rows = [_dir_values(entry, prefix + entry.name, (), counts.get(entry.id, 0)) for entry in directories]
        found[DIRECTORY] = list(zip(*rows, strict=True))
        return [DIRECTORY if entry.is_dir else FILE for entry in entries], found

    def file_infos(self, tree: Tree, files: list[tuple[Entry, DfsPath]]) -> list[FileInfo]:
        if not files:
            return []
        found, paths = zip(*files, strict=True)
        return list(map(FileInfo, *self._file_columns(tree, found, paths)))

    def _file_columns(self, tree: Tree, files: Sequence[Entry], paths: Sequence[str]) -> Columns:
        """The values of a FileInfo for each, by key."""
        each: Any = Entry._make(zip(*files, strict=True))  # each field has those of all files
        ids: Sequence[int] = each.id
        live, storages = self._held(ids, tree.instances_of(ids))
        others = tree.holders_elsewhere(ids) if self._site.linked else {}
        elsewhere = [_elsewhere(others[number]) if number in others else () for number in ids]
        gone = [_gone(others[number]) if number in others else () for number in ids]
        return (
            paths,
            [FILE] * len(ids),
            each.size,
            each.sha256,
            each.generation,
            [wanted or 0 for wanted in each.copies],
            live,
            storages,
            each.created,
            each.modified,
            each.uploader,
            each.source,
            [bool(there) and not here for there, here in zip(elsewhere, storages, strict=True)],
            each.version,
            elsewhere,
            gone,
        )

    def _file_values(self, path: str, entry: Entry, holders: tuple[int, ...]) -> Row:
        """The same of one file."""
        live, storages = self._holders(holders)
        head = (path, FILE, entry.size, entry.sha256, entry.generation, entry.copies or 0, live, storages)
        return *head, entry.created, entry.modified, entry.uploader, entry.source, False, entry.version, (), ()

    def _held(self, ids: Sequence[int], holders: dict[int, list[int]]) -> tuple[list[int], list[tuple[str, ...]]]:
        """(copies that count, names of the storages, those first) of each."""
        here = [tuple(holders.get(number, ())) for number in ids]
        known = {several: self._holders(several) for several in set(here)}
        return [known[several][0] for several in here], [known[several][1] for several in here]

    def _holders(self, ids: tuple[int, ...]) -> tuple[int, tuple[str, ...]]:
        """(copies that count, names of the storages, those first)."""
        nodes = [self._site.roster.get(number) for number in ids]
        nodes.sort(key=lambda node: (node.standing is not Standing.LIVE, node.name))
        return sum(node.standing is Standing.LIVE for node in nodes), tuple(node.name for node in nodes)


def _record(kind: str, values: Row) -> EntryInfo:
    return RECORDS[kind](*values)


def _dir_values(entry: Entry, path: str, names: tuple[str, ...], count: int) -> Row:
    return path, DIRECTORY, names, count, entry.copies, entry.created, entry.modified


def _elsewhere(others: Elsewhere) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((librarian, store) for librarian, store, *_ in others.remote))


def _gone(others: Elsewhere) -> tuple[str, ...]:
    return tuple(sorted(storage for storage, *_ in others.gone))


def _set_page(tx: Transaction, directory: int, copies: int, after: int) -> list[int]:
    return tx.tree.set_copies_below(directory, copies, after, SETREP_PAGE)
