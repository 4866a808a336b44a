"""Words of a line: quotes, escapes, wildcards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goggles.client.shell.words import escape, resolve, safe, scan, split
from goggles.errors import BadPath, BadRequest
from goggles.paths import ROOT, DfsPath

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: not t.isspace())


@given(st.lists(names, max_size=4))
def test_what_was_escaped_comes_back_as_it_was(texts: list[str]) -> None:
    line = " ".join(escape(text) for text in texts)
    assert [str(word) for word in split(line)] == texts
    assert all(not word.pattern for word in split(line))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('put "my file" /x', ["put", "my file", "/x"]),
        ("it\\'s 'a \\ b' \"c'd\"", ["it's", "a \\ b", "c'd"]),
        ("''", [""]),
        ('"a\\b" "a\\\\b" "a\\"b"', ["a\\b", "a\\b", 'a"b']),
        ("", []),
    ],
)
def test_quotes_and_escapes(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ["'a", 'x "b'])
def test_an_open_quote_is_an_error(line: str) -> None:
    with pytest.raises(BadRequest, match="not closed"):
        split(line)


@pytest.mark.parametrize(
    ("line", "pattern"),
    [("*.txt", "*.txt"), ("'*'.txt", ""), ("\\*", ""), ("'[a]'*", "[[]a]*"), ("plain", "")],
)
def test_only_bare_wildcards_count(line: str, pattern: str) -> None:
    assert split(line)[0].pattern == pattern


@pytest.mark.parametrize(
    ("cwd", "text", "path"),
    [
        ("/a/b", "c", "/a/b/c"),
        ("/a/b", "..", "/a"),
        ("/", "../..", "/"),
        ("/a", "/x/./y/../z", "/x/z"),
        ("/a", "", "/a"),
    ],
)
def test_paths_are_resolved_against_the_current_directory(cwd: str, text: str, path: str) -> None:
    assert resolve(DfsPath(cwd), text) == path


@pytest.mark.parametrize("text", ["a\0b", "x\x1b[2J", "n" * 256, "\udcff"])
def test_names_that_can_not_be_are_refused(text: str) -> None:
    with pytest.raises(BadPath):
        resolve(ROOT, text)


@given(st.text())
def test_nothing_reaches_the_terminal_that_could_command_it(text: str) -> None:
    assert safe(text).isprintable()


def test_the_empty_word_can_be_written() -> None:
    assert split(escape("")) == [""]


@pytest.mark.parametrize(
    ("line", "start", "text", "open_quote"),
    [("ls /my\\ f", 3, "/my f", ""), ("ls 'a b", 3, "a b", "'"), ('  "x"y', 2, "xy", ""), ("a\\", 0, "a\\", "")],
)
def test_a_line_that_is_still_being_typed_has_pieces(line: str, start: int, text: str, open_quote: str) -> None:
    piece = scan(line)[-1]
    assert (piece.start, piece.text, piece.open_quote) == (start, text, open_quote)


@given(st.text())
def test_any_line_at_all_can_be_scanned(line: str) -> None:
    starts = [piece.start for piece in scan(line)]
    assert starts == sorted(set(starts))
