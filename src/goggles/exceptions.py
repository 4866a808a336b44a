"""What `LibrarianClient` and `AdminClient` raise.

Law: all of it is a LibrarianError.  `code`, `message` and `hint` are those of the error of `goggles.errors` that lies
behind it, where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goggles.errors import GogglesError


class LibrarianError(GogglesError):
    """Something went wrong, here or at the librarian."""

    code = "librarian"


class LibrarianHTTPError(LibrarianError):
    """The librarian refused, or could not.  `status_code` says why, in the numbers of HTTP (which is not spoken)."""

    def __init__(
        self, url: str, status_code: int, reason: str, suggested_remedy: str = "", full_response: Any = None
    ) -> None:
        super().__init__(reason, suggested_remedy)
        self.url = url
        self.status_code = status_code
        self.reason = reason
        self.suggested_remedy = suggested_remedy
        self.full_response = full_response


class LibrarianTimeoutError(LibrarianError):
    """Nobody answers at `url`, or not in time, or not any more: then what was asked for may have been done."""

    def __init__(self, url: str, message: str = "", hint: str = "") -> None:
        super().__init__(message or f"no answer from {url}", hint)
        self.url = url


class LibrarianPartialError(LibrarianError):
    """Some of many files failed, the others are done.  `failed`: (path, why) of each; `summary`: what was done."""

    def __init__(self, message: str, failed: Sequence[tuple[str, str]], summary: Any = None, hint: str = "") -> None:
        super().__init__(message, hint)
        self.failed = list(failed)
        self.summary = summary
