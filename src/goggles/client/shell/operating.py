"""Commands for those who run a librarian: tasks, transfers, validate, evict, recall."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from goggles.client.shell import render
from goggles.client.shell.base import Base, Failures
from goggles.client.shell.grammar import REMOTE, RUN, TASK, Argument, flag, takes
from goggles.client.shell.words import safe
from goggles.errors import BadRequest

HEADINGS = [("task", "left"), ("kind", "left"), ("every", "right"), ("last run", "left"), ("took", "right")]
HEADINGS += [("result", "left"), ("did", "right"), ("next", "left"), ("message", "path")]

FLIGHTS = [("librarian", "left"), ("state", "left"), ("manager", "left"), ("files", "right"), ("size", "right")]
FLIGHTS += [("rate", "right"), ("since", "left"), ("task", "left"), ("trouble", "path")]


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

    @takes()
    def do_transfers(self, options: Namespace) -> None:
        """List what waits for other librarians or is on its way there, and how far it is."""
        flights = self.session.transfers()
        self.show(options, flights, under_way(flights) if flights else "nothing is on its way to another librarian")

    @takes(Argument("path", REMOTE, "+"))
    def do_validate(self, options: Namespace) -> None:
        """Have every copy of a file read, here and at other librarians, and compare."""
        bad = 0
        for path in self.paths(options.path):
            found = self.session.validate(path)
            bad += sum(not one["computed_same_checksum"] for one in found)
            self.show(options, {"path": path, "copies": found}, _verdicts(found) if found else "no copy is known")
        if bad:
            raise Failures(f"{bad} copies are bad, or could not be read")

    @takes(flag("--copies", help="copies that must be elsewhere (1)", value="N"), Argument("path", REMOTE, "+"))
    def do_evict(self, options: Namespace) -> None:
        """Let the copies of files here go, if enough at other librarians are found good; they stay in the tree."""
        copies = "1" if options.copies is None else options.copies
        if not copies.isdecimal():
            raise BadRequest(f"{safe(copies)} is not a number of copies", "evict --copies 2 /path")

        def one(path: str) -> None:
            count = self.session.evict(path, int(copies))
            self.show(options, {"path": path, "copies": count}, f"{safe(path)}: {count} copies let go")

        self.each(self.paths(options.path), one)

    @takes(Argument("path", REMOTE, "+"))
    def do_recall(self, options: Namespace) -> None:
        """Have files that were let go here pushed back by a librarian that holds them."""

        def one(path: str) -> None:
            sender = self.session.recall(path)
            self.show(options, {"path": path, "librarian": sender}, f"{safe(path)}: librarian {safe(sender)} sends it")

        self.each(self.paths(options.path), one)


def under_way(flights: Sequence[Mapping[str, Any]]) -> Table:
    """Batches, and how far each is."""
    made = render.table(FLIGHTS)
    for one in flights:
        files = f"{one['files_done']} of {one['files']}"
        sizes = f"{render.size(one['size_done'])} of {render.size(one['size'])}"
        rate = f"{render.size(int(one['rate']))}/s" if one["rate"] else "-"
        went = [one["manager"] or "-", files, sizes, rate, render.when(one["since"])]
        made.add_row(
            Text(safe(one["peer"])), one["state"], *went, Text(safe(one["task"] or "-")), Text(safe(one["trouble"]))
        )
    return made


def _verdicts(found: list[dict[str, Any]]) -> Table:
    made = render.table([("librarian", "left"), ("storage", "left"), ("copy", "left"), ("sha256 now", "path")])
    for one in found:
        verdict = "good" if one["computed_same_checksum"] else safe(one["error"] or "BAD")
        cells = Text(safe(one["librarian"])), Text(safe(one["store"]) or "-"), Text(verdict)
        made.add_row(*cells, Text(safe(one["current_checksum"]) or "-"))
    return made


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
