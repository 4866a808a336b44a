"""Two librarians made known to each other in one step.

Law: either both know each other in the end, with passwords that nobody has seen, or what was done is undone as far as
the two can be reached, and the error says what went wrong.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goggles.authlevel import AuthLevel
from goggles.client.librarian.admin import AdminClient
from goggles.errors import Conflict, GogglesError


@dataclass(frozen=True, slots=True)
class End:
    """One of the two: how we speak to it, and where the other one finds it."""

    client: AdminClient
    url: str
    port: int
    certificate_name: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """The names of the two librarians."""

    source: str
    destination: str


def connect(source: End, destination: End, *, both_ways: bool = False) -> Link:
    """An account for each on the other, then each made known to the other, which tries the connection.

    The source may add files to the destination; with `both_ways`, each to the other.  Raises Conflict where both have
    the same name, LibrarianHTTPError where one refuses (an account or a librarian of that name is there already)."""
    names = Link(str(source.client.ping().name), str(destination.client.ping().name))
    if names.source == names.destination:
        raise Conflict(f"both librarians are called {names.source}", "a site has its name from --site_name")
    back = AuthLevel.READAPPEND if both_ways else AuthLevel.CALLBACK
    with contextlib.ExitStack() as undo:
        to_destination = _account(undo, destination.client, names.source, AuthLevel.READAPPEND)
        to_source = _account(undo, source.client, names.destination, back)
        _known(undo, source.client, names.destination, destination, to_destination)
        _known(undo, destination.client, names.source, source, to_source)
        undo.pop_all()
    return names


def _account(undo: contextlib.ExitStack, client: AdminClient, name: str, level: AuthLevel) -> str:
    """An account for the librarian `name`; as an authenticator."""
    password = secrets.token_urlsafe(32)
    client.create_user(name, password, level)
    undo.callback(_quietly, client.delete_user, name)
    return f"{name}:{password}"


def _known(undo: contextlib.ExitStack, client: AdminClient, name: str, end: End, authenticator: str) -> None:
    client.add_librarian(name, end.url, end.port, authenticator, certificate_name=end.certificate_name)
    undo.callback(_quietly, client.remove_librarian, name)


def _quietly(undo: Callable[[str], Any], name: str) -> None:
    """The error that led here is the one that is told."""
    with contextlib.suppress(GogglesError):
        undo(name)
