"""A line as words: quotes, escapes, and which wildcards were meant as such.

Law: what is quoted or escaped is literal; a wildcard counts only where it stands bare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from goggles.errors import BadRequest
from goggles.paths import DfsPath, check_name, show

WILD = "*?["
_SPECIAL = re.compile(r"([\s\\'\"*?\[\]#!;&|<>$()])")


class Word(str):
    """A word of a line.  `pattern` is what it matches where it has bare wildcards, else ''; `home`: it begins with
    a bare ~; `bare`: nothing in it was quoted or escaped."""

    pattern: str = ""
    home: bool = False
    bare: bool = True


@dataclass(slots=True)
class Piece:
    """A word as it stands in the line: where it starts, its text so far, and the quote that is still open."""

    start: int
    text: str
    pattern: str
    wild: bool
    open_quote: str
    home: bool = False
    bare: bool = True

    def word(self) -> Word:
        made = Word(self.text)
        made.pattern = self.pattern if self.wild else ""
        made.home, made.bare = self.home, self.bare
        return made


def split(line: str) -> list[Word]:
    """The words of a line; BadRequest where a quote is not closed."""
    pieces = scan(line)
    if pieces and pieces[-1].open_quote:
        raise BadRequest(f"the quote {pieces[-1].open_quote} is not closed")
    return [piece.word() for piece in pieces]


def scan(line: str) -> list[Piece]:
    """The pieces of a line that may still be being typed."""
    pieces: list[Piece] = []
    piece: Piece | None = None
    place = 0
    while place < len(line):
        char = line[place]
        if piece is None and char.isspace():
            place += 1
            continue
        if piece is None:
            piece = Piece(place, "", "", False, "", home=char == "~")
            pieces.append(piece)
        if char.isspace() and not piece.open_quote:
            piece = None
        elif char == piece.open_quote:
            piece.open_quote = ""
        elif char in "'\"" and not piece.open_quote:
            piece.open_quote, piece.bare = char, False
        elif char == "\\" and _escapes(piece.open_quote, line[place + 1 : place + 2]):
            place += 1
            piece.bare = False
            _add(piece, line[place], literal=True)
        else:
            _add(piece, char, literal=bool(piece.open_quote))
        place += 1
    return pieces


def _escapes(quote: str, following: str) -> bool:
    """Whether a backslash takes the meaning from what follows it; within double quotes only from these two."""
    return bool(following) and (not quote or (quote == '"' and following in '"\\'))


def _add(piece: Piece, char: str, literal: bool) -> None:
    piece.text += char
    if char in WILD and literal:
        piece.pattern += f"[{char}]"
    else:
        piece.pattern += char
        piece.wild = piece.wild or char in WILD


def escape(text: str) -> str:
    """`text` as one word of a line."""
    return _SPECIAL.sub(r"\\\1", text) or "''"


def resolve(cwd: DfsPath, text: str) -> DfsPath:
    """`text` as typed, against the current directory: `.` and `..` are understood here, and only here."""
    parts = [] if text.startswith("/") else [part for part in cwd.split("/") if part]
    for part in text.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(check_name(part))
    return DfsPath("/" + "/".join(parts))


def safe(text: str) -> str:
    """`text` for a terminal: nothing in it can move the cursor or change colours."""
    return text if text.isprintable() else show(text)[1:-1]
