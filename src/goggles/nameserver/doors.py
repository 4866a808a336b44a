"""What the doors of a nameserver share: the owners behind them, and the shapes of batches.

Law: a batch is bounded, and one item that is refused does not spoil the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from goggles import checksums
from goggles.contracts import inventory, tickets
from goggles.contracts.data import MAX_BATCH
from goggles.contracts.orders import ARRIVING, DIRECTORY, FILE, STAGED, Held, StorageHello
from goggles.contracts.records import Record, Value
from goggles.errors import BadRequest, GogglesError, LimitExceeded
from goggles.nameserver.accounts import Accounts
from goggles.nameserver.attach import Attachment
from goggles.nameserver.balancing import Balancing
from goggles.nameserver.forgetting import Forgetting
from goggles.nameserver.namespace import Namespace
from goggles.nameserver.quarantining import Quarantining
from goggles.nameserver.reading import Reading
from goggles.nameserver.repair import Repair
from goggles.nameserver.scrubbing import Scrubbing
from goggles.nameserver.site import Site
from goggles.nameserver.verifying import Verifying
from goggles.nameserver.writing import Writing
from goggles.wire import faults
from goggles.wire.admission import Gate
from goggles.wire.service import USERS, Caller, Service, check_value, types_of

HELD = frozenset({FILE, STAGED, DIRECTORY, ARRIVING})
MAX_SIZE = 1 << 60
_TOKEN = re.compile(r"[0-9a-f]{32}\Z")
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Owners:
    """Who does what behind the doors."""

    site: Site
    namespace: Namespace
    writing: Writing
    reading: Reading
    attachment: Attachment
    repair: Repair
    accounts: Accounts
    verifying: Verifying
    scrubbing: Scrubbing
    balancing: Balancing
    forgetting: Forgetting
    quarantining: Quarantining
    export: Any  # () -> path of the exported tree.json
    gate: Gate  # for requests of users


class Doors(Service):
    """Base of the nameserver's exposed methods."""

    def __init__(self, caller: Caller, owners: Owners) -> None:
        super().__init__(caller)
        self._owners = owners
        if caller.identity.role in USERS:
            self.gate = owners.gate


def is_token(text: str) -> bool:
    """Whether `text` has the form of the ids that are given out: 32 hexadecimal digits."""
    return _TOKEN.match(text) is not None


def request_id(text: str) -> str:
    if text and not is_token(text):
        raise BadRequest("a request id has 32 hexadecimal digits")
    return text


def bounded(items: tuple[Any, ...]) -> None:
    if len(items) > MAX_BATCH:
        raise LimitExceeded(f"a batch may have {MAX_BATCH} items, this has {len(items)}")


def batch_answer(kind: type[tickets.T], answers: Sequence[tickets.T | BaseException], packed: bool) -> Value:
    """For each item of a batch its record or (code, message, hint); `packed`: all as bytes (see `tickets`)."""
    known = [faults.known(one, "a batch") if isinstance(one, BaseException) else one for one in answers]
    if packed:
        return tickets.pack(kind, known)
    return tuple(faults.to_tuple(one) if isinstance(one, GogglesError) else one.to_wire() for one in known)


def pair(item: Any) -> tuple[str, int]:
    match item:
        case (str(path), int(size)):
            return path, size
    raise BadRequest("an item of this batch must be (path, size)")


def triple(item: Any) -> tuple[str, int, str]:
    match item:
        case (str(upload), int(size), str(sha256)):
            return upload, size, sha256
    raise BadRequest("an item of this batch must be (upload, size, sha256)")


def record(kind: type[R], pairs: tuple[Value, ...]) -> R:
    """The record in `pairs`, each value of its field's own type; BadRequest."""
    try:
        made = kind.from_wire(pairs)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"that is no {kind.__name__}: {error}", "are both sides of the same version?") from error
    for name, classes in types_of(kind).items():
        check_value(f"{kind.__name__}: {name}", getattr(made, name), classes)
    return made


def storage_hello(pairs: tuple[Value, ...]) -> StorageHello:
    """What a storage says of itself, as far as it can be true; BadRequest."""
    hello = record(StorageHello, pairs)
    sizes = all(0 <= size <= MAX_SIZE for size in (hello.capacity, hello.disk_free))
    if not sizes or not 0 < hello.port < 65_536:
        raise BadRequest(
            f"storage {hello.name[:80]!r} tells sizes or a port that can not be",
            f"capacity and free room of the disk are bytes, up to {MAX_SIZE}",
        )
    _check_facilities(hello)
    return hello


def _check_facilities(hello: StorageHello) -> None:
    """They are read again whenever another site asks where to send files."""
    try:
        ways = json.loads(hello.facilities)
    except (ValueError, RecursionError):
        ways = None
    if not isinstance(ways, dict) or not all(isinstance(how, dict) for how in ways.values()):
        raise BadRequest(f"storage {hello.name[:80]!r} tells how others reach it in a way that can not be read")


def held_batch(batch: bytes) -> list[Held]:
    """What a storage says it holds; the storage's own word for each, of a form that can be true."""
    found = inventory.unpack(batch, MAX_BATCH)
    for held in found:
        if (
            held.kind not in HELD
            or not 0 <= held.size <= MAX_SIZE
            or not 0 <= held.generation <= MAX_SIZE
            or abs(held.modified) >> 63
        ):
            raise BadRequest(f"a thing held can not be {held.kind[:40]!r} of {held.size} bytes")
        if (held.hash and not checksums.is_digest(held.hash)) or (held.version and not is_token(held.version)):
            raise BadRequest("a digest has 64 hexadecimal digits, a version 32")
        if held.kind in (STAGED, ARRIVING) and not is_token(held.path):
            raise BadRequest("what is staged or arriving has a name of 32 hexadecimal digits")
    return found


def each(items: tuple[Any, ...], action: Callable[[Any], Value]) -> tuple[Value, ...]:
    """`action` for each item; a refusal is (code, message, hint) in its place."""
    bounded(items)
    answers: list[Value] = []
    for item in items:
        try:
            answers.append(action(item))
        except GogglesError as error:
            answers.append(faults.to_tuple(error))
    return tuple(answers)
