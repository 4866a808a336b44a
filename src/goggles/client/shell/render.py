"""Answers as tables that fit the terminal, or as JSON.

Law: names from the tree are made safe before they are shown; nothing is cut in JSON.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from goggles.client.shell.words import safe
from goggles.contracts.records import DirInfo, Entry, FileInfo, SiteInfo, StorageInfo

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: int, exact: bool = False) -> str:
    """Bytes for people: 1.5 MiB."""
    if exact or count < 1024:
        return str(count) if exact else f"{count} B"
    value, unit = float(count), 0
    while round(value, 1) >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {UNITS[unit]}"


def counted(number: int, one: str, many: str = "") -> str:
    """1 file, 2 files; `many` where it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def when(seconds: float) -> str:
    """A time for people, UTC."""
    if not seconds:
        return "-"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def as_json(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False, default=str)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def lines(text: str) -> str:
    """Several lines, each made safe."""
    return "\n".join(map(safe, text.split("\n")))


class SafeTable(Table):
    """A table whose cells can do nothing to a terminal, whoever filled them."""

    def add_row(self, *cells: Any, **more: Any) -> None:
        super().add_row(*map(_cell, cells), **more)


def _cell(cell: Any) -> Any:
    if isinstance(cell, Text):
        return cell if cell.plain.isprintable() else Text(safe(cell.plain))
    return safe(cell) if isinstance(cell, str) else cell


def console(stderr: bool = False) -> Console:
    """A console that colours only terminals and cuts nothing elsewhere."""
    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() else 10_000
    # The terminal itself says how wide it is; COLUMNS in the environment may be that of another one.
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return Console(_environ=environ, file=stream, highlight=False, markup=False, width=wide, soft_wrap=False)


def table(headings: Sequence[tuple[str, str]]) -> Table:
    """An empty table; each heading with `left`, `right` or `path` (gives way first)."""
    made = SafeTable(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for text, how in headings:
        if how == "right":
            made.add_column(text, justify="right", no_wrap=True)
        else:
            made.add_column(text, overflow="fold", min_width=min(len(text), 6) if how == "path" else None)
    return made


def name_of(entry: Entry) -> str:
    return safe(entry.path.rpartition("/")[2] or "/")


def copies_of(entry: FileInfo) -> str:
    """Copies that count of copies wanted; offsite where none is here."""
    text = f"{entry.live}/{entry.copies}"
    if not entry.storages:
        return f"{text} {entry.held}"
    return text + (f" owed {entry.owed}" if entry.owed else "")


def places_of(entry: FileInfo) -> str:
    """Storages here, then librarians that hold it; in words where it is not here."""
    names = [*entry.storages, *sorted({f"librarian {safe(librarian)}" for librarian, _ in entry.elsewhere})]
    return ", ".join(names if entry.storages else [entry.held, *names])


def listing(entries: Sequence[Entry], long: bool, exact: bool, whole: bool = False) -> Table:
    """`ls`: type, name (`whole`: path), size, storages; with -l also copies, generation, times, uploader."""
    named = (lambda entry: safe(entry.path)) if whole else name_of
    more = [("copies", "left"), ("gen", "right"), ("modified", "left"), ("uploader", "left")] if long else []
    made = table([("type", "left"), ("size", "right"), *more, ("name", "path"), ("storages", "path")])
    for entry in entries:
        if isinstance(entry, DirInfo):
            cells = ["-", "-", when(entry.modified), "-"] if long else []
            made.add_row("dir", f"{entry.entries} in it", *cells, Text(named(entry) + "/"), "")
        else:
            cells = (
                [copies_of(entry), str(entry.generation), when(entry.modified), safe(entry.uploader)] if long else []
            )
            mark = "" if long or not entry.owed or not entry.storages else f" (owed {entry.owed})"
            row = Text(named(entry)), Text(places_of(entry) + mark)
            made.add_row("file", size(entry.size, exact), *cells, *row)
    return made


def storages(infos: Sequence[StorageInfo], exact: bool) -> Table:
    """`du`: node name, address, free, capacity, used, state."""
    headings = [("name", "left"), ("address", "path"), ("free", "right"), ("capacity", "right"), ("used", "right")]
    made = table([*headings, ("files", "right"), ("zone", "left"), ("state", "left")])
    for info in infos:
        sizes = [size(number, exact) for number in (info.free, info.capacity, info.used)]
        made.add_row(
            info.name, f"{info.addr[0]}:{info.addr[1]}", *sizes, str(info.files), safe(info.zone) or "-", info.state
        )
    return made


def nodes(infos: Sequence[StorageInfo]) -> Table:
    """`nodes`: what a storage is doing, and how far its scrub is."""
    headings = [("name", "left"), ("state", "left"), ("since", "left"), ("certificate until", "left")]
    more = [("read again since", "left"), ("read", "right"), ("bad", "right"), ("last round ended", "left")]
    made = table([*headings, *more])
    for info in infos:
        scrub = [when(info.scrub_began), size(info.scrub_size), str(info.scrub_bad), when(info.scrub_ended)]
        state = [info.state, when(info.since), when(info.certificate_expires)]
        made.add_row(info.name, *state, *(scrub if info.scrub_days else ["off", "-", "-", "-"]))
    return made


def site(info: SiteInfo, exact: bool) -> str:
    """The totals under `du`."""
    owed = f", {info.owed} of them owed copies" if info.owed else ""
    holds = f"{counted(info.files, 'file')}{owed}, {counted(info.directories, 'directory', 'directories')}"
    lines = [f"{holds}, {size(info.size, exact)} in site {safe(info.site)}"]
    lines += [f"WARNING: {safe(warning)}" for warning in info.warnings]
    return "\n".join(lines)


def details(entry: Entry) -> str:
    """`stat`: everything that is known."""
    pairs: list[tuple[str, object]] = [("path", safe(entry.path)), ("type", entry.type)]
    if isinstance(entry, FileInfo):
        pairs += [
            ("size", f"{entry.size} bytes ({size(entry.size)})"),
            ("sha256", entry.hash),
            ("generation", entry.generation),
            ("copies", f"{entry.live} of {entry.copies}" + (f", {entry.owed} owed" if entry.owed else "")),
            ("storages", ", ".join(entry.storages) or "none"),
            ("offsite", "yes" if entry.offsite else "no"),
            ("held", entry.held),
            ("elsewhere", ", ".join(f"{safe(peer)} (on {safe(store)})" for peer, store in entry.elsewhere) or "no"),
            *([("let go on", ", ".join(entry.unavailable))] if entry.unavailable else []),
            ("uploader", safe(entry.uploader)),
            ("source", safe(entry.source)),
        ]
    else:
        pairs += [
            ("entries", entry.entries),
            ("copies", entry.copies or ("as the site has it" if entry.path == "/" else "as in the directory above")),
        ]
    pairs += [("created", when(entry.created)), ("modified", when(entry.modified))]
    return "\n".join(f"{key:<11} {value}" for key, value in pairs)
