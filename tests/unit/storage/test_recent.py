"""A set that forgets the oldest."""

from goggles.storage.recent import Recent


def test_the_last_so_many_are_known_and_none_before():
    known = Recent(3)
    known.add(["a", "b"])
    known.add(["b", "c"])
    assert all(name in known for name in "abc")
    known.add(["d"])
    assert [name for name in "abcd" if name in known] == ["b", "c", "d"]
    known.add("efghij")
    assert [name for name in "abcdefghij" if name in known] == ["h", "i", "j"]


def test_what_was_forgotten_may_come_again():
    known = Recent(2)
    known.add("abca")
    assert [name for name in "abc" if name in known] == ["a", "c"]
