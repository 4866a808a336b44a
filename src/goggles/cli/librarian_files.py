"""The commands of `librarian` about files.

Law: see `librarian_grammar`.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from goggles.cli.librarian_commands import MOST, SINCE, UNTIL, grid, times
from goggles.cli.librarian_grammar import Reply, command, option, switch
from goggles.client.librarian.admin import AdminClient
from goggles.client.shell import render
from goggles.client.shell.base import Bar
from goggles.client.shell.words import safe

PATH = option("path", metavar="PATH", help="The name of the file in the librarian.")


@command(
    "upload",
    "Upload a file, or a folder with all that is in it.  What is there already is never replaced.",
    "upload my-site raw.dat /2026/07/raw.dat",
    option("local", metavar="LOCAL", help="The local file or folder."),
    option("dest", metavar="DEST", help="Its name in the librarian."),
    option("--deletion", choices=("allowed", "disallowed"), default="disallowed", help="Whether it may be deleted."),
    switch("--null-obsid", help="Taken for habit: no file here needs an observation."),
    option("--meta", choices=("infer",), default="infer", help="Taken for habit."),
)
def upload(client: AdminClient, options: Namespace) -> Reply:
    with Bar() as bar:
        done = client.upload(Path(options.local), options.dest, options.deletion, options.null_obsid, progress=bar)
    there = f"; {done.already_there} were there already" if done.already_there else ""
    return Reply(done, f"{safe(done.path)}: {done.files} files uploaded, {render.size(done.bytes)}{there}")


@command(
    "search-files",
    "Search for files.",
    "search-files my-site --name=/2026/07/raw.dat",
    option("-n", "--name", help="Of this path or name; * ? [ ] stand for any characters."),
    SINCE,
    UNTIL,
    option("-u", "--uploader", help="Uploaded by this user."),
    option("-s", "--source", help="That came from this librarian."),
    MOST,
)
def search_files(client: AdminClient, options: Namespace) -> Reply:
    found = client.search_files(
        options.name, times(options), options.uploader, options.source, max_results=options.max_results
    )
    if not found:
        return Reply([], "", 1, "no file fits")
    rows = [{**file, "here": _here(file), "elsewhere": _elsewhere(file)} for file in found]
    columns = {"path": "name", "size": "_size", "created": "created", "uploader": "uploader", "source": "source"}
    return Reply(found, grid(rows, **columns, here="copies here", elsewhere="copies elsewhere"))


def _here(file: dict[str, Any]) -> list[str]:
    gone = {False: " (unavailable)"}
    return [f"{copy['storage']}{gone.get(copy['available'], '')}" for copy in file["instances"]]


def _elsewhere(file: dict[str, Any]) -> list[str]:
    return [f"{copy['librarian']}:{copy['store']}" for copy in file["remote_instances"]]


@command(
    "validate-file",
    "Have every copy of a file read again, here and at the librarians that hold it.",
    "validate-file my-site /2026/07/raw.dat",
    option("file", metavar="FILE", help="The name of the file in the librarian."),
)
def validate_file(client: AdminClient, options: Namespace) -> Reply:
    copies = client.validate_file(options.file)
    bad = [copy for copy in copies if not copy.computed_same_checksum]
    columns = {"librarian": "librarian", "store": "store", "computed_same_checksum": "good", "current_size": "_size"}
    why = f"{len(bad)} of {len(copies)} copies are not good" if bad else "" if copies else "there is no copy to be read"
    return Reply(copies, grid(copies, **columns, current_checksum="sha256", error="error"), 1 if why else 0, why)


@command(
    "evict",
    "Remove the copies of a file here, once other librarians have said that theirs are right.",
    "evict my-site /2026/07/raw.dat --copies=2",
    PATH,
    option(
        "--copies",
        type=int,
        default=1,
        metavar="N",
        help="So many good copies must be elsewhere (default: %(default)s).",
    ),
)
def evict(client: AdminClient, options: Namespace) -> Reply:
    done = client.evict(options.path, options.copies)
    return Reply(done, f"{safe(done.path)}: {done.copies} copies here were let go; other librarians hold it")


@command("recall", "Fetch a file whose copies are elsewhere.", "recall my-site /2026/07/raw.dat", PATH)
def recall(client: AdminClient, options: Namespace) -> Reply:
    done = client.recall(options.path)
    return Reply(done, f"{safe(done.path)}: librarian {safe(done.librarian)} sends it")


@command(
    "backup",
    "Dump the database of this librarian, also while it runs, and upload the dump.",
    "backup my-site --database=goggles.db --upload=/backups",
    option("--database", required=True, help="File name or URL, as the nameserver on this host has it."),
    option("--upload", metavar="DEST", default="/backups", help="Directory of the librarian for it (/backups)."),
)
def backup(client: AdminClient, options: Namespace) -> Reply:
    from goggles.cli.backup import dump_into  # needs the libraries of the database

    with tempfile.TemporaryDirectory(prefix="goggles-") as folder:
        dump = dump_into(options.database, Path(folder))
        done = client.upload(dump, f"{options.upload.rstrip('/')}/{dump.name}", "disallowed", True)
    return Reply(done, f"{safe(done.path)}: {render.size(done.bytes)}")
