"""Many small files in one request of the data plane: what is sent, and what is answered.

Law: all files of a request fit into one chunk; each has an answer of its own, in the order of the request.

Format of a write: REQUEST ("write_many", after, ((grant, size, sha256, hops), ...)), DATA with the bytes of all in
their order, END ().  OK: for each file a tuple of what each storage says (`Stored`).
Format of a read: REQUEST ("read_many", after, ((grant, size), ...)).  OK: for each file its size or (code, message,
hint), then DATA with the bytes of all that are there, END ().
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from goggles.contracts.data import MAX_HOPS, MAX_TOGETHER, Next, Stored
from goggles.errors import BadRequest, GogglesError, ProtocolError
from goggles.wire import faults
from goggles.wire.data import CHUNK, DataLink, Kind

Bytes = memoryview | bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file that goes to the first of its hops."""

    hops: tuple[Next, ...]
    data: Bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file as it was announced."""

    grant: bytes
    size: int
    sha256: str
    hops: tuple[Next, ...]


def hop(value: object) -> Next:
    """A storage further on, as it came; BadRequest."""
    match value:
        case (str(name), str(host), int(port), bytes(grant), int(after)):
            return name, host, port, grant, after
    raise BadRequest("a hop must be (name, host, port, grant, after)")


# --- writing ---------------------------------------------------------------------------------


def send(link: DataLink, files: Sequence[Outgoing]) -> list[list[Stored]]:
    """Have the storage at the other end take these files; for each what every storage of its chain says."""
    items = tuple((file.hops[0][3], len(file.data), file.sha256, file.hops[1:]) for file in files)
    after = max(file.hops[0][4] for file in files)
    link.send_together(Kind.REQUEST, ("write_many", after, items), [file.data for file in files], ())
    answers = link.answer()
    if not isinstance(answers, tuple) or len(answers) != len(files):
        raise ProtocolError(f"{link.peer} answered for other files than were sent")
    return [stored_all(link.peer, said) for said in answers]


def stored_all(peer: str, said: Any) -> list[Stored]:
    """What each storage of a chain says; ProtocolError where that can not be read."""
    try:
        found = [Stored.from_wire(one) for one in said]
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"{peer} sent an answer that can not be read") from error
    for one in found:
        texts = all(isinstance(text, str) for text in (one.name, one.hash, one.code, one.message))
        if not texts or not isinstance(one.size, int):
            raise ProtocolError(f"{peer} sent an answer that can not be read")
    return found


def announced(request: tuple[object, ...]) -> tuple[int, list[Incoming]]:
    """(order to wait for, files) of a request to write; BadRequest."""
    match request:
        case ("write_many", int(after), tuple(items)) if 0 < len(items) <= MAX_TOGETHER:
            files = [_incoming(item) for item in items]
        case _:
            raise BadRequest(f"a request must be (write_many, after, 1 to {MAX_TOGETHER} files)")
    if sum(file.size for file in files) > CHUNK:
        raise BadRequest(f"the files of a request may have {CHUNK} bytes together")
    return after, files


def _incoming(item: object) -> Incoming:
    match item:
        case (bytes(grant), int(size), str(sha256), tuple(hops)) if size >= 0 and len(hops) <= MAX_HOPS:
            return Incoming(grant, size, sha256, tuple(hop(one) for one in hops))
    raise BadRequest("a file must be (grant, size, sha256, hops)")


def receive(link: DataLink, sizes: Sequence[int]) -> list[memoryview] | None:
    """The bytes of each, good until the next message is received; None where the sender gave up."""
    kind, data = _body(link)
    if kind is Kind.ABORT:
        return None
    if kind is not Kind.END or len(data) != sum(sizes):
        raise ProtocolError(f"{link.peer} sent other bytes than it announced")
    return list(_cut(data, sizes))


def _body(link: DataLink) -> tuple[Kind, memoryview]:
    """What ends the message, and the bytes before it."""
    kind, value = link.receive()
    if kind is not Kind.DATA:
        return kind, memoryview(b"")
    return link.receive()[0], value.data


def _cut(data: memoryview, sizes: Sequence[int]) -> Iterator[memoryview]:
    place = 0
    for size in sizes:
        yield data[place : place + size]
        place += size


# --- reading ---------------------------------------------------------------------------------


def ask(link: DataLink, after: int, wanted: Sequence[tuple[bytes, int]]) -> list[memoryview | GogglesError]:
    """The bytes of each (grant, size), good until the next message is received, or why they can not be read."""
    link.send_value(Kind.REQUEST, ("read_many", after, tuple(wanted)))
    answers = link.answer()
    there = _sizes(answers)
    if there is None or len(answers) != len(wanted):
        raise ProtocolError(f"{link.peer} answered for other files than were asked for")
    kind, data = _body(link)
    if kind is not Kind.END or len(data) != sum(there):
        raise ProtocolError(f"{link.peer} sent other bytes than it announced")
    pieces = _cut(data, there)
    return [next(pieces) if isinstance(answer, int) else faults.from_tuple(*answer) for answer in answers]


def _sizes(answers: object) -> list[int] | None:
    """Of those files that are there; None where these are no answers."""
    sizes: list[int] = []
    for answer in answers if isinstance(answers, tuple) else [None]:
        match answer:
            case int() if answer >= 0:
                sizes.append(answer)
            case (str(), str(), str()):
                continue
            case _:
                return None
    return sizes


def asked(request: tuple[object, ...]) -> tuple[int, list[tuple[bytes, int]]]:
    """(order to wait for, files) of a request to read; BadRequest."""
    match request:
        case ("read_many", int(after), tuple(items)) if 0 < len(items) <= MAX_TOGETHER:
            wanted = [_wanted(item) for item in items]
        case _:
            raise BadRequest(f"a request must be (read_many, after, 1 to {MAX_TOGETHER} files)")
    if sum(size for _, size in wanted) > CHUNK:
        raise BadRequest(f"the files of a request may have {CHUNK} bytes together")
    return after, wanted


def _wanted(item: object) -> tuple[bytes, int]:
    match item:
        case (bytes(grant), int(size)) if size >= 0:
            return grant, size
    raise BadRequest("a file must be (grant, size)")


def reply(link: DataLink, found: Sequence[bytes | GogglesError]) -> None:
    """Answer a request to read."""
    pieces = [one for one in found if isinstance(one, bytes)]
    answers = tuple(faults.to_tuple(one) if isinstance(one, GogglesError) else len(one) for one in found)
    link.send_together(Kind.OK, answers, pieces, ())
