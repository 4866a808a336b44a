"""No path from the wire leads out of the root, and every name that the tree allows works."""

import contextlib
import os
import shutil
import threading

import pytest

from goggles.contracts import orders
from goggles.errors import GogglesError

V = "a" * 32
HOSTILE = [
    "../out",
    "/../out",
    "/a/../../out",
    "/./a",
    "relative",
    "",
    "/nul\0",
    "/line\nfeed",
    "/bad\udce9",
    "/" + "n" * 256,
    "/.goggles/site.json",
    "//.goggles/staging/x",
    "/" + "/".join(["d" * 200] * 30),
    7,
    None,
]
ODD = [
    " two  spaces ",
    "-rf",
    "a" * 255,
    "ü" * 127,
    "\U0001f600.txt",
    ".hidden",
    "~",
    "*?[x]",
    "'\"",
    "con:1",
    "a.part",
]


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: repr(path)[:30])
def test_a_hostile_path_is_refused_by_every_order_and_changes_nothing(box, path):
    upload = box.stage(b"bytes")
    before = sorted(str(p) for p in box.root.parent.rglob("*"))
    for order in (
        orders.mkdir(path),
        orders.rmdir(path),
        orders.remove_tree(path),
        orders.move("/a", path),
        orders.move(path, "/a"),
        orders.move_file("/a", path, V),
        orders.publish(upload, path, upload, 1),
        orders.stamp(path, V, 1, "0" * 64),
        orders.remove(path, V),
        orders.quarantine(path, V),
    ):
        result = box.do(order)
        assert result[0] == "error" or result == ("ok",)
        if order[0] in ("mkdir", "rmdir", "remove_tree", "publish", "stamp", "remove", "quarantine"):
            assert result[0] == "error", order
    with pytest.raises(GogglesError):
        box.read(path)
    assert sorted(str(p) for p in box.root.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_a_name_like_any_other(box, name):
    version = box.put(f"/{name}/{name}", b"odd")
    assert box.read(f"/{name}/{name}", version) == b"odd"
    assert [held.path for held in box.walk("file")] == [f"/{name}/{name}"]
    assert box.do(orders.move(f"/{name}", "/plain")) == ("ok",)
    assert box.do(orders.remove(f"/plain/{name}", version)) == ("ok",)
    assert box.disk() == {"/plain": None}


def test_a_path_of_4096_bytes_works(box):
    path = "/" + "/".join(["d" * 255] * 15 + ["e" * 255])
    assert len(path) == 4096
    version = box.put(path, b"deep")
    assert box.read(path, version) == b"deep"
    assert [held.path for held in box.walk("file")] == [path]


@pytest.mark.parametrize("upload", ["", "x" * 32, "A" * 32, "a" * 31, "a" * 33, "../" + "a" * 29, "a" * 32 + "\n"])
def test_an_upload_id_that_is_none_is_refused(box, upload):
    with pytest.raises(GogglesError):
        box.vault.stage(upload, 1)
    for order in (orders.discard(upload), orders.quarantine_staged(upload), orders.publish(upload, "/a", V, 1)):
        assert box.do(order)[0] == "error"


def plant(box, where):
    """A symlink to a folder outside: in the middle of /way/in/file, or as its end."""
    outside = box.root.parent / "outside"
    (outside / "in").mkdir(parents=True)
    (outside / "in/file").write_bytes(b"secret")
    (box.root / "way").mkdir()
    if where == "middle":
        (box.root / "way/in").symlink_to(outside / "in")
    else:
        (box.root / "way/in").mkdir()
        (box.root / "way/in/file").symlink_to(outside / "in/file")
    return outside


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_planted_symlink_is_never_followed(box, where):
    outside = plant(box, where)
    with pytest.raises(GogglesError):
        box.read("/way/in/file")
    upload = box.stage(b"mine")
    for order in (
        orders.publish(upload, "/way/in/file", upload, 1),
        orders.stamp("/way/in/file", V, 1, box.sha(b"secret")),
        orders.remove("/way/in/file", V),
        orders.quarantine("/way/in/file", ""),
        orders.move_file("/way/in/file", "/stolen", V),
        orders.remove_tree("/way/in"),
        orders.move("/way/in", "/stolen"),
    ):
        box.do(order)
    assert {p.name: p.read_bytes() for p in (outside / "in").iterdir()} == {"file": b"secret"}
    assert box.walk("file") == [] or b"secret" not in {box.read(held.path) for held in box.walk("file")}


def test_a_symlink_is_not_told_by_the_inventory(box):
    plant(box, "middle")
    os.mkfifo(box.root / "fifo")
    (box.root / "broken").symlink_to("nowhere")
    assert [(held.kind, held.path) for held in box.walk()] == [("directory", "/way")]


def test_a_directory_that_is_swapped_for_a_symlink_meanwhile_lets_nothing_out(box):
    outside = box.root.parent / "outside"
    outside.mkdir()
    stop, swaps = threading.Event(), []

    def swap():
        while not stop.is_set():
            shutil.rmtree(box.root / "d", ignore_errors=True)
            with contextlib.suppress(FileExistsError):
                (box.root / "d").symlink_to(outside)
                swaps.append(1)
            with contextlib.suppress(OSError):
                os.unlink(box.root / "d")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(30):
            upload = box.stage(b"mine")
            box.do(orders.publish(upload, "/d/file", upload, 1))
            box.do(orders.mkdir("/d/below"))
            box.do(orders.discard(upload))
    finally:
        stop.set()
        thread.join()
    assert swaps
    assert list(outside.iterdir()) == []


def test_foreign_things_are_counted_and_left_alone(box):
    (box.root / "line\nfeed").write_bytes(b"foreign")
    with open(os.fsencode(box.root) + b"/\xff", "wb") as file:
        file.write(b"foreign")
    os.mkfifo(box.root / "fifo")
    assert box.walk() == []
    assert box.vault.counted.foreign == 3
    assert len(os.listdir(box.root)) == 4
