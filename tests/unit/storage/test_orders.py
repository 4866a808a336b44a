"""Each order does what its contract says, may come twice, and hits only the version that it names."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goggles.contracts import orders

OK = ("ok",)
V, W = "a" * 32, "b" * 32


def test_publish_makes_parents_and_replaces_the_older_version_whole(box):
    first = box.put("/a/b/file", b"old")
    with box.vault.read("/a/b/file", first) as reader:
        second = box.put("/a/b/file", b"newer", generation=2)
        assert reader.read() == b"old"
    assert box.read("/a/b/file", second) == b"newer"
    assert [(held.version, held.generation) for held in box.walk("file")] == [(second, 2)]
    assert box.vault.used == 5


def test_publish_of_what_is_published_is_done_and_of_what_is_nowhere_not_found(box):
    version = box.put("/a", b"x")
    assert box.do(orders.publish(version, "/a", version, 1)) == OK
    assert box.do(orders.publish(W, "/a", W, 1))[:2] == ("error", "not_found")
    assert box.read("/a", version) == b"x"


def test_a_second_copy_of_what_stands_at_its_place_goes_to_quarantine(box):
    version = box.put("/a", b"x")
    used, upload = box.vault.used, "c" * 32
    box.stage(b"x", upload)
    assert box.do(orders.publish(upload, "/a", version, 1)) == OK
    assert box.read("/a", version) == b"x"
    assert (box.quarantine(), box.vault.used) == ({b"x"}, used)


def test_an_order_without_a_version_publishes_too(box):
    upload = box.stage(b"x")
    assert box.do(orders.publish(upload, "/a", "", 1)) == OK
    assert (box.disk(), box.quarantine()) == ({"/a": b"x"}, set())


def kept(box):
    """All bytes that are anywhere: in the tree, put aside, or in quarantine."""
    aside = {path.read_bytes() for path in (box.root / ".goggles/staging").iterdir()}
    return set(filter(None, box.disk().values())) | box.quarantine() | aside


def test_publish_puts_aside_what_stands_in_the_way(box):
    """The order knows the tree: a directory there, or a file above, is what the storage has not heard the end of."""
    box.do(orders.mkdir("/empty"))
    box.put("/full/inside", b"1")
    box.put("/file", b"2")
    box.put("/empty", b"3")
    box.put("/full", b"4")
    box.put("/file/below", b"5")
    assert box.disk() == {"/empty": b"3", "/full": b"4", "/file": None, "/file/below": b"5"}
    assert kept(box) == {b"1", b"2", b"3", b"4", b"5"}


@pytest.mark.parametrize("order", [orders.remove("/a", W), orders.quarantine("/a", W), orders.move_file("/a", "/b", W)])
def test_an_order_for_another_version_is_stale_and_changes_nothing(box, order):
    box.put("/a", b"x")
    assert box.do(order)[:2] == ("error", "stale")
    assert box.disk() == {"/a": b"x"}


def test_quarantine_of_the_unknown_spares_a_known_version(box):
    box.put("/known", b"1")
    (box.root / "unknown").write_bytes(b"2")
    assert box.do(orders.quarantine("/known", ""))[:2] == ("error", "stale")
    assert box.do(orders.quarantine("/unknown", "")) == OK
    assert (box.disk(), box.quarantine()) == ({"/known": b"1"}, {b"2"})


@pytest.mark.parametrize(
    "order", [orders.remove("/a", V), orders.quarantine("/a", V), orders.rmdir("/a"), orders.remove_tree("/a")]
)
def test_to_take_away_what_is_not_there_is_done(box, order):
    assert box.do(order) == OK


def test_moving_a_file_that_is_not_held_here_is_done(box):
    """A rename is told to every storage, also to those without a copy."""
    assert box.do(orders.move_file("/a", "/b", V)) == OK


def test_one_bad_order_stops_no_other(box):
    results = box.vault.apply([orders.mkdir("/a"), ("nonsense",), ("mkdir",), ("mkdir", 3), (), orders.mkdir("/b")])
    assert [result[0] for result in results] == ["ok", "error", "error", "error", "error", "ok"]
    assert box.disk() == {"/a": None, "/b": None}


def test_move_merges_and_loses_nothing(box):
    box.put("/old/both", b"from")
    box.put("/old/deep/only", b"1")
    box.put("/new/both", b"to")
    box.put("/new/deep/other", b"2")
    assert box.do(orders.move("/old", "/new")) == OK
    assert box.disk() == {
        "/new": None,
        "/new/both": b"from",
        "/new/deep": None,
        "/new/deep/only": b"1",
        "/new/deep/other": b"2",
    }
    assert kept(box) == {b"from", b"to", b"1", b"2"}


def test_move_onto_a_file_loses_neither(box):
    box.put("/old/x", b"1")
    box.put("/new", b"2")
    box.do(orders.move("/old", "/new"))
    assert kept(box) == {b"1", b"2"}


def test_move_merges_a_directory_with_a_file_in_the_way_and_loses_neither(box):
    box.put("/old/x/file", b"1")
    box.put("/new/x", b"2")
    box.do(orders.move("/old", "/new"))
    assert kept(box) == {b"1", b"2"}


def test_files_that_changed_places_while_the_storage_was_away_are_both_kept(box):
    """The self-check tells two moves, each onto the other's place."""
    first, second = box.put("/a", b"1"), box.put("/b", b"2")
    box.do(orders.move_file("/a", "/b", first))
    box.do(orders.move_file("/b", "/a", second))
    held = {item.hash for item in box.walk() if item.hash}
    assert held | {box.sha(data) for data in box.quarantine()} == {box.sha(b"1"), box.sha(b"2")}


def test_publish_over_bytes_that_the_tree_never_knew_keeps_them(box):
    (box.root / "a").write_bytes(b"somebody's")
    box.put("/a", b"ours")
    assert box.read("/a") == b"ours"
    assert box.quarantine() == {b"somebody's"}


def test_remove_tree_is_gone_at_once_and_its_room_is_free_later(box):
    box.put("/a/b/c", b"12345")
    box.put("/d", b"6")
    assert box.do(orders.remove_tree("/a")) == OK
    assert box.disk() == {"/d": b"6"}
    box.settled()
    assert box.vault.used == 1
    assert list((box.root / ".goggles/trash").iterdir()) == []


def test_what_a_stop_left_in_the_trash_is_deleted_after_the_next_start(box):
    left = box.root / ".goggles/trash/0123"
    left.mkdir()
    (left / "file").write_bytes(b"x")
    box.reopen()
    box.settled()
    assert not left.exists()


def test_stamp_believes_the_bytes_not_the_order(box):
    (box.root / "a").write_bytes(b"x")
    assert box.do(orders.stamp("/a", V, 3, box.sha(b"other")))[0] == "error"
    assert box.do(orders.stamp("/a", V, 3, box.sha(b"x"))) == OK
    assert [(held.version, held.generation) for held in box.walk("file")] == [(V, 3)]


def test_rmdir_spares_what_is_in_a_directory(box):
    box.put("/a/file", b"x")
    box.do(orders.rmdir("/a"))
    assert box.disk() == {"/a": None, "/a/file": b"x"}


@pytest.mark.parametrize(
    "order", [orders.rmdir("/"), orders.remove_tree("/"), orders.move("/", "/a"), orders.move("/a", "/a/b")]
)
def test_the_root_and_a_directory_that_holds_itself_are_refused(box, order):
    box.put("/a/x", b"x")
    box.do(order)
    assert box.disk() == {"/a": None, "/a/x": b"x"}


def test_a_file_moved_onto_itself_stays_and_stays_counted(box):
    version = box.put("/a", b"x")
    assert box.do(orders.move_file("/a", "/a", version)) == OK
    assert (box.disk(), box.vault.used) == ({"/a": b"x"}, 1)


# --- at random, against what each order may take away ---------------------------------------

NAMES = ["/a", "/b", "/d", "/d/c"]
VERSIONS = [V, W, "c" * 32]
THERE = "there"  # stands for the version at the place that the order names
places, versions = st.sampled_from(NAMES), st.sampled_from([*VERSIONS, THERE, THERE, THERE, THERE])
files = st.one_of(st.integers(0, 2), st.integers(0, 2), places)  # a number: so many-th of the files that are there
FILES = [
    st.builds(lambda path, version: orders.publish(version, path, version, 1), places, st.sampled_from(VERSIONS)),
    st.builds(orders.move_file, files, places, versions),
    st.builds(orders.move_file, files, places, versions),
    st.builds(orders.remove, files, versions),
    st.builds(orders.quarantine, files, versions),
    st.builds(orders.discard, st.sampled_from(VERSIONS)),
]
DIRECTORIES = [st.builds(orders.mkdir, places), st.builds(orders.rmdir, places), st.builds(orders.move, places, places)]
KEEPING = st.lists(st.one_of(*FILES, *DIRECTORIES), min_size=4, max_size=14)
ORDERS = st.lists(st.one_of(*FILES, *DIRECTORIES, st.builds(orders.remove_tree, places)), min_size=4, max_size=14)


def contents(box):
    """Everything that is held anywhere, by its bytes (which are its version)."""
    staged = {held.path.encode() for held in box.walk("staged")}
    return staged | box.quarantine() | {data for data in box.disk().values() if data is not None}


def aimed(command, disk):
    """`command` with the file and the version that it stands for."""
    there = sorted(path for path, data in disk.items() if data is not None)
    path = command[1]
    if isinstance(path, int):
        path = there[path % len(there)] if there else "/a"
    version = (disk.get(path) or b"").decode()
    return (command[0], path, *[version if part == THERE else part for part in command[2:]])


def may_go(order, disk):
    """What the contract lets `order` take away from a disk that looks so."""
    kind = order[0]
    if kind in ("remove", "discard"):
        return {order[-1].encode()}
    if kind == "publish":
        return {disk.get(order[2])}
    return {data for path, data in disk.items() if path.startswith(order[1] + "/")} if kind == "remove_tree" else set()


@pytest.fixture
def new_box(tmp_path_factory, box_class):
    made = []

    def new():
        made.append(box_class(tmp_path_factory.mktemp("vault") / "root"))
        for version, path in zip(VERSIONS, ["/a", "/b", "/d/c"], strict=True):
            made[-1].stage(version.encode(), upload=version)
            if path != "/d/c":
                made[-1].do(orders.publish(version, path, version, 1))
        return made[-1]

    yield new
    for box in made:
        box.vault.close()


MODEL = settings(
    max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@MODEL
@given(commands=KEEPING)
def test_an_order_takes_away_only_what_it_names_or_replaces(new_box, commands):
    box = new_box()
    for command in commands:
        before, disk = contents(box), box.disk()
        order = aimed(command, disk)
        result = box.do(order)
        lost = before - contents(box)
        assert lost <= (may_go(order, disk) if result == OK else set()), (order, result)


@MODEL
@given(commands=ORDERS)
def test_used_is_what_is_there_after_every_order(new_box, commands):
    box = new_box()
    for command in commands:
        order = aimed(command, box.disk())
        if order[0] == "move_file" and order[1] == order[2]:
            continue  # has a test of its own
        box.do(order)
        box.settled()
        used = box.vault.used
        held = sum(len(data) for data in box.disk().values() if data is not None)
        assert used == held + 32 * len(box.walk("staged")), order


@MODEL
@given(commands=ORDERS)
def test_an_order_that_comes_twice_changes_nothing_more(new_box, commands):
    box = new_box()
    for command in commands:
        order = aimed(command, box.disk())
        if order[0] == "move_file" and order[1] == order[2]:
            continue  # has a test of its own
        box.do(order)
        box.settled()
        once = (box.disk(), contents(box), box.vault.used)
        box.do(order)
        box.settled()
        assert (box.disk(), contents(box), box.vault.used) == once, order


def test_a_walk_misses_nothing_that_is_put_aside_under_it(box):
    versions = {path: box.put(path, path.encode()) for path in ("/a", "/b")}
    walk = iter(box.vault.walk(1))
    (first,) = next(walk)
    other = "/b" if first.path == "/a" else "/a"
    new = box.stage(b"new")
    box.do(orders.publish(new, other, new, 2, ""))
    told = {first.version} | {held.version for batch in walk for held in batch}
    assert told == {*versions.values(), new}


def test_moves_that_cross_each_other_end_well(box):
    """Two files change places: the first has to make way before its own move comes."""
    first, second = box.put("/a", b"1"), box.put("/b", b"2")
    assert box.do(orders.move_file("/b", "/a", second)) == OK
    box.put("/b", b"3")
    assert box.do(orders.move_file("/a", "/c", first)) == OK
    assert box.disk() == {"/a": b"2", "/b": b"3", "/c": b"1"}


def test_what_is_gone_with_a_directory_that_is_a_file_now_is_gone(box):
    box.put("/a", b"x")
    assert box.do(orders.rmdir("/a/b")) == OK
    assert box.do(orders.remove_tree("/a/b")) == OK
    assert box.disk() == {"/a": b"x"}
