"""What other librarians answer, taken apart.

Law: an answer is like any input: what is not of the right shape is refused with ProtocolError before anything is
written down, and one bad item of a batch spoils no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from goggles.contracts.peering import Place, Reception
from goggles.errors import Conflict, GogglesError, ProtocolError, Unavailable
from goggles.wire import faults

MAX_GRANT = 4_096  # bytes
ID = re.compile(r"[0-9a-f]{32}")
MAX_FACILITIES = 65_536
MAX_STORES = 256  # storages that one file is said to be on
HINT = "are both sides of the same version?"


@contextmanager
def understood(name: str) -> Iterator[None]:
    """While the answer of a librarian is taken apart: ProtocolError where it is not what it should be."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ProtocolError(f"librarian {name} answered something that makes no sense", HINT) from error


def need_values(value: object) -> None:
    """Only values come from another site, never objects that would call it back; ValueError."""
    if type(value) is tuple:
        for part in value:
            need_values(part)
    elif type(value) not in (str, bytes, int, float, bool, type(None)):
        raise ValueError


def items(name: str, answer: object, count: int) -> tuple[Any, ...]:
    """An answer that has one item for each thing that was asked."""
    if not isinstance(answer, tuple) or len(answer) != count:
        raise ProtocolError(f"librarian {name} answered something else than was asked", HINT)
    return answer


def reception(name: str, answer: Any, count: int) -> Reception:
    """What a batch of `count` offers came to."""
    with understood(name):
        told: Any = Reception.from_wire(answer)
        texts = ((told.store, 64), (told.host, 255), (told.facilities, MAX_FACILITIES))
        if not all(_is_text(text, most) for text, most in texts) or not isinstance(told.port, int):
            raise ValueError
        if not 0 < told.port < 65_536:
            raise ValueError
        items(name, told.answers, count)
        return cast(Reception, replace(told, facilities=_facilities(told)))


def texts(value: object) -> tuple[str, ...]:
    """A few texts; ValueError."""
    if not isinstance(value, tuple) or len(value) > MAX_STORES or not all(_is_text(one, 255) for one in value):
        raise ValueError
    return value


def _is_text(text: object, most: int) -> bool:
    return isinstance(text, str) and len(text) <= most and "\0" not in text


def place(answer: object) -> Place | GogglesError:
    """A place for one file, or why there is none."""
    if isinstance(answer, tuple) and len(answer) == 3 and all(isinstance(part, str) for part in answer):
        return faults.from_tuple(*(part.replace("\0", "") for part in answer))
    try:
        found = Place.from_wire(answer)  # type: ignore[arg-type]  # whatever came; it is looked at below
    except (TypeError, ValueError):
        return Unavailable("the answer makes no sense")
    if not (_is_text(found.id, 32) and ID.fullmatch(found.id)):
        return Unavailable("the answer makes no sense")
    # Our storages and Globus write there with our rights: anything else may be somebody's file.
    if found.place != f".goggles/incoming/{found.id}/data":
        return Unavailable("the place that it names is none for what arrives")
    return found


def stores(error: GogglesError) -> list[str]:
    """The storages in the answer of a librarian that has a file already."""
    return [store[:64] for store in error.hint.split(",") if store][:MAX_STORES]


def ticket(answer: object) -> bytes | GogglesError:
    """The grant for one push, or why there is none."""
    if isinstance(answer, bytes) and len(answer) <= MAX_GRANT:
        return answer
    if isinstance(answer, tuple) and len(answer) == 3:
        return faults.from_tuple(*answer)
    return ProtocolError("the answer makes no sense")


def _facilities(told: Reception) -> str:
    """The ways to the storage, with its address for our own data plane."""
    try:
        known = json.loads(told.facilities)
    except RecursionError as error:
        raise ValueError from error
    if not isinstance(known, dict) or not all(isinstance(each, dict) for each in known.values()):
        raise Conflict(f"what storage {told.store} says of itself makes no sense")
    if "goggles" in known:
        known["goggles"] |= {"host": told.host, "port": told.port}
    return json.dumps(known)
