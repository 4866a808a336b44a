"""A line as words: quotes, escapes, and which wildcards were meant as such.

Law: quotes and escapes are those of shlex; what is quoted or escaped is literal, a wildcard or a leading `~` counts
only where it stands bare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from goggles.errors import BadRequest
from goggles.paths import DfsPath, check_name, show

WILD = "*?["
BLANK = " \t\r\n"
_SPECIAL = re.compile(r"([\s\\'\"*?\[\]#!;&|<>$()~])")


class Word(str):
    """A word of a line.  `pattern` is what it matches where it has bare wildcards, else ''; `tilde`: a bare ~ first."""

    pattern: str = ""
    tilde: bool = False


@dataclass(slots=True)
class Piece:
    """A word as it stands in the line: where it starts, its text so far, and the quote that is still open."""

    start: int
    text: str = ""
    pattern: str = ""
    wild: bool = False
    tilde: bool = False
    open_quote: str = ""
    escaping: bool = False

    def word(self) -> Word:
        made = Word(self.text)
        made.pattern = self.pattern if self.wild else ""
        made.tilde = self.tilde
        return made

    def take(self, char: str) -> None:
        """The next character of this word."""
        if self.escaping:
            self.escaping = False
            if self.open_quote and char not in (self.open_quote, "\\"):
                self._add("\\", literal=True)
            self._add(char, literal=True)
        elif char == "\\" and self.open_quote != "'":
            self.escaping = True
        elif char == self.open_quote:
            self.open_quote = ""
        elif char in "'\"" and not self.open_quote:
            self.open_quote = char
        else:
            self._add(char, literal=bool(self.open_quote))

    def _add(self, char: str, literal: bool) -> None:
        if char in WILD and literal:
            self.pattern += f"[{char}]"
        else:
            self.pattern += char
            self.wild = self.wild or char in WILD
        if char == "~" and not literal and not self.text:
            self.tilde = True
        self.text += char


def split(line: str) -> list[Word]:
    """The words of a line; BadRequest where a quote is not closed or nothing follows a backslash."""
    pieces = scan(line)
    if pieces and pieces[-1].open_quote:
        raise BadRequest(f"the quote {pieces[-1].open_quote} is not closed")
    if pieces and pieces[-1].escaping:
        raise BadRequest("nothing follows the last \\", "write \\\\ for a backslash")
    return [piece.word() for piece in pieces]


def scan(line: str) -> list[Piece]:
    """The pieces of a line that may still be being typed."""
    pieces: list[Piece] = []
    piece: Piece | None = None
    for place, char in enumerate(line):
        if char in BLANK and (piece is None or not (piece.open_quote or piece.escaping)):
            piece = None
            continue
        if piece is None:
            piece = Piece(place)
            pieces.append(piece)
        piece.take(char)
    return pieces


def escape(text: str) -> str:
    """`text` as one word of a line."""
    return _SPECIAL.sub(r"\\\1", text)


def quoted(text: str, quote: str) -> str:
    """`text` as one word of a line, within quotes of this kind, the last not written."""
    if quote == "'":
        return "'" + text.replace("'", "'\\''")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"')


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
