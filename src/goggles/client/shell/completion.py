"""Completion of commands, options, paths of the tree, local paths and storages.

Law: it never disturbs: what goes wrong while completing is no more than no completion, and a page of names is enough.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from goggles.client.shell.grammar import (
    ACTIONS,
    COMMAND,
    ENTRY,
    LOCAL,
    PUT_AWAY,
    REMOTE,
    RUN,
    STORAGE,
    TASK,
    Grammar,
)
from goggles.client.shell.words import Piece, escape, resolve, safe, scan
from goggles.contracts.records import DirInfo
from goggles.errors import GogglesError

if TYPE_CHECKING:
    from goggles.client.shell.loop import Shell

PAGE = 200


class ShellCompleter(Completer):
    """Completes the line of one shell."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        try:
            yield from self._complete(document.text_before_cursor)
        except (GogglesError, OSError):
            return

    def _complete(self, line: str) -> Iterator[Completion]:
        pieces = scan(line)
        fresh = not pieces or (line[-1:].isspace() and not pieces[-1].open_quote and not line.endswith("\\ "))
        piece = Piece(len(line), "", "", False, "") if fresh else pieces.pop()
        if not pieces:
            yield from self._words(line, piece, self._shell.commands)
            return
        grammar = self._shell.commands.get(pieces[0].text)
        if grammar is None:
            return
        if piece.text.startswith("-"):
            yield from self._words(line, piece, [name for one in grammar.flags for name in one.names])
            return
        yield from self._argument(line, piece, self._kind(grammar, pieces[1:]), [each.text for each in pieces])

    def _kind(self, grammar: Grammar, before: list[Piece]) -> str:
        if before and before[-1].text == "-o":
            return LOCAL if grammar.name == "get" else REMOTE
        place = _positionals(grammar, before)
        if grammar.name == "quarantine" and place == 3:
            return LOCAL if before[0].text == "get" else REMOTE
        if grammar.name in ("put", "get") and place >= 1:
            return "both"
        return grammar.kind(place)

    def _argument(self, line: str, piece: Piece, kind: str, before: list[str]) -> Iterator[Completion]:
        if kind in (REMOTE, "both"):
            yield from self._remote(line, piece)
        if kind in (LOCAL, "both"):
            yield from self._local(line, piece)
        if kind == STORAGE:
            yield from self._words(line, piece, [info.name for info in self._shell.session.du()[1]])
        if kind == RUN:
            yield from self._words(line, piece, [RUN])
        if kind == TASK:
            yield from self._words(line, piece, [escape(task["name"]) for task in self._shell.session.tasks()])
        if kind == PUT_AWAY:
            yield from self._words(line, piece, ACTIONS)
        if kind == ENTRY:
            kept = itertools.islice(self._shell.session.quarantine(before[-1]), PAGE)
            yield from self._words(line, piece, [escape(one.entry) for one in kept])
        if kind == COMMAND:
            yield from self._words(line, piece, self._shell.commands)

    def _words(self, line: str, piece: Piece, words: Iterable[str]) -> Iterator[Completion]:
        for word in sorted(words):
            if word.startswith(piece.text):
                yield Completion(word + " ", piece.start - len(line), display=word)

    def _remote(self, line: str, piece: Piece) -> Iterator[Completion]:
        prefix = piece.text.rpartition("/")[2]
        typed = piece.text[: len(piece.text) - len(prefix)]
        directory = resolve(self._shell.cwd, typed or ".") if typed != "/" else resolve(self._shell.cwd, "/")
        entries = self._shell.session.scan(directory, prefix, PAGE)
        whole = directory.rstrip("/") + "/" + prefix
        if prefix and prefix not in (".", "..") and self._shell.session.exists(whole):
            entries.insert(0, self._shell.session.stat(whole))
        for entry in entries:
            name = entry.path.rpartition("/")[2]
            if name.startswith(prefix):
                yield self._made(line, piece, typed + name, isinstance(entry, DirInfo), name)

    def _local(self, line: str, piece: Piece) -> Iterator[Completion]:
        prefix = piece.text.rpartition("/")[2]
        typed = piece.text[: len(piece.text) - len(prefix)]
        folder = self._shell.local_path(typed or ".")
        found = 0
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(prefix) and (prefix or not entry.name.startswith(".")) and found < PAGE:
                    found += 1
                    yield self._made(line, piece, typed + entry.name, entry.is_dir(), entry.name)

    def _made(self, line: str, piece: Piece, text: str, is_dir: bool, name: str) -> Completion:
        end = "/" if is_dir else " "
        quote = line[piece.start : piece.start + 1]
        plain = quote not in text and not (quote == '"' and "\\" in text)
        if quote in ("'", '"') and piece.open_quote and plain:
            shown = quote + text + ("/" if is_dir else quote + " ")
        else:
            shown = escape(text) + end
        return Completion(shown, piece.start - len(line), display=safe(name) + ("/" if is_dir else ""))


def _positionals(grammar: Grammar, before: list[Piece]) -> int:
    """How many arguments stand there already, options and what belongs to them left out."""
    valued = {name for one in grammar.flags if one.value for name in one.names}
    count, takes_next = 0, False
    for piece in before:
        count += not takes_next and not piece.text.startswith("-")
        takes_next = piece.text in valued
    return count
