"""The one error tree.

Law: whatever goes wrong reaches a person as one of these, saying what happened to what and, in
`hint`, what to do next.  `code` is stable: it crosses the wire, scripts may match on it, and the
reference page lists it.  Foreign exceptions are turned into these at the edges only.
"""

from __future__ import annotations


class GogglesError(Exception):
    """Base of every error that a user may meet.  `exit_code` is what a program ends with."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


# --- what was asked for is wrong -------------------------------------------------------------


class BadPath(GogglesError):
    """A name or path breaks the rules of `goggles.paths`."""

    code = "bad_path"


class BadRequest(GogglesError):
    """An argument has the wrong type, is out of bounds, or makes no sense here."""

    code = "bad_request"


class SettingsError(GogglesError):
    """A flag, environment variable or settings file is missing or wrong."""

    code = "settings"
    exit_code = 2


class PermissionDenied(GogglesError):
    """The certificate or account of the caller does not allow this."""

    code = "denied"


class CertificateError(GogglesError):
    """A certificate is missing, does not fit, has expired, or is revoked."""

    code = "certificate"
    exit_code = 2


# --- what is there does not allow it ---------------------------------------------------------


class NotFound(GogglesError):
    """Nothing stands at this path, or nothing goes by this name."""

    code = "not_found"


class AlreadyExists(GogglesError):
    """Something already stands at this path, or goes by this name."""

    code = "exists"


class NotADirectory(GogglesError):
    """A file stands where a directory is needed."""

    code = "not_a_directory"


class IsADirectory(GogglesError):
    """A directory stands where a file is needed."""

    code = "is_a_directory"


class NotEmpty(GogglesError):
    """The directory still has entries."""

    code = "not_empty"


class Conflict(GogglesError):
    """Two things that may not be true at once: two storages of one name, a foreign site, a moved parent."""

    code = "conflict"


class Shared(Conflict):
    """Other librarians hold the file, or are getting it: its path and its bytes are fixed."""

    code = "shared"


class HaveIt(AlreadyExists):
    """The very same file is here already; the hint names the storages that hold it."""

    code = "have_it"


class NoSpace(GogglesError):
    """No storage, or no local disk, has room for the bytes."""

    code = "no_space"


class LimitExceeded(GogglesError):
    """A bound was passed: length of a path or batch, open uploads, size of a frame."""

    code = "limit"


# --- it may work later -----------------------------------------------------------------------


class Unavailable(GogglesError):
    """Whoever could answer is down, held in safe mode, or not there yet."""

    code = "unavailable"


class Overloaded(Unavailable):
    """A server has as many callers as it takes; come back after a moment."""

    code = "overloaded"


class DatabaseAway(Unavailable):
    """The nameserver can not reach its database: it has not done what was asked, and it may be able to soon."""

    code = "database_away"


class ConnectionLost(Unavailable):
    """The connection broke before the answer came: the outcome is unknown."""

    code = "connection_lost"


class DeadlinePassed(Unavailable):
    """No answer within the time allowed: the outcome is unknown."""

    code = "deadline"


class Stale(GogglesError):
    """The file was replaced, moved or removed between asking where it is and reading it; ask again."""

    code = "stale"


class UploadLost(GogglesError):
    """The upload is not known any more (lease over, nameserver restarted); put again."""

    code = "upload_lost"


# --- something is broken ---------------------------------------------------------------------


class ChecksumMismatch(GogglesError):
    """Bytes are not the bytes that were written."""

    code = "checksum"


class SourceChanged(GogglesError):
    """A local file grew, shrank or was rewritten while it was read."""

    code = "source_changed"


class LocalFileError(GogglesError):
    """A local file or directory cannot be read or written."""

    code = "local_file"


class StorageFailure(GogglesError):
    """A disk of a storage did not do what it should (I/O error, read-only, not writable)."""

    code = "storage_failure"


class DatabaseError(GogglesError):
    """The database is corrupt, read-only, newer than this program, or in use by another nameserver."""

    code = "database"


class ProtocolError(GogglesError):
    """The other side said something that is not in the protocol."""

    code = "protocol"


class Cancelled(GogglesError):
    """The user stopped it."""

    code = "cancelled"
    exit_code = 130


class InternalError(GogglesError):
    """A bug.  The log of the process that raised it has the traceback; please report it."""

    code = "internal"


def _tree(base: type[GogglesError]) -> list[type[GogglesError]]:
    return [base] + [leaf for child in base.__subclasses__() for leaf in _tree(child)]


BY_CODE: dict[str, type[GogglesError]] = {cls.code: cls for cls in _tree(GogglesError)}
