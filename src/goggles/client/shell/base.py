"""What all groups of commands share: the session, the current directories, wildcards, questions.

Law: a command gives its answer to `answers` and raises what goes wrong; it neither ends the program nor catches
errors to print them.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from goggles.client.api import Files, Summary
from goggles.client.shell import render
from goggles.client.shell.answers import Answers
from goggles.client.shell.progress import Bar
from goggles.client.shell.words import WILD, Word, resolve, safe
from goggles.errors import Cancelled, GogglesError, NotFound
from goggles.paths import ROOT, DfsPath, join

T = TypeVar("T")
QUOTE_IT = "quote a name that has * ? or [ in it"


class Failures(GogglesError):
    """Some of what was asked for failed; each was said already."""

    code = "failures"


class Base:
    """State of one shell."""

    def __init__(self, session: Files, local: Path, *, interactive: bool, as_json: bool) -> None:
        self.session = session
        self.cwd: DfsPath = ROOT
        self.previous: DfsPath = ROOT
        self.local = Path(local).absolute()
        self.interactive = interactive
        self.answers = Answers(as_json)
        self.cancel = threading.Event()
        self.asking = False
        self.leaving = False

    # --- paths of the tree -----------------------------------------------------------------

    def path(self, word: str) -> DfsPath:
        """A path of the tree, as typed."""
        return resolve(self.cwd, word)

    def paths(self, words: Sequence[str]) -> list[DfsPath]:
        """Paths of the tree, wildcards expanded; NotFound where one matches nothing."""
        found: list[DfsPath] = []
        for word in words:
            pattern = word.pattern if isinstance(word, Word) else ""
            found += self._expand(pattern) if pattern else [self.path(word)]
        return found

    def _expand(self, pattern: str) -> list[DfsPath]:
        places, wild = [ROOT if pattern.startswith("/") else self.cwd], False
        for part in [part for part in pattern.split("/") if part]:
            if any(char in part for char in WILD):
                places, wild = [join(place, name) for place in places for name in self._matching(place, part)], True
            else:
                places = [resolve(place, part) for place in places]
                places = [place for place in places if not wild or self.session.exists(place)]
        if pattern.endswith("/"):
            places = [place for place in places if self.session.isdir(place)]
        if not places:
            raise NotFound(f"nothing matches {safe(pattern)}", QUOTE_IT)
        return places

    def _matching(self, place: DfsPath, part: str) -> list[str]:
        if not self.session.isdir(place):
            return []
        names = self.session.listdir(place)
        return [n for n in names if fnmatch.fnmatchcase(n, part) and (part[0] == "." or n[0] != ".")]

    def target(self, word: str, name: str) -> DfsPath:
        """Where something called `name` goes: into `word` if that is a directory, else to `word` itself."""
        path = self.path(word)
        return join(path, name) if word.endswith("/") or self.session.isdir(path) else path

    # --- paths of this host ----------------------------------------------------------------

    def local_path(self, word: str) -> Path:
        """A path of this host, as typed; a bare ~ is home."""
        tilde = isinstance(word, Word) and word.tilde
        return self.local / (os.path.expanduser(word) if tilde else word)

    def local_paths(self, words: Sequence[str]) -> list[Path]:
        """Paths of this host, wildcards expanded; NotFound where one matches nothing."""
        found: list[Path] = []
        for word in words:
            pattern = word.pattern if isinstance(word, Word) else ""
            found += self._glob(word, pattern) if pattern else [self.local_path(word)]
        return found

    def _glob(self, word: str, pattern: str) -> list[Path]:
        if isinstance(word, Word) and word.tilde:
            pattern = os.path.expanduser(pattern)
        matches = sorted(glob.glob(pattern, root_dir=self.local))
        if not matches:
            raise NotFound(f"no local file matches {safe(pattern)}", QUOTE_IT)
        return [self.local / match for match in matches]

    # --- doing -----------------------------------------------------------------------------

    def each(self, items: Sequence[T], action: Callable[[T], None]) -> None:
        """`action` for each; what fails is said, the others go on, and the command has failed in the end."""
        failed = 0
        for item in items:
            self.check_cancelled()
            try:
                action(item)
            except Cancelled:
                raise
            except GogglesError as error:
                if len(items) == 1:
                    raise
                failed += 1
                if not isinstance(error, Failures):
                    self.answers.complain(error)
        if failed:
            raise Failures(f"{failed} of {len(items)} failed")

    def check_cancelled(self) -> None:
        """Raise Cancelled where the person has pressed Ctrl-C."""
        if self.cancel.is_set():
            raise Cancelled("cancelled")

    def summarize(self, summary: Summary, verb: str) -> None:
        """The end of a transfer of a whole directory."""
        for path, message in summary.failed:
            self.answers.complain(GogglesError(f"{path}: {message}"))
        rate = render.size(int(summary.bytes / max(summary.seconds, 1e-3)))
        text = f"{verb} {render.plural(summary.files, 'file')}, {render.size(summary.bytes)}, {rate}/s"
        data = {"files": summary.files, "directories": summary.directories, "bytes": summary.bytes}
        failed = [{"path": path, "message": message} for path, message in summary.failed]
        self.answers.item({**data, "seconds": summary.seconds, "failed": failed}, text)
        if summary.failed:
            raise Failures(f"{len(summary.failed)} failed")

    def ask(self, question: str, otherwise: GogglesError) -> bool:
        """A question to the person; where there is none, `otherwise` is raised."""
        if not self.interactive:
            raise otherwise
        self.answers.err.print(f"{question} [y/N]", end=" ", soft_wrap=True)
        self.asking = True
        try:
            return sys.stdin.readline().strip().lower() in ("y", "yes")
        finally:
            self.asking = False

    def progress(self) -> Bar:
        return Bar()
