"""The quarantine as it is listed and read: why, what was where, and no way out of it."""

from __future__ import annotations

import os

import pytest

from goggles.contracts import orders
from goggles.errors import BadPath, GogglesError, NotFound


def listed(box):
    return [(kept.path, kept.size, kept.why) for kept in box.vault.quarantine.listing("", 100)]


def test_it_says_what_was_where_since_when_and_why(box):
    version = box.put("/a/file", b"good")
    (box.root / "a/file").write_bytes(b"BAD!")
    assert box.vault.check("/a/file", version).startswith("bad ")
    box.do(orders.quarantine("/a/file", version))
    unknown = box.put("/b", b"x")
    box.do(orders.quarantine("/b", unknown))
    staged = box.stage(b"yy")
    box.do(orders.quarantine_staged(staged))
    assert sorted(listed(box)) == [
        ("/a/file", 4, "its bytes have changed since they were written"),
        ("/b", 1, "the tree does not have it, or not with these bytes"),
        (f"/staged-{staged}", 2, "it was staged, and nobody waited for it"),
    ]
    assert {kept.when for kept in box.vault.quarantine.listing("", 100)} == {box.clock.now()}


def test_a_page_goes_on_after_an_entry_and_each_can_be_read(box):
    for number in range(5):
        box.do(orders.quarantine(f"/f{number}", box.put(f"/f{number}", str(number).encode())))
    first = box.vault.quarantine.listing("", 3)
    second = box.vault.quarantine.listing(first[-1].entry, 3)
    assert [kept.path for kept in first + second] == [f"/f{number}" for number in range(5)]
    for kept in first + second:
        with box.vault.quarantine.open(kept.entry) as file:
            assert file.read() == kept.path[-1].encode()


def test_two_that_were_at_the_same_path_are_two_entries(box):
    for data in (b"1", b"22"):
        box.do(orders.quarantine("/same", box.put("/same", data)))
    kept = box.vault.quarantine.listing("", 10)
    assert [one.path for one in kept] == ["/same", "/same"]
    assert len({one.entry for one in kept}) == 2


def test_what_has_no_label_is_listed_all_the_same(box):
    box.do(orders.quarantine("/a/b", box.put("/a/b", b"x")))
    (found,) = (box.root / ".goggles/quarantine").glob("*/a/b")
    for raw in (b"", b"[]", b"\xff"):
        os.setxattr(found, "user.goggles.kept", raw)
        assert listed(box) == [("/a/b", 1, "")]
    os.removexattr(found, "user.goggles.kept")
    assert listed(box) == [("/a/b", 1, "")]


@pytest.mark.parametrize(
    "entry",
    ["", "ages.json", "../site.json", "2026-11-21/../../site.json", "/", "going.x/file", "2026-11-21/"],
)
def test_nothing_else_can_be_read_through_it(box, entry):
    folder = box.root / ".goggles/quarantine"
    (folder / "ages.json").write_text("{}")
    (folder / "going.x").mkdir()
    (folder / "going.x/file").write_text("x")
    (folder / "2026-11-21").mkdir(exist_ok=True)
    (folder / "link").symlink_to(box.root / ".goggles")
    (folder / "2026-11-21/link").symlink_to(box.root / ".goggles/site.json")
    with pytest.raises((BadPath, NotFound)):
        box.vault.quarantine.open(entry)
    for link in ("2026-11-21/link", "link/site.json"):
        with pytest.raises(GogglesError):
            box.vault.quarantine.open(link)
    assert listed(box) == []
