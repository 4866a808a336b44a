"""Calls to a librarian as a user, and its errors in the words of `goggles.exceptions`.

Law: every connection logs in before it is used.  What is safe to repeat is repeated over a new connection; a change is
sent once, and when its answer is lost that is said.  Nothing but a LibrarianError leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from goggles.client.calls import Calls
from goggles.errors import (
    Cancelled,
    ConnectionLost,
    DeadlinePassed,
    GogglesError,
    LocalFileError,
    Overloaded,
    PermissionDenied,
    SettingsError,
    SourceChanged,
    Unavailable,
)
from goggles.exceptions import LibrarianError, LibrarianHTTPError, LibrarianTimeoutError
from goggles.roles import Role
from goggles.wire.dial import Address, Dialer, Peer

LOGIN = 30.0
STATUS = {  # by code; all that is not here is 500
    **dict.fromkeys(("bad_path", "bad_request"), 400),
    **dict.fromkeys(("denied", "certificate"), 401),
    "not_found": 404,
    "checksum": 406,
    **dict.fromkeys(("exists", "have_it", "conflict", "shared", "stale"), 409),
    **dict.fromkeys(("not_a_directory", "is_a_directory", "not_empty"), 409),
    **dict.fromkeys(("no_space", "limit"), 413),
    "protocol": 502,
    **dict.fromkeys(("unavailable", "overloaded", "database_away", "upload_lost", "connection_lost", "deadline"), 503),
}
LOCAL = (SettingsError, LocalFileError, SourceChanged, Cancelled)  # nobody was asked, or nobody is to blame there
UNKNOWN_METHOD = "there is no method"


class Line(Calls):
    """Kept connections to one librarian, all logged in as one user."""

    def __init__(
        self, dialer: Dialer, address: Address, patience: float, user: str, password: str, certificate_name: str = ""
    ) -> None:
        super().__init__(dialer, address, patience)
        self.user = user
        self.password = password
        self._certificate_name = certificate_name

    def url(self, method: str) -> str:
        return f"rpyc://{self.address}/{method}"

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of a method that may be called twice."""
        with self.told(method):
            return self._insist(lambda peer: _call(peer, method, args, kwargs))

    def change(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """The answer of a method that must not be called twice."""
        self.ask("hello")  # a kept connection that died meanwhile is made anew here
        with self.told(method):
            return self._once(lambda peer: _call(peer, method, args, kwargs))

    def open(self) -> None:
        """Connect and log in, now and without patience."""
        with self.told("login"):
            self.check()

    def new_password(self, password: str) -> None:
        """From now on this is the password; connections that logged in with the old one count no more."""
        self.password = password
        self._drop_idle()

    def _connect(self) -> Peer:
        peer = self._dialer.rpc(self.address, Role.NAMESERVER, hostname=self._certificate_name)
        try:
            peer.call("login", self.user, self.password, timeout=LOGIN)
        except BaseException:
            peer.close()
            raise
        return peer

    @contextlib.contextmanager
    def told(self, method: str) -> Iterator[None]:
        """What goes wrong in the block, in the words of `goggles.exceptions`."""
        try:
            yield
        except LibrarianError:
            raise
        except GogglesError as error:
            raise self._translated(error, method) from error

    def _translated(self, error: GogglesError, method: str) -> LibrarianError:
        made = self._class_of(error, method)
        made.code, made.exit_code = error.code, error.exit_code if isinstance(error, LOCAL) else 1
        return made

    def _class_of(self, error: GogglesError, method: str) -> LibrarianError:
        if isinstance(error, LOCAL):
            return LibrarianError(error.message, error.hint)
        nobody = isinstance(error, Unavailable) and not isinstance(error, Overloaded) and not self.connected
        if nobody or isinstance(error, ConnectionLost | DeadlinePassed):
            return LibrarianTimeoutError(self.url(method), error.message, error.hint.replace(*HINT))
        return self.refusal(error, method)

    def refusal(self, error: GogglesError, method: str) -> LibrarianHTTPError:
        """An answer that says no."""
        url, full = self.url(method), {"code": error.code, "message": error.message, "hint": error.hint}
        if isinstance(error, PermissionDenied) and error.message.startswith(UNKNOWN_METHOD):
            hint = "it is older than this program"
            return LibrarianHTTPError(url, 501, f"the librarian at {self.address} knows no {method}", hint, full)
        message = error.message
        if isinstance(error, PermissionDenied) and method == "login":
            message = f"the librarian at {self.address} does not let {self.user} in: {message}"
        return LibrarianHTTPError(url, STATUS.get(error.code, 500), message, error.hint, full)


HINT = ("check --ns_hostname and --ns_port", "check host and port of the connection")


def _call(peer: Peer, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return peer.call(method, *args, **kwargs)
    except (ConnectionLost, DeadlinePassed) as error:
        if peer.closed:
            raise
        raise Unavailable(error.message, error.hint) from error  # it speaks of a third party
