"""What a message says, read from rpyc's brine encoding, with bounds.

Law: only values cross: None, bool, int, float, str, bytes, and tuples of them.  A message that has anything else, that
is nested deeper or has more values than it may have, is refused before it costs memory; nothing here calls itself.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Any

from goggles.errors import ProtocolError

MAX_DEPTH = 64
MAX_VALUES = 250_000  # what a server, or a client of a storage, takes in one message: some ten times the largest batch
MAX_ANSWER = 4_000_000  # what a nameserver may answer: a listing of 50,000 entries has 2.6 million

_L4, _F8 = Struct("!L"), Struct("!d")
_PLAIN: dict[int, Any] = {0x00: None, 0x01: b"", 0x02: (), 0x03: True, 0x04: False}


def loads(data: bytes, start: int = 0, most: int = MAX_VALUES) -> Any:
    """The value in `data` from `start` on; ProtocolError where that is none, or more than `most` values."""
    try:
        return _loads(data, start, most)
    except (IndexError, StructError, ValueError) as error:
        raise ProtocolError(f"a message that can not be read: {error}") from None


def _loads(data: bytes, at: int, most: int) -> Any:  # noqa: C901 - one loop: it runs for each value of each call
    items: list[Any] = []
    wanted, text = 1, False  # items of the innermost tuple; whether the bytes that come are text
    outer: list[tuple[list[Any], int]] = []  # the tuples around it
    end = len(data)
    while True:
        tag = data[at]
        at += 1
        if tag == 0x08 and not text:
            text = True
            continue
        if tag == 0x0E:  # up to 255 bytes
            size = data[at]
            at += 1 + size
            value: Any = data[at - size : at]
        elif 0x20 <= tag < 0xF0:
            value = tag - 0x50
        elif 0x10 <= tag <= 0x15:
            count, at = (tag - 0x0F, at) if tag < 0x14 else _count(data, at, tag)
            most -= count
            if text or not 0 < count <= end - at or most < 0 or len(outer) >= MAX_DEPTH:
                raise ValueError(f"no tuple of {count} values may be there")
            outer.append((items, wanted))
            items, wanted = [], count
            continue
        else:
            value, at = _other(data, at, tag)
        if at > end:
            raise ValueError("it ends too early")
        if text:
            value, text = _decoded(value), False
        items.append(value)
        while len(items) == wanted:
            if not outer:
                if at != end:
                    raise ValueError("something comes after its end")
                return items[0]
            value = tuple(items)
            items, wanted = outer.pop()
            items.append(value)


def _count(data: bytes, at: int, tag: int) -> tuple[int, int]:
    return (data[at], at + 1) if tag == 0x14 else (_L4.unpack_from(data, at)[0], at + 4)


def _decoded(value: Any) -> str:
    if type(value) is not bytes:
        raise ValueError("a text that is none")
    return value.decode()


def _other(data: bytes, at: int, tag: int) -> tuple[Any, int]:
    """The values that are seldom."""
    if tag in _PLAIN:
        return _PLAIN[tag], at
    if 0x0A <= tag <= 0x0D:  # 1 to 4 bytes
        return data[at : at + tag - 0x09], at + tag - 0x09
    if tag == 0x0F:  # many bytes
        at, size = at + 4, _L4.unpack_from(data, at)[0]
        return data[at : at + size], at + size
    if tag == 0x16:  # up to 255 decimal digits; larger numbers have a kind of their own, which does not cross
        size = data[at]
        return int(data[at + 1 : at + 1 + size]), at + 1 + size
    if tag == 0x18:
        return _F8.unpack_from(data, at)[0], at + 8
    raise ValueError(f"values of kind {tag} do not cross")
