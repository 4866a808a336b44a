"""What all groups of commands share: the session, the current directories, output, questions, progress.

Law: a command prints its answer with `show` and raises what goes wrong; it neither ends the program nor catches
errors to print them.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from goggles.client.api import Progress, Summary
from goggles.client.session import Session
from goggles.client.shell import render
from goggles.client.shell.words import WILD, Word, resolve, safe
from goggles.contracts.records import FileInfo
from goggles.errors import BadRequest, Cancelled, GogglesError, NotFound
from goggles.paths import ROOT, DfsPath, join, show

PATIENCE = 1.0  # seconds before a progress bar appears


class Failures(GogglesError):
    """Some of what was asked for failed; each was said already."""

    code = "failures"


class Base:
    """State of one shell."""

    def __init__(self, session: Session, local: Path, *, interactive: bool, as_json: bool) -> None:
        self.session = session
        self.cwd: DfsPath = ROOT
        self.previous: DfsPath = ROOT
        self.local = local
        self.interactive = interactive
        self.always_json = as_json
        self.line_json = False  # this line asks for JSON
        self.cancel = threading.Event()
        self.out = render.console()
        self.err = render.console(stderr=True)
        self.leaving = False
        self.asking = False  # a question is open: Ctrl-C ends it at once

    # --- paths -----------------------------------------------------------------------------

    def path(self, word: str) -> DfsPath:
        """A path of the tree, as typed."""
        return resolve(self.cwd, word)

    def paths(self, words: Sequence[str], *, none_is_fine: bool = False) -> list[DfsPath]:
        """Paths of the tree, wildcards expanded; NotFound where one matches nothing, unless `none_is_fine`."""
        found: list[DfsPath] = []
        for word in words:
            pattern = word.pattern if isinstance(word, Word) else ""
            places = self._expand(pattern) if pattern else [self.path(word)]
            if not places and not none_is_fine:
                raise NotFound(f"nothing matches {safe(pattern)}", "quote a name that has * ? or [ in it")
            found += places
        return found

    def _expand(self, pattern: str) -> list[DfsPath]:
        places = [ROOT if pattern.startswith("/") else self.cwd]
        for part in [part for part in pattern.split("/") if part]:
            if any(char in part for char in WILD):
                places = [join(place, name) for place in places for name in self._matching(place, part)]
            else:
                places = [resolve(place, part) for place in places]
        there = self.session.isdir if pattern.endswith("/") else self.session.exists
        return [place for place in places if there(place)]

    def _matching(self, place: DfsPath, part: str) -> list[str]:
        if not self.session.isdir(place):
            return []
        names = self.session.listdir(place)
        return [n for n in names if fnmatch.fnmatchcase(n, part) and (part[0] == "." or n[0] != ".")]

    def local_path(self, word: str) -> Path:
        """A path of this machine, as typed."""
        path = Path(os.path.expanduser(word) if _at_home(word) else word)
        return path if path.is_absolute() else self.local / path

    def local_paths(self, words: Sequence[str]) -> list[Path]:
        """Paths of this machine, wildcards expanded; NotFound where one matches nothing."""
        found: list[Path] = []
        for word in words:
            pattern = word.pattern if isinstance(word, Word) else ""
            if not pattern:
                found.append(self.local_path(word))
                continue
            matches = sorted(glob.glob(os.path.expanduser(pattern) if _at_home(word) else pattern, root_dir=self.local))
            if not matches:
                raise NotFound(f"no local file matches {safe(pattern)}", "quote a name that has * ? or [ in it")
            found += [self.local / match for match in matches]
        return found

    def target(self, word: str, name: str) -> DfsPath:
        """Where something called `name` goes: into `word` if that is a directory, else to `word` itself."""
        path = self.path(word)
        return join(path, name) if word.endswith("/") or self.session.isdir(path) else path

    # --- output ----------------------------------------------------------------------------

    def show(self, options: Any, data: Any, text: Any) -> None:
        """Print `data` as JSON where that is wanted, else `text` (a string or something of rich)."""
        if self.always_json or options.json:
            sys.stdout.write(render.as_json(data) + "\n")
        elif text != "":
            self.out.print(render.lines(text) if isinstance(text, str) else text)

    def note(self, text: str) -> None:
        """Something said beside the answer."""
        if not (self.always_json or self.line_json):
            self.out.print(render.lines(text))

    def complain(self, error: GogglesError) -> None:
        """One error, on standard error."""
        if self.always_json or self.line_json:
            sys.stderr.write(render.as_json({"code": error.code, "message": error.message, "hint": error.hint}) + "\n")
            return
        self.err.print(f"{safe(error.message)}" + (f" ({safe(error.hint)})" if error.hint else ""), style="red")

    def each(self, items: Sequence[Any], action: Callable[[Any], None]) -> None:
        """`action` for each; what fails is said, the others go on, and the command has failed in the end."""
        failed = 0
        for item in items:
            try:
                action(item)
            except Cancelled:
                raise
            except GogglesError as error:
                if len(items) == 1:
                    raise
                failed += 1
                self.complain(error)
        if failed:
            raise Failures(f"{failed} of {len(items)} failed")

    def summarize(self, options: Any, summary: Summary, verb: str) -> None:
        """The end of a transfer of a whole directory."""
        for path, message in summary.failed:
            self.complain(GogglesError(f"{path if path.isprintable() else show(path)}: {message}"))
        rate = render.size(int(summary.bytes / max(summary.seconds, 1e-3)))
        text = f"{verb} {render.counted(summary.files, 'file')}, {render.size(summary.bytes)}, {rate}/s"
        text += f"; {summary.same} of them were there already" if summary.same else ""
        data = {"files": summary.files, "directories": summary.directories, "bytes": summary.bytes}
        failed = [{"path": path, "message": message} for path, message in summary.failed]
        self.show(options, {**data, "same": summary.same, "seconds": summary.seconds, "failed": failed}, text)
        if summary.failed:
            raise Failures(f"{len(summary.failed)} failed")

    def ask(self, question: str, otherwise: str) -> bool:
        """A question to the person; where there is none, BadRequest names the option that answers it."""
        if not self.interactive:
            raise BadRequest(question, otherwise)
        self.asking = True
        try:
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            self.out.print()
            return False
        finally:
            self.asking = False

    def progress(self) -> Bar:
        return Bar()

    def need_file(self, path: DfsPath) -> FileInfo:
        entry = self.session.stat(path)
        if not isinstance(entry, FileInfo):
            raise BadRequest(f"{path} is a directory", "this takes files")
        return entry


def _at_home(word: str) -> bool:
    """Whether a local path begins at somebody's home."""
    return word.home if isinstance(word, Word) else word.startswith("~")


class _Rate(ProgressColumn):
    """Bytes a second, in the units of the rest."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("?" if speed is None else f"{render.size(int(speed))}/s", style="progress.data.speed")


class Bar:
    """A progress bar with rate and time left, once something takes more than a second; only on a terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown: RichProgress | None = None
        self._task: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown.stop()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._began < PATIENCE or not sys.stderr.isatty():
            return
        with self._lock:
            shown = self._shown or self._start()
        name = safe(progress.path.rpartition("/")[2])[:24]
        if progress.files_total > 1:
            name = f"{progress.files_done}/{progress.files_total} files"
        shown.update(self._task, completed=progress.done, total=progress.total, description=name)

    def _start(self) -> RichProgress:
        columns = (DownloadColumn(binary_units=True), _Rate(), TimeRemainingColumn())
        console = render.console(stderr=True)
        bar = RichProgress(TextColumn("{task.description}", markup=False), BarColumn(None), *columns, console=console)
        self._task = bar.add_task("", total=None)
        bar.start()
        self._shown = bar
        return bar
