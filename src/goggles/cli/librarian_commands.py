"""The commands of `librarian` about librarians, stores, errors and tasks.

Law: see `librarian_grammar`.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import sys
import tempfile
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from goggles.cli.librarian_grammar import Reply, command, on_all, on_or_off, option, switch
from goggles.client.librarian.admin import AdminClient
from goggles.client.librarian.answers import moment
from goggles.client.librarian.connections import EXAMPLE, USUAL, Connections
from goggles.client.shell import render
from goggles.client.shell.operating import under_way
from goggles.client.shell.words import safe
from goggles.errors import BadRequest, Cancelled, GogglesError, LocalFileError, SettingsError


def _time(text: str) -> Any:
    try:
        return moment(text)
    except BadRequest as error:
        raise ArgumentTypeError(str(error)) from error


ASK = "-"
SECRET = "; - asks for it"  # noqa: S105 - a help text
NAME = option("--name", required=True, help="The name of the librarian.")
STORE = option("--store", required=True, help="The name of the store.")
MOST = option("--max-results", type=int, default=64, metavar="N", help="At most so many (default: %(default)s).")
SINCE = option(
    "--create-time-start", type=_time, metavar="TIME", help="Not before this time, as 2026-07-01T12:30 (UTC)."
)
UNTIL = option("--create-time-end", type=_time, metavar="TIME", help="Not after this time.")


def secret(given: str, what: str) -> str:
    """`given`, or what a person types unseen; where there is no person, a line of standard input."""
    if given != ASK:
        return given
    try:
        text = getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    except EOFError:
        raise Cancelled(f"no {what} was given") from None
    if not text:
        raise SettingsError(f"no {what} was given", "type it, or write it to standard input")
    return text


def grid(rows: Sequence[Any], **columns: str) -> Any:
    """A table of `rows`; for each column its heading, and with `_` at its start right-aligned."""
    made = render.table(
        [(title.lstrip("_"), "right" if title.startswith("_") else "path") for title in columns.values()]
    )
    for row in rows:
        made.add_row(*(Text(cell(key, row.get(key))) for key in columns))
    return made


def cell(key: str, value: Any) -> str:
    """A value for people."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return render.when(value)
    if isinstance(value, int) and (key.endswith(("size", "space", "capacity", "used"))):
        return render.size(value) if value >= 0 else "-"
    return ", ".join(map(safe, value)) if isinstance(value, list | tuple) else safe(str(value))


def which(options: Namespace) -> bool:
    """--enabled or --disabled: one of them."""
    if options.enabled == options.disabled:
        raise SettingsError("give one of --enabled and --disabled", f"librarian {options.command} --help tells more")
    return bool(options.enabled)


def times(options: Namespace) -> tuple[Any, Any] | None:
    start, end = options.create_time_start, options.create_time_end
    return (start, end) if start or end else None


# --- librarians ------------------------------------------------------------------------------


@command(
    "get-librarian-list",
    "Get a list of librarians known to the librarian.",
    "get-librarian-list my-site --ping",
    switch("--ping", help="Ping the librarians to check they are up."),
)
def get_librarian_list(client: AdminClient, options: Namespace) -> Reply:
    known = client.get_librarian_list(options.ping)
    pinged = {"available": "available", "why_not": "why not"} if options.ping else {}
    columns = {"name": "name", "url": "url", "port": "_port", "enabled": "enabled", "managers": "managers"}
    seen = {"last_seen": "answered us", "last_heard": "called us"}
    return Reply(known, grid(known, **columns, **seen, **pinged) if known else "no librarian is known there")


@command(
    "add-librarian",
    "Add a librarian to those that the librarian knows.",
    "add-librarian my-site --name=destination_librarian --url=https://destination.example --port=21106 "
    "--authenticator=source_librarian:PASSWORD",
    NAME,
    option("--url", required=True, help="Its URL, or its host name."),
    option("--port", type=int, default=0, help="Its port, where the URL has none."),
    option("--authenticator", required=True, help=f"USER:PASSWORD of the account on it{SECRET}, as does USER:-."),
    switch("--do-not-check-connection", help="Write it down also when it can not be reached now."),
    option(
        "--certificate-name", default="", help="The name in its certificate, where that is not its host (a tunnel)."
    ),
    option("--managers", default="", metavar="A,B", help="Transfer managers to use, best first."),
)
def add_librarian(client: AdminClient, options: Namespace) -> Reply:
    check = not options.do_not_check_connection
    client.add_librarian(
        name=options.name,
        url=options.url,
        port=options.port,
        authenticator=_authenticator(options.authenticator),
        check_connection=check,
        certificate_name=options.certificate_name,
        managers=tuple(name.strip() for name in options.managers.split(",") if name.strip()),
    )
    checked = "it answers, and lets us in" if check else "it was not asked"
    return Reply({"name": options.name, "checked": check}, f"librarian {options.name} added: {checked}")


def _authenticator(given: str) -> str:
    user, colon, password = given.partition(":")
    if colon and password == ASK:
        return f"{user}:{secret(ASK, f'password of {user}')}"
    return secret(given, "authenticator")


@command(
    "remove-librarian",
    "Remove a librarian from those that the librarian knows.",
    "remove-librarian my-site --name=destination_librarian",
    NAME,
    switch("--remove-outgoing-transfers", help="Also where transfers are under way: they go with it."),
)
def remove_librarian(client: AdminClient, options: Namespace) -> Reply:
    count = client.remove_librarian(options.name, options.remove_outgoing_transfers)
    data = {"name": options.name, "number_of_transfers_removed": count}
    return Reply(data, f"librarian {options.name} removed, with {count} outgoing transfers")


@command(
    "set-librarian-transfer",
    "Set the transfer state of a librarian.",
    "set-librarian-transfer my-site --name=destination_librarian --disabled",
    NAME,
    *on_or_off("librarian", "transfers"),
)
def set_librarian_transfer(client: AdminClient, options: Namespace) -> Reply:
    on = which(options)
    client.set_librarian_status(options.name, on)
    return Reply(
        {"name": options.name, "enabled": on}, f"transfers to {options.name} are {'enabled' if on else 'disabled'}"
    )


@on_all("check-connections", "Try all connections of ~/.hl_client.cfg.", "check-connections")
def check_connections(connections: Connections, _: Namespace) -> Reply:
    rows = [_checked(name, connections) for name in sorted({*connections.known, *connections.wrong})]
    bad = [row["connection"] for row in rows if not row["available"]]
    columns = {"connection": "connection", "address": "address", "available": "available", "name": "librarian"}
    if not rows:
        return Reply([], "", 1, f"there are no connections (write them into ~/{USUAL[0]}: {EXAMPLE})")
    why = f"{len(bad)} of {len(rows)} connections can not be used" if bad else ""
    return Reply(rows, grid(rows, **columns, why_not="why not"), 1 if bad else 0, why)


def _checked(name: str, connections: Connections) -> dict[str, Any]:
    row: dict[str, Any] = {"connection": name, "address": ""}
    try:
        info = connections.need(name)
        row["address"] = f"{info.host}:{info.port}"
        with AdminClient.from_info(info, timeout=5.0) as client:
            return {**row, "available": True, "name": client.ping().name, "why_not": ""}
    except GogglesError as error:
        return {**row, "available": False, "name": "", "why_not": str(error)}


# --- stores ----------------------------------------------------------------------------------


@command("get-store-list", "Get a list of the stores of the librarian.", "get-store-list my-site")
def get_store_list(client: AdminClient, _: Namespace) -> Reply:
    stores = client.get_store_list()
    columns = {"name": "name", "store_type": "type", "state": "state", "free_space": "_free", "capacity": "_capacity"}
    more = {"used": "_used", "files": "_files", "ingestable": "ingestable", "available": "available"}
    return Reply(stores, grid(stores, **columns, **more, enabled="enabled") if stores else "there are no stores")


@command(
    "set-store-state",
    "Set whether new files go to a store.",
    "set-store-state my-site --store=alice --disabled",
    STORE,
    *on_or_off("store", "new files"),
)
def set_store_state(client: AdminClient, options: Namespace) -> Reply:
    on = which(options)
    client.set_store_state(options.store, on)
    return Reply({"store": options.store, "enabled": on}, f"store {options.store} is {'enabled' if on else 'disabled'}")


@command(
    "get-store-manifest",
    "Get the manifest of a store: all that it holds, for a librarian that its drives are carried to.",
    "get-store-manifest my-site --store=alice --destination-librarian=destination_librarian --output=alice.json",
    STORE,
    option("--destination-librarian", default="", metavar="L", help="Write down transfers to this librarian."),
    switch("--disable-store", help="No new files go to the store any more."),
    switch("--mark-instances-as-unavailable", help="The copies on the store do not count any more: it is going away."),
    option("--output", metavar="FILE", help="Where to write it; else to standard output."),
)
def get_store_manifest(client: AdminClient, options: Namespace) -> Reply:
    with _writing(options.output) as write:
        manifest = client.get_store_manifest(
            options.store, options.destination_librarian, options.disable_store, options.mark_instances_as_unavailable
        )
        text = json.dumps(manifest, indent=1)
        if write is None:
            return Reply(manifest, Text(text))
        write(text + "\n")
    count = len(manifest["store_files"])
    return Reply({"output": options.output, "files": count}, f"{count} files written to {options.output}")


@contextlib.contextmanager
def _writing(output: str | None) -> Any:
    """A function that writes the file `output`, whole or not at all; the place is tried before anybody is asked."""
    if output is None:
        yield None
        return
    target = Path(output)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as file:
            try:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise LocalFileError(f"{output} can not be written: {error.strerror}", "choose another --output") from error


@command(
    "ingest-manifest",
    "Take the files of a manifest from the drives that came with it.",
    "ingest-manifest my-site --manifest=alice.json --store-root=/mnt/drive",
    option("--manifest", required=True, metavar="FILE", help="What get-store-manifest wrote."),
    option("--store-root", required=True, metavar="DIR", help="The folder that the files lie below."),
)
def ingest_manifest(client: AdminClient, options: Namespace) -> Reply:
    done = client.ingest_manifest(options.manifest, options.store_root)
    shown = f"{done.files} files ingested, {render.size(done.bytes)}; {done.already_there} were here already"
    return Reply(done, shown, why="; ".join(done.remarks))


# --- errors and tasks ------------------------------------------------------------------------


@command(
    "search-errors",
    "Search for errors that the librarian wrote down.",
    "search-errors my-site --severity=critical",
    option("--id", type=int, help="The one with this number."),
    option("-c", "--category", help="Of this category."),
    option("-s", "--severity", help="Of this severity: critical, error, warning, info."),
    SINCE,
    UNTIL,
    switch("--include-resolved", help="Also those that were cleared."),
    MOST,
)
def search_errors(client: AdminClient, options: Namespace) -> Reply:
    found = client.search_errors(
        options.id,
        options.category,
        options.severity,
        times(options),
        options.include_resolved,
        options.max_results,
    )
    columns = {"id": "_id", "severity": "severity", "category": "category", "raised_time": "raised"}
    more = {"cleared_time": "cleared", "caller": "caller", "message": "message"}
    return Reply(found, grid(found, **columns, **more) if found else "there are no errors")


@command(
    "clear-error",
    "Mark an error as resolved.",
    "clear-error my-site 17",
    option("id", type=int, metavar="ID", help="Its number, as search-errors shows it."),
)
def clear_error(client: AdminClient, options: Namespace) -> Reply:
    client.clear_error(options.id)
    return Reply({"id": options.id}, f"error {options.id} cleared")


@command("tasks", "Show the background tasks of the librarian, and how each did the last time.", "tasks my-site")
def tasks(client: AdminClient, _: Namespace) -> Reply:
    known = client.get_tasks()
    columns = {"name": "name", "kind": "kind", "began": "began", "ended": "ended", "next": "next", "result": "result"}
    return Reply(known, grid(known, **columns, count="_did", message="message") if known else "there are no tasks")


@command("transfers", "Show what waits for other librarians or is on its way, and how far it is.", "transfers my-site")
def transfers(client: AdminClient, _: Namespace) -> Reply:
    known = client.get_transfers()
    return Reply(known, under_way(known) if known else "nothing is on its way to another librarian")


@command(
    "run-task",
    "Run a background task of the librarian now.",
    "run-task my-site send_clone",
    option("name", metavar="NAME", help="Its name or its kind, as `tasks` shows them; a kind runs all of that kind."),
)
def run_task(client: AdminClient, options: Namespace) -> Reply:
    count = client.run_task(options.name)
    ran = [task for task in client.get_tasks() if options.name in (task.name, task.kind)]
    said = [f"{safe(task.name)}: {safe(task.message)}" for task in ran if task.message]
    failed = any(task.result == "failed" for task in ran)
    told = {"name": options.name, "count": count, "remarks": said}
    return Reply(told, f"{safe(options.name)}: {count} done", 1 if failed else 0, "; ".join(said))
