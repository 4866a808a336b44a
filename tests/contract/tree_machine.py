"""Random verbs on a Tree and on a dict, side by side; whatever one of them says, the other must say too.

Law checked at each step: the tree is what the dict is; a verb that refuses has written nothing; what was rolled back
never was.  At the end of each group all invariants of the database hold.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event, select

from goggles.errors import (
    AlreadyExists,
    BadRequest,
    GogglesError,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
)
from goggles.meta import tables
from goggles.meta.database import Database
from goggles.meta.validating import validate
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.entry import Entry
from goggles.nameserver.tree import Tree
from goggles.paths import ROOT, DfsPath, is_inside, join, parse, split

NAMES = ["a", "A", "💾"]
DEPTH = 3
anywhere = st.lists(st.sampled_from(NAMES), max_size=DEPTH).map(lambda parts: parse("/" + "/".join(parts)))


@dataclass(frozen=True)
class Thing:
    """A directory (version empty) or a file of the model."""

    copies: int | None = None
    version: str = ""
    size: int = 0
    generation: int = 0
    holders: frozenset[int] = frozenset()

    @property
    def is_dir(self) -> bool:
        return not self.version


Model = dict[DfsPath, Thing]


@st.composite
def near(draw: st.DrawFn, model: Model) -> DfsPath:
    """A path that is there, one right below a path that is there, or any."""
    there = draw(st.sampled_from(sorted(model)))
    return draw(st.sampled_from([there, there, join(there, draw(st.sampled_from(NAMES))), draw(anywhere)]))


def move_all(model: Model, source: DfsPath, target: DfsPath) -> Model:
    return {
        DfsPath(target + path[len(source) :]) if is_inside(path, source) else path: thing
        for path, thing in model.items()
    }


class TreeMachine(RuleBasedStateMachine):
    """Runs in one transaction that is never committed; a group of verbs is a savepoint of it."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._write = database.write()
        self.tx = self._write.__enter__()
        event.listen(self.tx, "before_cursor_execute", self._note)
        self.cache = DirCache(size=5)
        self.writes = 0
        self.storages: list[int] = []
        self.model: Model = {ROOT: Thing()}
        self.ever: set[DfsPath] = set()
        self.let_go: set[str] = set()
        self.in_trash: set[str] = set()

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.writes += not statement.lstrip().upper().startswith(("SELECT", "WITH", "SAVEPOINT", "RELEASE", "ROLLBACK"))

    def teardown(self) -> None:
        try:
            if self.storages:
                self.end_group()
        finally:
            stop = RuntimeError("undo all")
            try:
                self._write.__exit__(RuntimeError, stop, None)
            except RuntimeError as error:
                assert error is stop

    # --- groups ----------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        tree = Tree(self.tx, self.cache, 1.0)
        common = {"host": "h", "port": 1, "capacity": 1 << 40, "zone": "", "ingestable": True}
        for name in ("alice", "bob", "carol"):
            row = tree.enroll_storage(name, common | {"storage_id": secrets.token_hex(16)})
            self.storages.append(row.id)
        self._begin_group()
        for path in ("/a", "/a/a", "/a/a/a"):
            self.model.update(dict.fromkeys(self.tree.mkdir(parse(path)), Thing()))
        for path in ("/A", "/a/A", "/a/💾", "/a/a/A"):
            self._commit(parse(path), 7, 2, self.storages[:1])
        self.end_group()

    def _begin_group(self) -> None:
        self.savepoint = self.tx.begin_nested()
        self.tree = Tree(self.tx, self.cache, 2.0)
        self.before = dict(self.model), set(self.let_go), set(self.in_trash)

    @rule()
    def end_group(self) -> None:
        self.tree.flush()
        self.savepoint.commit()
        self.tree.committed()
        assert validate(self.tx) == []
        self._begin_group()

    @rule()
    def roll_back(self) -> None:
        self.savepoint.rollback()
        self.tree.rolled_back()
        self.model, self.let_go, self.in_trash = self.before
        self._begin_group()

    def some(self, data: st.DataObject) -> DfsPath:
        return data.draw(near(self.model))

    # --- what should happen ----------------------------------------------------------------

    def why_missing(self, path: DfsPath) -> type[GogglesError]:
        while path not in self.model:
            path = split(path)[0]
        return NotFound if self.model[path].is_dir else NotADirectory

    def children(self, path: DfsPath) -> list[DfsPath]:
        return [other for other in self.model if other != ROOT and split(other)[0] == path]

    def below(self, path: DfsPath) -> list[DfsPath]:
        return [other for other in self.model if is_inside(other, path)]

    def bury(self, path: DfsPath) -> None:
        self.let_go.add(self.model.pop(path).version)

    @contextmanager
    def expecting(self, error: type[GogglesError] | None) -> Iterator[None]:
        """The block raises just this, and in that case has written nothing."""
        before, raised = self.writes, None
        try:
            yield
        except GogglesError as refusal:
            raised = type(refusal)
            assert self.writes == before, f"{refusal!r} came after a write"
        assert raised is error

    # --- verbs -----------------------------------------------------------------------------

    @rule(data=st.data(), parents=st.booleans(), exist_ok=st.booleans())
    def mkdir(self, data: st.DataObject, parents: bool, exist_ok: bool) -> None:
        path = self.some(data)
        error, missing = self._mkdir_expectation(path, parents, exist_ok)
        with self.expecting(error):
            assert self.tree.mkdir(path, parents=parents, exist_ok=exist_ok) == missing
            self.model.update(dict.fromkeys(missing, Thing()))

    def _mkdir_expectation(
        self, path: DfsPath, parents: bool, exist_ok: bool
    ) -> tuple[type[GogglesError] | None, list[DfsPath]]:
        if path in self.model:
            return (None, []) if exist_ok and self.model[path].is_dir else (AlreadyExists, [])
        missing = [path]
        while (above := split(missing[0])[0]) not in self.model:
            missing.insert(0, above)
        if not self.model[above].is_dir:
            return NotADirectory, []
        return (None, missing) if parents or len(missing) == 1 else (NotFound, [])

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        path = self.some(data)
        error = self._removal_error(path) or (NotEmpty if self.children(path) else None)
        with self.expecting(error):
            self.tree.rmdir(path)
            del self.model[path]

    @rule(data=st.data())
    def remove_tree(self, data: st.DataObject) -> None:
        path = self.some(data)
        with self.expecting(self._removal_error(path)):
            self.tree.remove_tree(path)
            for gone in self.below(path):
                self.in_trash.add(self.model.pop(gone).version)

    def _removal_error(self, path: DfsPath) -> type[GogglesError] | None:
        if path == ROOT:
            return BadRequest
        if path not in self.model:
            return self.why_missing(path)
        return None if self.model[path].is_dir else NotADirectory

    @rule(data=st.data())
    def rm(self, data: st.DataObject) -> None:
        path = self.some(data)
        there = self.model.get(path)
        error = self.why_missing(path) if there is None else IsADirectory if there.is_dir else None
        with self.expecting(error):
            entry, holders = self.tree.rm(path)
            assert there is not None
            assert (entry.version, set(holders)) == (there.version, there.holders)
            self.bury(path)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        source, to = self.some(data), self.some(data)
        with self.expecting(self._move_error(source, to)):
            moved = self.tree.move(source, to)
            if source == to:
                assert moved.replaced is None
                return
            replaced = self.model.get(to)
            assert (moved.replaced.version if moved.replaced else None) == (replaced.version if replaced else None)
            assert set(moved.replaced_holders) == (replaced.holders if replaced else set())
            if replaced:
                self.bury(to)
            self.model = move_all(self.model, source, to)

    def _move_error(self, source: DfsPath, target: DfsPath) -> type[GogglesError] | None:
        found, there = self.model.get(source), self.model.get(target)
        if found is None:
            return self.why_missing(source)
        if source == ROOT or (found.is_dir and is_inside(target, source)):
            return BadRequest
        if source == target:
            return None
        if there is not None and (there.is_dir or found.is_dir):
            return AlreadyExists
        above = split(target)[0]
        if above in self.model:
            return None if self.model[above].is_dir else NotADirectory
        return self.why_missing(above)

    @rule(data=st.data(), size=st.integers(0, 1 << 60), copies=st.integers(1, 3))
    def commit_file(self, data: st.DataObject, size: int, copies: int) -> None:
        path = self.some(data)
        above = split(path)[0]
        if path == ROOT or above not in self.model or not self.model[above].is_dir:
            return
        holders = data.draw(st.lists(st.sampled_from(self.storages), unique=True, max_size=copies))
        self._commit(path, size, copies, holders)

    def _commit(self, path: DfsPath, size: int, copies: int, holders: list[int]) -> None:
        above, name = split(path)
        there, version = self.model.get(path), secrets.token_hex(16)
        parent = self.tree.need_dir(above).id
        with self.expecting(IsADirectory if there is not None and there.is_dir else None):
            written = self.tree.commit_file(
                parent,
                name,
                size=size,
                sha256=secrets.token_hex(32),
                version=version,
                uploader="u",
                source="s",
                copies=copies,
                holders=holders,
            )
            assert (written.replaced.version if written.replaced else None) == (there.version if there else None)
            assert set(written.replaced_holders) == (there.holders if there else set())
            assert self.tree.get(written.entry.id) == written.entry
            if there is not None:
                self.bury(path)
            if len(holders) < copies:
                self.tree.set_owed(written.entry.id, len(holders))
            generation = 1 + (there.generation if there else 0)
            self.model[path] = Thing(copies, version, size, generation, frozenset(holders))

    @rule(data=st.data(), copies=st.integers(1, 16))
    def set_copies(self, data: st.DataObject, copies: int) -> None:
        path = self.some(data)
        with self.expecting(None if path in self.model else self.why_missing(path)):
            self.tree.set_copies(path, copies)
            self.model[path] = replace(self.model[path], copies=copies)

    @rule(data=st.data(), copies=st.integers(1, 16), limit=st.integers(1, 3))
    def set_copies_below(self, data: st.DataObject, copies: int, limit: int) -> None:
        path = self.some(data)
        if path not in self.model or not self.model[path].is_dir:
            return
        directory, changed, last = self.tree.need_dir(path).id, set[int](), 0
        while page := self.tree.set_copies_below(directory, copies, last, limit):
            assert len(page) <= limit and not changed & set(page)
            changed, last = changed | set(page), page[-1]
        files = [below for below in self.below(path) if not self.model[below].is_dir]
        assert len(changed) == len(files)
        for below in files:
            self.model[below] = replace(self.model[below], copies=copies)

    @rule(data=st.data())
    def copies_for(self, data: st.DataObject) -> None:
        path = self.some(data)
        if path not in self.model or not self.model[path].is_dir:
            return
        wanted, here = self.model[path].copies, path
        while wanted is None and here != ROOT:
            here = split(here)[0]
            wanted = self.model[here].copies
        assert self.tree.copies_for(self.tree.need_dir(path).id) == (wanted or 2)

    @precondition(lambda self: self.in_trash)
    @rule(limit=st.integers(1, 5))
    def purge(self, limit: int) -> None:
        while self.tree.purge_trash(limit).rows:
            pass
        self.let_go |= self.in_trash - {""}
        self.in_trash.clear()

    # --- what must be the same -------------------------------------------------------------

    @precondition(lambda self: self.storages)
    @invariant()
    def same_tree(self) -> None:
        found: Model = {ROOT: replace(Thing(), copies=self.tree.need(ROOT).copies)}
        waiting = [ROOT]
        while waiting:
            here = waiting.pop()
            page = self.tree.listing(here)
            assert [e.name for e in page] == sorted((e.name for e in page), key=str.encode)
            holders = self.tree.instances_of([e.id for e in page])
            for entry in page:
                path = join(here, entry.name)
                on = frozenset(holders.get(entry.id, ()))
                found[path] = Thing(entry.copies, entry.version, entry.size, entry.generation, on)
                assert self.tree.find(path) == entry and self.tree.path_of(entry.id) == path
                self._glance(path, None if entry.is_dir else (entry, on))
                waiting += [path] if entry.is_dir else []
        assert found == self.model
        self.ever |= set(found)
        assert [path for path in self.ever if path not in found and self.tree.find(path) is not None] == []
        for path in self.ever - set(found):
            self._glance(path, None)

    def _glance(self, path: DfsPath, wanted: tuple[Entry, frozenset[int]] | None) -> None:
        found = self.tree.glance(path)
        assert found is None or (found[0], frozenset(found[1])) == wanted

    @precondition(lambda self: self.storages)
    @invariant()
    def remembers_what_it_let_go(self) -> None:
        for version in self.let_go:
            assert self.tree.is_tombstoned(version, "", 0)

    @precondition(lambda self: self.storages)
    @invariant()
    def owes_what_is_short(self) -> None:
        rows = self.tx.execute(select(tables.owed.c.entry_id, tables.owed.c.live).order_by("live")).all()
        first = self.tree.owed_first(1_000, skip=())
        assert [live for _, live in rows] == [self.tree.owed_among([number])[number] for number in first]
        owed = {entry.version: live for number, live in rows if (entry := self.tree.get(number))}
        for thing in self.model.values():
            if not thing.is_dir and thing.version in owed:
                assert owed[thing.version] == len(thing.holders)
