"""What the doors of a nameserver share: the owners behind them, and the shapes of batches.

Law: a batch is bounded, and one item that is refused does not spoil the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goggles.contracts.data import MAX_BATCH
from goggles.contracts.orders import Held
from goggles.contracts.records import Record, Value
from goggles.errors import BadRequest, GogglesError, LimitExceeded
from goggles.nameserver.accounts import Accounts
from goggles.nameserver.attach import Attachment
from goggles.nameserver.forgetting import Forgetting
from goggles.nameserver.namespace import Namespace
from goggles.nameserver.repair import Repair
from goggles.nameserver.scrubbing import Scrubbing
from goggles.nameserver.site import Site
from goggles.nameserver.verifying import Verifying
from goggles.nameserver.writing import Writing
from goggles.wire import faults
from goggles.wire.service import Caller, Service


@dataclass(frozen=True, slots=True)
class Owners:
    """Who does what behind the doors."""

    site: Site
    namespace: Namespace
    writing: Writing
    attachment: Attachment
    repair: Repair
    accounts: Accounts
    verifying: Verifying
    scrubbing: Scrubbing
    forgetting: Forgetting
    export: Any  # () -> path of the exported tree.json


class Doors(Service):
    """Base of the nameserver's exposed methods."""

    def __init__(self, caller: Caller, owners: Owners) -> None:
        super().__init__(caller)
        self._owners = owners


def request_id(text: str) -> str:
    if text and (len(text) != 32 or not all(c in "0123456789abcdef" for c in text)):
        raise BadRequest("a request id has 32 hexadecimal digits")
    return text


def bounded(items: tuple[Any, ...]) -> None:
    if len(items) > MAX_BATCH:
        raise LimitExceeded(f"a batch may have {MAX_BATCH} items, this has {len(items)}")


def item_answer(answer: Record | BaseException) -> tuple[Value, ...]:
    """One item of a batch: the record, or (code, message, hint)."""
    if isinstance(answer, BaseException):
        return faults.to_tuple(faults.known(answer, "a batch"))
    return answer.to_wire()


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


def record(kind: Any, pairs: tuple[Value, ...]) -> Any:
    try:
        return kind.from_wire(pairs)
    except (TypeError, ValueError) as error:
        raise BadRequest(f"that is no {kind.__name__}: {error}", "are both sides of the same version?") from error


def held_batch(batch: tuple[Value, ...]) -> list[Held]:
    bounded(batch)
    return [record(Held, item) for item in batch]


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
