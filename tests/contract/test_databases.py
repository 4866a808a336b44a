"""What the nameserver may rely on, whichever database it is given."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Column, Connection, MetaData, event, func, insert, inspect, select, text, update
from tests.contract.conftest import KINDS, Maker
from tests.contract.steps import DIGEST, changing, looking, p, put
from tests.contract.tree_machine import TreeMachine

from goggles.clock import ManualClock
from goggles.errors import BadPath, BadRequest, DatabaseAway, DatabaseError, NotFound, Overloaded
from goggles.meta import opening, peering, tables
from goggles.meta.database import Database
from goggles.meta.validating import validate
from goggles.nameserver import treejson
from goggles.nameserver.dircache import DirCache
from goggles.nameserver.entry import Entry
from goggles.nameserver.tree import Tree
from goggles.paths import ROOT, join, parse
from goggles.testing.cluster import free_port

ON_POSTGRESQL = pytest.mark.parametrize("maker", KINDS[1:], indirect=True)
ODD = [
    "-",
    ".a",
    "A",
    "Z",
    "_",
    "a",
    "a b",
    "a.b",
    "b",
    "é",
    "e\u0301",
    "~",
    "💾",
    "\u200b",
    "'; DROP TABLE x",
    "%",
    "\\",
]


# --- opening and schema ----------------------------------------------------------------------


def test_a_new_database_gets_the_schema_that_the_tables_describe(empty: str) -> None:
    database = Database.open(empty)
    database.prepare("home", 7.0)
    with database.write() as connection:
        assert validate(connection) == []
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, peering.peers.metadata)
    database.close()
    assert [change for change in found if "comment" not in str(change[0])] == []


def test_preparing_twice_changes_nothing(database: Database) -> None:
    before = database.site()
    with changing(database) as tree:
        tree.mkdir(p("/a"))
    database.prepare("another name", 9.0)
    assert database.site() == before
    assert before[1] == "test" and len(before[0]) == 32
    with looking(database) as tree:
        tree.need_dir(p("/a"))


def test_a_newer_schema_is_refused_and_left_as_it_is(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="newer program") as caught:
        database.prepare("test", 1.0)
    assert "upgrade" in caught.value.hint
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_the_database_of_another_program_is_refused(empty: str) -> None:
    database = Database.open(empty)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE songs (id INTEGER)"))
    with pytest.raises(DatabaseError, match="other program"):
        database.prepare("test", 1.0)
    database.close()


def test_a_migration_that_fails_leaves_nothing_behind(empty: str) -> None:
    database = Database.open(empty)
    with database.write() as connection:
        connection.execute(text("CREATE VIEW accounts AS SELECT 1"))  # in the way of the last table
    with pytest.raises(DatabaseError):
        database.prepare("test", 1.0)
    with database.write() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("DROP VIEW accounts"))
    database.prepare("test", 1.0)
    database.close()


# --- transactions ----------------------------------------------------------------------------


def test_what_raises_is_rolled_back_and_its_error_comes_out(database: Database) -> None:
    with pytest.raises(NotFound, match="mine"), changing(database) as tree:
        tree.mkdir(p("/a"))
        raise NotFound("mine")
    with looking(database) as tree:
        assert tree.find(p("/a")) is None


def test_a_reader_sees_one_moment_and_never_waits_for_the_writer(database: Database) -> None:
    with looking(database) as before:
        assert before.find(p("/a")) is None
        with changing(database) as tree:
            tree.mkdir(p("/a"))
            with looking(database) as during:
                assert during.find(p("/a")) is None
        assert before.find(p("/a")) is None
    with looking(database) as after:
        assert after.find(p("/a")) is not None


def test_a_reader_can_not_write(database: Database) -> None:
    with pytest.raises(DatabaseError, match="can not be written"), database.read() as connection:
        connection.execute(update(tables.totals).values(files=9))


def test_more_readers_than_connections_wait_and_then_are_told_so(where: str) -> None:
    database = Database.open(where, timeout=0.05)
    with contextlib.ExitStack() as stack:
        for _ in range(opening.READERS):
            stack.enter_context(database.read()).execute(select(tables.site))
        with pytest.raises(Overloaded), database.read():
            pass
        with changing(database) as tree:
            tree.mkdir(p("/readers-do-not-stop-the-writer"))
    database.close()


def test_no_verb_reads_a_table_from_end_to_end(database: Database) -> None:
    """Asked of the database itself: the plan of each statement that the verbs send."""
    said: list[tuple[str, object]] = []
    with changing(database) as tree:
        event.listen(tree.tx, "before_cursor_execute", lambda _c, _k, sql, values, *_: said.append((sql, values)))
        use_every_verb(tree)
    with database.write() as connection:
        is_file = connection.dialect.name == "sqlite"
        if not is_file:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN " if is_file else "EXPLAIN "
        one = {sql: values[0] if isinstance(values, list) else values for sql, values in said if values}
        plans = {sql: connection.exec_driver_sql(explain + sql, values).all() for sql, values in one.items()}
    assert len(plans) > 20
    bad = re.compile(r"^SCAN (?!owed USING COVERING INDEX ix_owed_live)|TEMP B-TREE" if is_file else r"Seq Scan")
    assert [(sql, row[-1]) for sql, rows in plans.items() for row in rows if bad.search(row[-1])] == []


@pytest.mark.parametrize("back", [0.0, 100.0, 10_000.0])
def test_a_copy_that_was_just_read_counts_as_read_though_the_clock_was_set_back(
    database: Database, back: float
) -> None:
    made, fresh = 50_000.0, 600.0
    with changing(database, now=made) as tree:
        storage = enrolled(tree)
        entry = put(tree, "/f", holders=(storage,)).id
        assert tree.verified_on(entry, made - fresh) == set(), "it was written, not read"
    now = made - back + 1.0
    with changing(database, now=now) as tree:
        tree.set_verified(entry, storage)
    with changing(database, now=now + 1.0) as tree:
        assert tree.verified_on(entry, now + 1.0 - fresh) == {storage}
    with changing(database, now=now + fresh + 1.0) as tree:
        assert tree.verified_on(entry, now + 1.0) == set(), "that was long ago"
    with changing(database, now=now - 5_000.0) as tree:
        assert tree.verified_on(entry, now - 5_000.0 - fresh) == set(), "nobody knows how long ago that was"


def enrolled(tree: Tree) -> int:
    values = {"storage_id": "1", "host": "h", "port": 1, "capacity": 1, "zone": "", "ingestable": True}
    return tree.enroll_storage("a", values).id


def use_every_verb(tree: Tree) -> None:
    storage = enrolled(tree)
    tree.mkdir(p("/a/b"), parents=True)
    entry = put(tree, "/a/f", holders=(storage,))
    put(tree, "/a/g", holders=(storage,))
    put(tree, "/a/g", size=4)
    tree.set_owed(entry.id, 1)
    tree.owed_first(5, skip=())
    tree.owed_among([entry.id])
    tree.listing(p("/a"))
    tree.count_children([entry.id])
    tree.directories(0, 5)
    tree.by_versions([entry.version])
    tree.files([entry.id])
    tree.instances_on(storage, 0, 5)
    tree.drop_instances(storage, [entry.id])
    tree.set_verified(entry.id, storage)
    tree.verified_on(entry.id, 1.0)
    tree.copies_for(tree.need_dir(p("/a/b")).id)
    tree.set_copies_below(tree.need_dir(p("/a")).id, 3, 0, 5)
    tree.add_receipt("1", "{}")
    tree.receipt("1")
    tree.move(p("/a/f"), p("/a/g"))
    tree.rmdir(p("/a/b"))
    tree.remove_tree(p("/a"))
    tree.purge_trash(5)
    tree.is_tombstoned(entry.version, "", 0)
    tree.is_tombstoned("", DIGEST, 3)
    tree.prune_tombstones(1.0)
    tree.prune_receipts(1.0)


# --- lease and epoch -------------------------------------------------------------------------


def test_a_second_nameserver_is_refused_while_the_first_holds_the_lease(database: Database, where: str) -> None:
    lease = database.lease()
    second = Database.open(where)
    with pytest.raises(DatabaseError, match="another nameserver") as caught:
        second.lease()
    assert "--standby" in caught.value.hint
    assert not lease.lost()
    lease.release()
    taken = second.lease()
    assert lease.lost() and not taken.lost()
    taken.release()
    second.close()


def test_a_standby_gets_the_lease_when_it_is_given_up(database: Database, where: str) -> None:
    lease, second, taken = database.lease(), Database.open(where), threading.Event()

    def stand_by() -> None:
        got = second.lease(wait=True)
        taken.set()
        got.release()

    waiting = threading.Thread(target=stand_by)
    waiting.start()
    assert not taken.wait(0.05)
    lease.release()
    assert taken.wait(10)
    waiting.join(10)
    second.close()


def test_a_standby_that_is_stopped_leaves(database: Database, where: str) -> None:
    lease, second, stop = database.lease(), Database.open(where), threading.Event()
    stop.set()
    with pytest.raises(DatabaseError):
        second.lease(wait=True, stop=stop)
    lease.release()
    second.close()


def test_each_epoch_is_one_higher_and_known_by_its_token(database: Database) -> None:
    first, second = database.begin_epoch(ManualClock()), database.begin_epoch(ManualClock())
    assert (first.number, second.number) == (1, 2) and first.token != second.token
    assert database.knows_epoch(1, first.token) and database.knows_epoch(2, second.token)
    assert not database.knows_epoch(2, first.token) and not database.knows_epoch(3, second.token)


def test_nothing_is_written_in_the_name_of_an_epoch_that_is_over(database: Database, where: str) -> None:
    database.begin_epoch(ManualClock())
    with changing(database) as tree:
        tree.mkdir(p("/before"))
    second = Database.open(where)
    second.begin_epoch(ManualClock())
    with pytest.raises(DatabaseError, match="taken over"), changing(database) as tree:
        tree.mkdir(p("/after"))
    with changing(second) as tree:
        assert tree.find(p("/after")) is None and tree.find(p("/before")) is not None
    second.close()


def test_an_epoch_does_not_begin_in_the_middle_of_a_transaction_of_the_last(database: Database, where: str) -> None:
    database.begin_epoch(ManualClock())
    second, begun = Database.open(where), threading.Event()

    def take_over() -> None:
        second.begin_epoch(ManualClock())
        begun.set()

    thread = threading.Thread(target=take_over)
    with changing(database) as tree:
        tree.mkdir(p("/in-time"))
        thread.start()
        assert not begun.wait(0.05)
    assert begun.wait(10)
    thread.join(10)
    second.close()


# --- names and ids ---------------------------------------------------------------------------


def test_names_are_told_apart_and_ordered_byte_by_byte(database: Database) -> None:
    with changing(database) as tree:
        for name in ODD:
            tree.mkdir(join(ROOT, name))
    wanted = sorted(ODD, key=str.encode)
    with looking(database) as tree:
        assert [entry.name for entry in tree.listing(ROOT)] == wanted
        assert [entry.name for entry in tree.children(tables.ROOT_ID)] == wanted
        pages, after = [], ""
        while page := tree.listing(ROOT, after, 3):
            assert len(page) <= 3
            pages += [entry.name for entry in page]
            after = pages[-1]
    assert pages == wanted


def test_the_longest_names_and_the_deepest_path_are_kept(database: Database) -> None:
    long = join(ROOT, "💾" * 63 + "abc")
    deep = parse("/" + "d/" * 2_047)
    with changing(database) as tree:
        tree.mkdir(long)
        tree.mkdir(deep, parents=True)
    with looking(database) as tree:
        found = tree.need_dir(deep)
        assert tree.path_of(found.id) == deep
        assert tree.path_of(tree.need_dir(long).id) == long


def test_an_id_is_never_used_twice(database: Database) -> None:
    with changing(database) as tree:
        first = put(tree, "/a").id
    with changing(database) as tree:
        tree.rm(p("/a"))
    with changing(database) as tree:
        assert put(tree, "/a").id > first > tables.TRASH_ID


def test_one_version_can_not_be_two_files(database: Database) -> None:
    with changing(database) as tree:
        version = put(tree, "/a").version
    with pytest.raises(DatabaseError), database.write() as connection:
        connection.execute(insert(tables.entries), entry_row("b", version))


def test_two_entries_can_not_have_one_name(database: Database) -> None:
    with changing(database) as tree:
        put(tree, "/a")
    with pytest.raises(DatabaseError), database.write() as connection:
        connection.execute(insert(tables.entries), entry_row("a", secrets.token_hex(16)))


def entry_row(name: str, version: str) -> dict[str, object]:
    row = {"parent_id": 1, "name": name, "kind": "f", "copies": 1, "created_at": 1.0, "modified_at": 1.0, "size": 1}
    return row | {"sha256": DIGEST, "generation": 1, "version": version, "uploader": "", "source": ""}


# --- the rules of the tree -------------------------------------------------------------------


def test_random_verbs_do_what_they_do_to_a_dict(database: Database) -> None:
    examples = 40 if database.url.get_backend_name() == "sqlite" else 12
    checks = list(HealthCheck)
    wanted = settings(max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(lambda: TreeMachine(database), settings=wanted)
    with looking(database) as tree:
        assert tree.listing(ROOT) == []


def test_readers_never_see_a_path_that_never_was(database: Database) -> None:
    """The file of round n only ever stands below the name that the directory has in round n."""
    cache, done, wrong = DirCache(), threading.Event(), list[str]()
    rounds = 60
    with changing(database, cache) as tree:
        tree.mkdir(p("/0/sub"), parents=True)
        put(tree, "/0/sub/0")

    def look() -> None:
        while not done.is_set():
            for number in range(rounds):
                with looking(database, cache) as tree:
                    for other in (number, number + 1, number - 1):
                        if other >= 0 and other != number and tree.find(p(f"/{number}/sub/{other}")) is not None:
                            wrong.append(f"/{number}/sub/{other}")

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, rounds):
        with changing(database, cache) as tree:
            tree.rm(p(f"/{number - 1}/sub/{number - 1}"))
            tree.move(p(f"/{number - 1}"), p(f"/{number}"))
            put(tree, f"/{number}/sub/{number}")
    done.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []


@pytest.mark.parametrize("last", ["/" + "x" * 255, "/" + "y" * 250 + "/z/"], ids=["file", "directory"])
def test_no_rename_makes_a_path_that_is_too_long(database: Database, last: str) -> None:
    cache = DirCache()
    below = "/dä" * 700 + ("/" + "e" * 200) * 3
    far, longest = ("/" + "f" * 200) * 2, below + last.rstrip("/")
    fitting = f"{far}/{'g' * (4096 - 403 - len(longest.encode()))}"
    with changing(database, cache) as tree:
        tree.mkdir(p("/a" + below), parents=True)
        tree.mkdir(p(far), parents=True)
        if last.endswith("/"):
            tree.mkdir(p("/a" + longest), parents=True)
        else:
            put(tree, "/a" + longest)
    with changing(database, cache) as tree, pytest.raises(BadPath, match="more than 4096 bytes"):
        tree.move(p("/a"), p(fitting + "g"))
    with changing(database, cache) as tree:
        tree.move(p("/a"), p(fitting))
        assert tree.need(p(fitting + longest)).is_dir == last.endswith("/")
        tree.move(p(fitting), p("/a"))


class Meddled(DirCache):
    """A cache in which something happens right after it has answered for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[], None] | None = None

    def get(self, path: str) -> int | None:
        found, meddle = super().get(path), self.meddle
        self.meddle = None
        if meddle is not None:
            meddle()
        return found


def move_and_put(database: Database, cache: DirCache) -> None:
    with changing(database, cache) as tree:
        tree.move(p("/a"), p("/b"))
        put(tree, "/b/new")


def test_what_the_cache_said_before_a_snapshot_is_not_looked_up_in_it(database: Database) -> None:
    cache = Meddled()
    with changing(database, cache) as tree:
        tree.mkdir(p("/a/sub"), parents=True)
        tree.need_dir(p("/a"))
        tree.find(p("/a/sub"))
    cache.meddle = lambda: move_and_put(database, cache)
    with looking(database, cache) as tree:
        assert tree.find(p("/a/new")) is None
        assert tree.find(p("/b/new")) is not None


def test_a_glance_tells_of_a_file_and_its_holders_what_a_look_tells(database: Database) -> None:
    cache = DirCache()
    with changing(database, cache) as tree:
        tree.mkdir(p("/a/sub"), parents=True)
        storages = [enroll(tree, name) for name in ("alice", "bob", "carol")]
        held, lost = put(tree, "/a/held", holders=(*storages,)), put(tree, "/a/lost")
        top = put(tree, "/top", holders=(storages[1],))
    assert glance(database, cache, "/top") == (top, (storages[1],))
    assert glance(database, cache, "/a/held") == (held, tuple(storages))
    assert glance(database, cache, "/a/lost") == (lost, ())
    for path in ("/", "/a", "/a/sub", "/a/none", "/a/held/below", "/none/at/all"):
        assert glance(database, cache, path) is None
    assert glance(database, DirCache(), "/a/held") is None, "it would take a second statement"


def test_a_glance_tells_nothing_of_directories_that_move_meanwhile(database: Database) -> None:
    cache = Meddled()
    with changing(database, cache) as tree:
        tree.mkdir(p("/a/sub"), parents=True)
        tree.find(p("/a/sub"))
        put(tree, "/a/old")
    assert glance(database, cache, "/a/old") is not None
    cache.meddle = lambda: move_and_put(database, cache)
    assert glance(database, cache, "/a/new") is None
    assert glance(database, cache, "/a/old") is None


def glance(database: Database, cache: DirCache, path: str) -> tuple[Entry, tuple[int, ...]] | None:
    with database.glance() as connection:
        tree = Tree(database.quick(connection), cache, 5.0)
        found = tree.glance(p(path))
        tree.committed()
    return found and (found[0], tuple(sorted(found[1])))


def enroll(tree: Tree, name: str) -> int:
    values = {"host": "h", "port": 1, "capacity": 1 << 40, "zone": "", "ingestable": True}
    return tree.enroll_storage(name, values | {"storage_id": secrets.token_hex(16)}).id


def test_a_snapshot_finds_nothing_of_what_the_cache_learned_after_it(database: Database) -> None:
    cache = DirCache()
    with changing(database, cache) as tree:
        tree.mkdir(p("/a"))
        put(tree, "/a/old")
    with looking(database, cache) as early:
        assert early.find(p("/a/old")) is not None
        move_and_put(database, cache)
        with looking(database, cache) as late:
            assert late.find(p("/b/old")) is not None
        assert early.find(p("/b/old")) is None and early.find(p("/a/old")) is not None


def test_the_cache_learns_nothing_from_a_snapshot_that_is_older_than_a_move(database: Database) -> None:
    cache = DirCache()
    with changing(database, cache) as tree:
        tree.mkdir(p("/a"))
        put(tree, "/a/old")
    with looking(database, cache) as early:
        early.find(p("/nowhere"))
        move_and_put(database, cache)
        assert early.find(p("/a/old")) is not None
    with changing(database, cache) as tree:
        tree.mkdir(p("/a"))
        put(tree, "/a/newest")
    with looking(database, cache) as late:
        assert late.find(p("/a/newest")) is not None and late.find(p("/a/old")) is None


@pytest.mark.parametrize("end", ["rmdir", "remove_tree", "move"])
def test_a_directory_made_where_another_was_is_the_new_one(database: Database, end: str) -> None:
    cache = DirCache()
    with changing(database, cache) as tree:
        tree.mkdir(p("/a/b"), parents=True)
        assert tree.find(p("/a/b/f")) is None
    with changing(database, cache) as tree:
        {
            "rmdir": lambda: tree.rmdir(p("/a/b")),
            "remove_tree": lambda: tree.remove_tree(p("/a/b")),
            "move": lambda: tree.move(p("/a/b"), p("/c")),
        }[end]()
        tree.mkdir(p("/a/b"))
        entry = put(tree, "/a/b/f")
    with looking(database, cache) as tree:
        assert tree.find(p("/a/b/f")) == entry and tree.find(p("/c/f")) is None


def test_copies_are_set_below_though_files_leave_between_the_pages(database: Database) -> None:
    with changing(database) as tree:
        tree.mkdir(p("/a/sub"), parents=True)
        tree.mkdir(p("/other"))
        for name in ("1", "2", "sub/3", "sub/4", "z"):
            put(tree, f"/a/{name}")
        directory, seen = tree.need_dir(p("/a")).id, list[str]()
        page = tree.set_copies_below(directory, 5, 0, 1)
        while page:
            path = tree.path_of(page[0])
            assert path is not None
            seen.append(path)
            if path == "/a/2":
                tree.rm(path)
            if path == "/a/sub/3":
                tree.move(path, p("/other/3"))
            page = tree.set_copies_below(directory, 5, page[0], 1)
    assert seen == ["/a/1", "/a/2", "/a/sub/3", "/a/sub/4", "/a/z"]


def test_a_file_is_not_committed_into_the_trash(database: Database) -> None:
    with changing(database) as tree:
        tree.mkdir(p("/a/b"), parents=True)
        put(tree, "/a/b/f")
        parent = tree.need_dir(p("/a/b")).id
    values = {"size": 1, "sha256": DIGEST, "version": "1" * 32, "uploader": "", "source": "", "copies": 1}
    with changing(database) as tree:
        tree.remove_tree(p("/a"))
        for directory in (parent, tables.TRASH_ID, 10**6):
            with pytest.raises(NotFound, match="gone"):
                tree.commit_file(directory, "g", holders=[], **values)


def test_a_group_that_moves_a_directory_still_knows_all_other_paths(database: Database) -> None:
    with changing(database) as tree:
        tree.mkdir(p("/a"))
        tree.mkdir(p("/b"))
        entry = put(tree, "/b/f")
    with changing(database) as tree:
        assert tree.path_of(entry.id) == "/b/f"
        tree.move(p("/a"), p("/c"))
        assert tree.path_of(entry.id) == "/b/f"
        tree.move(p("/b"), p("/c/b"))
        assert tree.path_of(entry.id) == "/c/b/f"
        assert [found.id for found, _ in tree.files([entry.id])] == [entry.id]
        tree.remove_tree(p("/c"))
        assert tree.path_of(entry.id) is None and tree.files([entry.id]) == []


def test_a_directory_of_any_size_is_moved_and_removed_with_one_row(database: Database) -> None:
    with changing(database) as tree:
        tree.mkdir(p("/big/sub"), parents=True)
        for number in range(300):
            put(tree, f"/big/sub/{number}")
    with changing(database) as tree:
        changed = rows_changed(tree.tx)
        tree.move(p("/big"), p("/bigger"))
        tree.remove_tree(p("/bigger"))
        assert sum(changed) == 2
    with changing(database) as tree:
        purged = 0
        while rows := tree.purge_trash(100).rows:
            assert rows <= 100
            purged += rows
        assert purged == 302
        tree.flush()
        assert validate(tree.tx) == [] and tree.totals() == (0, 0, 0)


def rows_changed(connection: Connection) -> list[int]:
    counts: list[int] = []

    def note(_c: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(("UPDATE", "INSERT", "DELETE")):
            counts.append(cursor.rowcount)  # type: ignore[attr-defined]

    event.listen(connection, "after_cursor_execute", note)
    return counts


# --- tree.json -------------------------------------------------------------------------------


def test_an_exported_tree_imports_to_the_same_tree(maker: Maker, where: str, tmp_path: Path) -> None:
    first, target = Database.open(where), tmp_path / "tree.json"
    with changing(first) as tree:
        for name in ODD:
            tree.mkdir(join(ROOT, name))
            put(tree, f"/{name}/{name}", size=len(name))
        tree.mkdir(p("/gone"))
        put(tree, "/gone/f")
        tree.remove_tree(p("/gone"))
    with first.read() as connection:
        treejson.export_file(connection, target)
    first.close()
    second = Database.open(maker.prepared())
    with second.write() as connection:
        assert treejson.import_file(connection, target, 3.0) == 1 + 2 * len(ODD)
    again = tmp_path / "again.json"
    with second.read() as connection:
        treejson.export_file(connection, again)
        assert validate(connection) == []
        tree = Tree(connection, DirCache(), 1.0)
        assert tree.owed_count() == len(ODD)
        entry = tree.need_file(p("/💾/💾"))
        assert (entry.generation, entry.size, entry.sha256) == (1, 1, DIGEST)
    second.close()
    assert again.read_bytes() == target.read_bytes()


def test_an_import_that_fails_leaves_an_empty_tree(database: Database, tmp_path: Path) -> None:
    source = tmp_path / "tree.json"
    source.write_text('{"/a": {"type": "DIRECTORY", "files": []}, "/a/f": {"type": "FILE", "size": -1, "hash": ""}}')
    with pytest.raises(BadRequest, match="/a/f"), database.write() as connection:
        treejson.import_file(connection, source, 3.0)
    with looking(database) as tree:
        assert tree.listing(ROOT) == []


# --- what only one of them can suffer --------------------------------------------------------


@ON_POSTGRESQL
def test_a_lease_is_lost_with_its_connection(where: str) -> None:
    database = Database.open(where)
    lease = database.lease()
    assert not lease.lost()
    url = database.url.set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(url, autocommit=True) as connection:
        holders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({holders})")
    assert lease.lost()
    lease.release()
    second = Database.open(where)
    second.lease().release()
    second.close()
    database.close()


@ON_POSTGRESQL
def test_a_writer_comes_back_after_its_connection_broke(where: str) -> None:
    database = Database.open(where)
    with pytest.raises(DatabaseAway, match="broke the connection"), changing(database) as tree:
        tree.mkdir(p("/a"))
        tree.tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with changing(database) as tree:
        assert tree.mkdir(p("/a")) == ["/a"]
    database.close()


def test_a_server_that_is_not_there_is_named_and_its_password_is_not() -> None:
    url = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/tree"
    with pytest.raises(DatabaseAway, match="can not be reached") as caught:
        Database.open(url, timeout=2)
    assert "secret" not in str(caught.value) and "me:***@127.0.0.1" in str(caught.value)


@pytest.mark.postgresql
def test_a_database_that_is_not_there_is_named(server: str) -> None:
    with pytest.raises(DatabaseError, match="is not there") as caught:
        Database.open(server.rpartition("/")[0] + "/no_such_database")
    assert "createdb" in caught.value.hint


def revisions() -> list[str]:
    """All revisions before the present one, the first first."""
    folder = Path(opening.__file__).parent / "migrations" / "versions"
    return sorted(path.name[1:5] for path in folder.glob("r0*.py"))[:-1]


@pytest.mark.parametrize("revision", revisions())
def test_a_database_of_each_earlier_schema_is_brought_up_to_date_with_all_that_is_in_it(
    empty: str, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    database = Database.open(empty)
    for step in sorted({"0001", revision}):
        with monkeypatch.context() as past:
            past.setattr("goggles.meta.database.HEAD", step)
            database.prepare("home", 7.0)
        if step == "0001":
            with changing(database) as tree:
                tree.mkdir(p("/a"))
                put(tree, "/a/kept")
    assert database.revision() == revision
    fill(database)
    before = everything(database)
    assert all(before.values()), "a row in each table"
    database.prepare("home", 8.0)
    after = everything(database)
    for name, rows in before.items():
        assert [{key: row[key] for key in rows[0]} for row in after[name]] == rows or name == "alembic_version"
    with looking(database) as tree:
        assert tree.need_file(p("/a/kept")).sha256 == DIGEST
    database.close()


def fill(database: Database) -> None:
    """A row in each table that has none."""
    with database.write() as connection:
        found = MetaData()
        found.reflect(connection)
        for table in found.sorted_tables:
            if connection.execute(select(table)).first() is None:
                connection.execute(table.insert().values({one.name: made_up(connection, one) for one in table.columns}))


def made_up(connection: Connection, column: Column[Any]) -> object:
    """Something that this column can hold."""
    for key in column.foreign_keys:
        return connection.execute(select(func.min(key.column))).scalar()
    kind = column.type.python_type
    return {str: "x", bytes: b"x", bool: True}.get(kind, kind(1) if kind in (int, float) else None)


def everything(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables."""
    with database.read() as connection:
        found = MetaData()
        found.reflect(connection)
        return {
            name: [dict(row) for row in connection.execute(select(table).order_by(*table.columns)).mappings()]
            for name, table in found.tables.items()
        }
