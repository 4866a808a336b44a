from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goggles.errors import BadPath
from goggles.paths import MAX_NAME, MAX_PATH, ROOT, is_inside, join, parse, parts, show, split

CHARACTERS = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/")
NAMES = st.text(CHARACTERS, min_size=1, max_size=20).filter(lambda name: name not in (".", "..", ".goggles"))
quick = settings(max_examples=50, deadline=None)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("//a///b", "/a/b"),
        ("/ä ß/日本", "/ä ß/日本"),
        ("/...", "/..."),
        ("/a b", "/a b"),
    ],
)
def test_a_path_has_one_spelling(text, meant):
    assert parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/b",
        "/..",
        "/.",
        "/a/../b",
        "/a/./b",
        "/a\0",
        "/a\nb",
        "/\x7f",
        "/\x85",
        "/\ud800",
        "/.goggles",
        "/.goggles/x",
    ],
)
def test_what_breaks_a_rule_is_refused(text):
    with pytest.raises(BadPath):
        parse(text)


@pytest.mark.parametrize("value", [None, 1, b"/a", ["/a"], ("/a",)])
def test_only_text_can_be_a_path(value):
    with pytest.raises(BadPath, match="must be text"):
        parse(value)


def test_the_reserved_name_is_reserved_only_at_the_top():
    assert parse("/a/.goggles") == "/a/.goggles"


def test_lengths_are_counted_in_bytes():
    assert parse("/" + "ä" * 127) and parse("/" + "a" * MAX_NAME)
    for name in ("ä" * 128, "a" * (MAX_NAME + 1)):
        with pytest.raises(BadPath, match="255 bytes"):
            parse("/" + name)


def test_a_whole_path_has_a_limit_too():
    longest = "/" + "/".join(["a" * 255] * 15 + ["a" * 255])
    assert len(longest) == MAX_PATH and parse(longest)
    with pytest.raises(BadPath, match="4096 bytes"):
        parse(longest + "a")
    with pytest.raises(BadPath, match="4096 bytes"):
        parse("/" + "a" * 10_000_000)


def test_an_error_shows_a_hostile_name_harmlessly():
    with pytest.raises(BadPath) as caught:
        parse("/\x1b[2Jx\n")
    assert caught.value.message.isprintable()


@quick
@given(st.lists(NAMES, max_size=5))
def test_parts_and_join_are_each_others_inverse(names):
    path = ROOT
    for name in names:
        path = join(path, name)
    assert parts(path) == names
    assert parse(path) == path


@quick
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_split_takes_the_last_name_off(names):
    parent, name = split(parse("/" + "/".join(names)))
    assert join(parent, name) == parse("/" + "/".join(names))
    assert is_inside(join(parent, name), parent) and not is_inside(parent, join(parent, name))


def test_the_root_has_no_name_and_holds_everything():
    assert split(ROOT) == (ROOT, "") and parts(ROOT) == []
    assert is_inside(parse("/a"), ROOT) and is_inside(ROOT, ROOT)


def test_a_neighbour_with_a_longer_name_is_not_inside():
    assert not is_inside(parse("/ab/c"), parse("/a"))


@quick
@given(st.text(alphabet=st.characters(), max_size=30))
def test_shown_text_never_holds_control_characters(text):
    assert not any(ord(char) < 32 or char == "\x7f" or 0xD800 <= ord(char) < 0xE000 for char in show(text))


@quick
@given(st.text(max_size=300))
def test_whatever_parses_keeps_the_law(text):
    try:
        path = parse(text)
    except BadPath:
        return
    assert path.startswith("/") and path.encode() and "\0" not in path
    assert all(name not in ("", ".", "..") and len(name.encode()) <= MAX_NAME for name in parts(path))
