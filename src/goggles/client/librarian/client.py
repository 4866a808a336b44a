"""LibrarianClient: one user's view of a librarian, under the names that scripts for librarians know.

    client = LibrarianClient(host="https://librarian.example", port=21106, user="ann", password="...")
    client.upload(Path("raw.dat"), "/2026/raw.dat")

Law: every error is a LibrarianError.  A lost connection is made and logged in again, for up to `timeout` seconds.
Names are paths of the tree; one without a slash before it starts at the root.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from goggles.client.api import OnProgress
from goggles.client.librarian.answers import Answer, FileAnswer, answers, file_answer, seconds
from goggles.client.librarian.connections import ClientInfo
from goggles.client.librarian.line import Line
from goggles.client.librarian.uploading import Uploads
from goggles.client.librarian.where import address_of, credentials
from goggles.client.session import Session
from goggles.errors import BadRequest, GogglesError
from goggles.exceptions import LibrarianError
from goggles.models.ping import PingResponse
from goggles.paths import parse
from goggles.pki.context import Contexts
from goggles.wire.dial import Dialer
from goggles.wire.links import Links

Window = Sequence[datetime.datetime | float | None]
POLICIES = ("disallowed", "allowed")
MOST = 64  # results, where nothing else is asked for
PAGE = 1_000


class LibrarianClient:
    """See the head of this module.  `host` may be a URL of any scheme; `certificate_name` is what the librarian's
    certificate is for, where that is not the host.  Certificates that are not given are found as vg finds them."""

    def __init__(
        self,
        host: str,
        port: int = 0,
        user: str = "",
        password: str = "",
        *,
        ca_cert: str | Path | None = None,
        certfile: str | Path | None = None,
        keyfile: str | Path | None = None,
        certificate_name: str = "",
        timeout: float = 30.0,
    ) -> None:
        try:
            if not user or not password:
                raise BadRequest("a librarian wants a user and a password", "create-user makes an account")
            address = address_of(host, port)
            dialer = Dialer(Contexts(credentials(ca_cert, certfile, keyfile, os.environ)))
        except GogglesError as error:
            raise local_error(error) from error
        self.line = Line(dialer, address, timeout, user, password, certificate_name)
        self.session = Session(dialer, address, timeout, self.line)
        self._links = Links(dialer)
        self.uploads = Uploads(self.session, self.line, self._links)
        self.line.open()

    @classmethod
    def from_info(cls, info: ClientInfo, timeout: float = 30.0) -> Self:
        """A client for a connection of ~/.hl_client.cfg (goggles.client.librarian.connections)."""
        return cls(
            info.host,
            info.port,
            info.user,
            info.password,
            ca_cert=info.ca_cert,
            certfile=info.certfile,
            keyfile=info.keyfile,
            certificate_name=info.certificate_name,
            timeout=timeout,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.line.user} at {self.line.address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.session.close()
        self._links.close()

    def ping(self, require_login: bool = False) -> PingResponse:
        """Who is there.  Whoever gets this far has logged in, whether `require_login` or not."""
        hello = dict(self.line.ask("hello"))
        told = f"verbose-goggles {hello['program']}, speaking to {hello['identity']} with level {hello['level']}"
        return PingResponse(name=hello["site"], description=told)

    def upload(
        self,
        local_path: str | Path,
        dest_path: str | Path,
        deletion_policy: str = "disallowed",
        null_obsid: bool = False,
        progress: OnProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """Write a local file, or a folder with all that is in it, to `dest_path`; what there is is never replaced.

        A folder that was interrupted can be uploaded again: what is there already, byte by byte the same, is left.
        Raises LibrarianPartialError where some files failed.  `null_obsid` is taken for habit."""
        policy = policy_of(deletion_policy)
        with self.line.told("upload"):
            return self.uploads.upload(Path(local_path), path_of(dest_path), policy == "allowed", progress, cancel)

    def search_files(
        self,
        name: str | Path | None = None,
        create_time_window: Window | None = None,
        uploader: str | None = None,
        source: str | None = None,
        max_results: int = MOST,
    ) -> list[FileAnswer]:
        """The files that all of this fits, each with its copies here and elsewhere.

        `name`: a path, a file's own name, or a pattern of either with * ? [ ]."""
        start, end = window(create_time_window)
        query = {"name": None if name is None else str(name), "create_time_start": start, "create_time_end": end}
        query |= {"uploader": uploader, "source": source}
        found: list[FileAnswer] = []
        after = 0
        while after >= 0 and len(found) < max_results:
            wanted = {**query, "max_results": min(PAGE, max_results - len(found)), "after": after}
            page, after = self.line.ask("search_files", tuple(wanted.items()))
            found += [file_answer(item) for item in page]
        return found[:max_results]

    def validate_file(self, file_name: str | Path, patience: float = 120.0) -> list[Answer]:
        """Have every copy read again, here and at the librarians that hold it; waits for up to `patience` seconds."""
        return answers(self.line.ask("validate_file", path_of(file_name), float(patience), timeout=patience + 30.0))

    def change_password(self, current_password: str, new_password: str) -> None:
        """Another password for the own account; this client goes on with it."""
        self.line.change("change_password", current_password, new_password)
        self.line.new_password(new_password)


def local_error(error: GogglesError) -> LibrarianError:
    """What went wrong before anybody was asked."""
    made = LibrarianError(error.message, error.hint)
    made.code, made.exit_code = error.code, error.exit_code
    return made


def path_of(name: str | Path) -> str:
    """A name as a path of the tree."""
    text = str(name)
    try:
        return parse(text if text.startswith("/") else f"/{text}")
    except GogglesError as error:
        raise local_error(error) from error


def policy_of(text: str) -> str:
    """allowed or disallowed, in any case; what carries such a name is taken too."""
    policy = str(getattr(text, "name", text)).lower()
    if policy not in POLICIES:
        raise local_error(BadRequest(f"{policy[:40]!r} is no deletion policy", "there are allowed and disallowed"))
    return policy


def window(given: Window | None) -> tuple[float | None, float | None]:
    """(start, end) in seconds."""
    if given is None:
        return None, None
    if len(given) != 2:
        raise local_error(BadRequest("a window of times is (start, end)"))
    return seconds(given[0]), seconds(given[1])
