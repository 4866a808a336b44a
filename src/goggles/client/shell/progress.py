"""A progress bar with rate and time left.

Law: it appears on a terminal only, on standard error, and only for what takes more than a second.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from goggles.client.api import Progress
from goggles.client.shell import render
from goggles.client.shell.words import safe

PATIENCE = 1.0  # seconds before a progress bar appears
NAME = 20  # columns for the name
WIDE = 72  # columns below which the amount is left out


class Bar:
    """Call it with each Progress; threads may do so."""

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
        shown.update(self._task, completed=progress.done, total=progress.total, description=_name(progress))

    def _start(self) -> RichProgress:
        console = render.console(stderr=True)
        amount = [DownloadColumn(binary_units=True)] if console.width >= WIDE else []
        columns = (*amount, TransferSpeedColumn(), TimeRemainingColumn())
        bar = RichProgress(TextColumn("{task.description}", markup=False), BarColumn(None), *columns, console=console)
        self._task = bar.add_task("", total=None)
        bar.start()
        self._shown = bar
        return bar


def _name(progress: Progress) -> str:
    if progress.files_total > 1:
        return f"{progress.files_done}/{progress.files_total} files"
    name = safe(progress.path.rpartition("/")[2])
    return name if len(name) <= NAME else name[: NAME - 1] + "…"
