"""Errors across the wire: (code, message, hint), raised on the other side as the same class.

Law: nothing but these three strings leaves a process; whatever is not a GogglesError is logged here with
its traceback under a number, and only the number crosses.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from goggles.errors import BY_CODE, GogglesError, InternalError, ProtocolError

log = logging.getLogger(__name__)
MAX_TEXT = 8_192

# The shape of an exception on rpyc's wire (rpyc.core.vinegar.dump): (module, class), args, attributes, traceback.
RawException = tuple[tuple[str, str], tuple[Any, ...], tuple[tuple[str, Any], ...], str]


def known(error: BaseException, doing: str) -> GogglesError:
    """`error` if it is one of ours, else an InternalError with the number under which it was logged."""
    if isinstance(error, GogglesError):
        return error
    number = secrets.token_hex(4)
    log.error("internal error %s in %s", number, doing, exc_info=error)
    return InternalError(f"internal error {number}", "the log of the server has more under this number")


def to_tuple(error: GogglesError) -> tuple[str, str, str]:
    return error.code, error.message[:MAX_TEXT], error.hint[:MAX_TEXT]


def from_tuple(code: object, message: object, hint: object = "") -> GogglesError:
    """The error that the other side named; a plain GogglesError where its code is newer than this program."""
    return BY_CODE.get(str(code), GogglesError)(str(message)[:MAX_TEXT], str(hint)[:MAX_TEXT])


def dump(error: BaseException, doing: str) -> RawException | int:
    """`error` in the form that rpyc sends.  Stock clients see `code`, `message` and `hint` as attributes."""
    ours = known(error, doing)
    code, message, hint = to_tuple(ours)
    attributes = (("code", code), ("message", message), ("hint", hint), ("_remote_version", "<version denied>"))
    return ("goggles.errors", type(ours).__name__), (str(ours),), attributes, ""


def load(raw: Any) -> BaseException:
    """The exception that the other side sent, as one of ours."""
    try:
        attributes = dict(raw[2])
        if "code" in attributes:
            return from_tuple(attributes["code"], attributes["message"], attributes["hint"])
        (module, name), arguments = raw[0], raw[1]
    except (TypeError, ValueError, KeyError, IndexError):
        return ProtocolError(f"an answer that is no error of ours: {str(raw)[:200]!r}")
    return ProtocolError(f"the other side failed with {module}.{name}: {str(arguments)[:500]}")
