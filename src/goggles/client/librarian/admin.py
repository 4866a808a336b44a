"""AdminClient: what an administrator asks of a librarian.

    client = AdminClient(host="https://librarian.example", port=21106, user="admin", password="...")
    client.create_user("source_librarian", "...", AuthLevel.READAPPEND)

Law: as that of LibrarianClient.  What must not be done twice is asked once: where its answer is lost, that is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goggles.authlevel import AuthLevel
from goggles.client.librarian.answers import Answer, answers
from goggles.client.librarian.client import MOST, LibrarianClient, Window, local_error, path_of, window
from goggles.client.librarian.manifests import Ingest
from goggles.errors import BadRequest, LocalFileError
from goggles.roles import Level

LONG = 600.0  # seconds for what the librarian has to ask others for, or what changes many rows
TASK = 24 * 3600.0  # a task ends by its own soft time-out


class AdminClient(LibrarianClient):
    """See the head of this module."""

    # --- accounts --------------------------------------------------------------------------

    def create_user(self, username: str, password: str, auth_level: AuthLevel | Level | int | str) -> None:
        self.line.change("create_user", username, password, level_of(auth_level))

    def update_user(
        self, username: str, password: str | None = None, auth_level: AuthLevel | Level | int | str | None = None
    ) -> None:
        """Another password, another level, or both."""
        level = "" if auth_level is None else level_of(auth_level)
        self.line.change("update_user", username, password or "", level)
        if password and username == self.line.user:
            self.line.new_password(password)

    def delete_user(self, username: str) -> None:
        self.line.change("delete_user", username)

    def get_user(self, username: str) -> Answer:
        """Its `username` and its `auth_level`."""
        return Answer(username=username, auth_level=AuthLevel[self.line.ask("get_user", username)])

    def get_user_list(self) -> list[Answer]:
        """Each account: its `username`, and the name of its `auth_level`."""
        return [Answer(username=name, auth_level=level) for name, level in self.line.ask("accounts")]

    # --- librarians ------------------------------------------------------------------------

    def get_librarian_list(self, ping: bool = False) -> list[Answer]:
        """The librarians known there; with `ping` also whether each answers it now, and if not, why."""
        return answers(self.line.ask("get_librarian_list", ping, timeout=LONG))

    def add_librarian(
        self,
        name: str,
        url: str = "",
        port: int = 0,
        authenticator: str = "",
        check_connection: bool = True,
        certificate_name: str = "",
        managers: Sequence[str] = (),
        *,
        host: str = "",
    ) -> None:
        """Make a librarian known there.  `url` or `host`: where it is; `authenticator`: user:password of the account
        that it has given; `managers`: transfer managers, best first."""
        if not (url or host):
            raise local_error(BadRequest("a librarian is added with a url, or a host"))
        check = {"check_connection": check_connection}
        names = {"certificate_name": certificate_name, "managers": tuple(managers)}
        self.line.change("add_librarian", name, url or host, int(port), authenticator, timeout=LONG, **check, **names)

    def remove_librarian(self, name: str, remove_outgoing_transfers: bool = False) -> int:
        """Forget a librarian; how many outgoing transfers went with it."""
        return int(self.line.change("remove_librarian", name, remove_outgoing_transfers, timeout=LONG))

    def set_librarian_status(self, name: str, transfers_enabled: bool) -> None:
        """Whether files are pushed to a librarian."""
        self.line.ask("set_librarian_transfer", name, transfers_enabled)

    # --- stores ----------------------------------------------------------------------------

    def get_store_list(self) -> list[Answer]:
        return answers(self.line.ask("get_store_list"))

    def set_store_state(self, store_name: str, enabled: bool) -> None:
        """Whether new files go to a store."""
        self.line.ask("set_store_state", store_name, enabled)

    def get_store_manifest(
        self,
        store_name: str,
        destination_librarian: str = "",
        disable_store: bool = False,
        mark_local_instances_as_unavailable: bool = False,
    ) -> dict[str, Any]:
        """All that a store holds, to be read by `ingest_manifest` where its drives go.  With a destination, transfers
        to that librarian are written down there, which its answer to the manifest will complete."""
        made: dict[str, Any] = {}
        entries: list[dict[str, Any]] = []
        after = 0
        while after >= 0:
            flags = (disable_store, mark_local_instances_as_unavailable, after)
            head, page, after = self.line.ask(
                "get_store_manifest", store_name, destination_librarian, *flags, timeout=LONG
            )
            made |= dict(head)
            entries += [dict(entry) for entry in page]
        return {**made, "store_files": entries}

    def ingest_manifest(self, manifest: Mapping[str, Any] | str | Path, store_root: str | Path) -> Answer:
        """Take the files of a manifest (what get_store_manifest gave, or a file with it) from the folder `store_root`.

        What is here already is left; a file that is wrong does not stop the others.  Raises LibrarianPartialError
        where some could not be taken."""
        content = manifest if isinstance(manifest, Mapping) else load_manifest(Path(manifest))
        with self.line.told("ingest_manifest"):
            return Ingest(self.session, self.line, content, Path(store_root)).run()

    # --- files -----------------------------------------------------------------------------

    def evict(self, path: str | Path, copies: int = 1) -> Answer:
        """Remove all copies here, once `copies` other librarians have said that theirs are right."""
        return Answer(self.line.ask("evict", path_of(path), int(copies), timeout=LONG))

    def recall(self, path: str | Path) -> Answer:
        """Fetch a file whose copies are elsewhere."""
        return Answer(self.line.ask("recall", path_of(path), timeout=LONG))

    # --- errors and tasks ------------------------------------------------------------------

    def search_errors(
        self,
        id: int | None = None,  # noqa: A002 - as scripts know it
        category: str | None = None,
        severity: str | None = None,
        create_time_window: Window | None = None,
        include_resolved: bool = False,
        max_results: int = MOST,
    ) -> list[Answer]:
        """What went wrong there and all of this fits, newest first."""
        start, end = window(create_time_window)
        query = {"id": id, "category": category, "severity": severity, "create_time_start": start}
        query |= {"create_time_end": end, "include_resolved": include_resolved, "max_results": max_results}
        return answers(self.line.ask("search_errors", tuple(query.items())))

    def clear_error(self, error_id: int) -> None:
        self.line.change("clear_error", int(error_id))

    def get_tasks(self) -> list[Answer]:
        """The background tasks, and how each did."""
        return answers(self.line.ask("get_tasks"))

    def get_transfers(self) -> list[Answer]:
        """What waits for other librarians or is on its way there, and how far each batch is."""
        return answers(self.line.ask("get_transfers"))

    def run_task(self, name: str) -> int:
        """Run a background task now; how much it did."""
        return int(self.line.change("run_task", name, timeout=TASK))


def level_of(level: AuthLevel | Level | int | str) -> str:
    """The name of a level, given in any way."""
    try:
        if isinstance(level, str):
            return AuthLevel[level.upper()].name
        return AuthLevel(level.value if isinstance(level, AuthLevel) else int(level)).name
    except (KeyError, ValueError):
        known = " ".join(AuthLevel.__members__)
        raise local_error(BadRequest(f"{str(level)[:40]!r} is not a level", f"levels: {known}")) from None


def load_manifest(file: Path) -> Mapping[str, Any]:
    """A manifest from a file."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise local_error(LocalFileError(f"the manifest {file} can not be read: {error.strerror}")) from error
    except (ValueError, RecursionError) as error:
        raise local_error(BadRequest(f"the manifest {file} is not JSON: {error}")) from error
    if not isinstance(content, dict):
        raise local_error(BadRequest(f"{file} is no manifest", "get-store-manifest makes one"))
    return content
