"""Commands for those who run a librarian: tasks."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rich.table import Table
from rich.text import Text

from goggles.client.shell import render
from goggles.client.shell.base import Base
from goggles.client.shell.grammar import RUN, TASK, Argument, takes
from goggles.client.shell.words import safe
from goggles.errors import BadRequest

HEADINGS = [("task", "left"), ("kind", "left"), ("every", "right"), ("last run", "left"), ("took", "right")]
HEADINGS += [("result", "left"), ("did", "right"), ("next", "left"), ("message", "path")]


class Operating(Base):
    """What a librarian does by itself."""

    @takes(Argument("action", RUN, "?"), Argument("name", TASK, "?"))
    def do_tasks(self, options: Namespace) -> None:
        """List the librarian's background tasks; tasks run NAME runs one of them, or all of a kind, now."""
        if options.action is None:
            tasks = self.session.tasks()
            self.show(options, tasks, _table(tasks) if tasks else "no task is in the schedule")
            return
        if options.action != RUN or not options.name:
            raise BadRequest("tasks takes nothing, or: run NAME", "see: help tasks")
        count = self.session.run_task(options.name)
        self.show(options, {"name": options.name, "count": count}, f"{safe(options.name)}: {count} done")


def _table(tasks: list[dict[str, Any]]) -> Table:
    made = render.table(HEADINGS)
    for task in tasks:
        took = f"{task['ended'] - task['began']:.1f} s" if task["ended"] >= task["began"] > 0 else "-"
        when, due = render.when(task["began"]), render.when(task["next"])
        cells = [task["kind"], _span(task["every"]), when, took, task["result"] or "never", str(task["count"]), due]
        made.add_row(Text(safe(task["name"])), *cells, Text(safe(task["message"])))
    return made


def _span(seconds: float) -> str:
    """H:MM:SS; - where a task has no time of its own here."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if seconds else "-"
