"""What those who run a site may ask of its librarian: the errors that stand, the tasks and how they went.

Law: as with all doors, only the shape of what comes is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from goggles.contracts.records import Pairs, Value
from goggles.errors import BadRequest
from goggles.librarian import schedule
from goggles.librarian.admindoors import AdminDoors
from goggles.librarian.doors import Desks
from goggles.librarian.tasks import Tasks
from goggles.librarian.troubles import CATEGORIES, SEVERITIES, Query, Trouble, Troubles
from goggles.nameserver.doors import Owners
from goggles.roles import Level, Role
from goggles.wire.service import Caller, exposed

MOST = 1_000  # errors in one answer
LONGEST_NAME = 128


class OpsDoors(AdminDoors):
    """The doors for operators."""

    def __init__(self, caller: Caller, owners: Owners, desks: Desks, tasks: Tasks, troubles: Troubles) -> None:
        super().__init__(caller, owners, desks, tasks)
        self._troubles = troubles

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def search_errors(self, query: tuple[Value, ...] = ()) -> tuple[Pairs, ...]:
        """The errors that fit, the newest first.

        Keys: id, category, severity, create_time_start, create_time_end, include_resolved (False), max_results (64)."""
        return tuple(_told(one) for one in self._troubles.search(Query(**_read(query, KEYS, "search_errors"))))

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def clear_error(self, id: int) -> None:  # noqa: A002 - as search_errors calls it
        """An error is over; to say so twice is fine."""
        self._troubles.clear(id)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_tasks(self) -> tuple[Pairs, ...]:
        """The background tasks: how each went the last time, and when it runs next (0: not by itself)."""
        told: list[Pairs] = []
        for plan, run, due in self._tasks.report():
            planned = (("name", plan.name), ("kind", plan.kind), ("every", plan.every))
            times = (("soft_timeout", plan.soft_timeout), ("began", run.began), ("ended", run.ended), ("next", due))
            went = (("result", run.result), ("message", run.message), ("count", run.count))
            told.append((*planned, *times, *went))
        return tuple(told)

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def get_transfers(self) -> tuple[Pairs, ...]:
        """The batches that wait for another librarian or are on their way there, and how far each is: peer, batch,
        manager, state (waiting or sent), since, tries, files, files_done, size, size_done, rate (bytes a second), task,
        trouble."""
        return tuple(tuple(asdict(flight).items()) for flight in self._desks.underway.read())

    @exposed(Role.ADMIN, level=Level.ADMIN)
    def run_plan(self, kind: str, values: tuple[Value, ...], name: str, soft_timeout: float | None = None) -> int:
        """Run a task of a schedule that vg-background keeps; how much it did."""
        if not 0 < len(name) <= LONGEST_NAME:
            raise BadRequest(f"the name of a task has 1 to {LONGEST_NAME} characters")
        return self._tasks.run_plan(schedule.again(kind, name, soft_timeout, _pairs(values, "run_plan")))


def _told(one: Trouble) -> Pairs:
    what = (("id", one.id), ("severity", one.severity), ("category", one.category), ("message", one.message))
    when = (("raised_time", one.raised_time), ("cleared", one.cleared), ("cleared_time", one.cleared_time))
    return (*what, ("caller", one.caller), *when)


def _pairs(items: tuple[Value, ...], what: str) -> dict[str, Any]:
    """(key, value) pairs as a table; BadRequest where they are none."""
    made: dict[str, Any] = {}
    for item in items:
        match item:
            case (str(key), value):
                made[key] = value
            case _:
                raise BadRequest(f"{what}: an item must be (key, value)", "for example (('max_results', 10),)")
    return made


def _read(items: tuple[Value, ...], keys: dict[str, Callable[[Any], bool]], what: str) -> dict[str, Any]:
    """The pairs that were given, each looked at by the rule for its key; None is as good as not given."""
    given = {key: value for key, value in _pairs(items, what).items() if value is not None}
    for key, value in given.items():
        if key not in keys:
            raise BadRequest(f"{what}: there is no key {key[:80]!r}", "keys: " + ", ".join(keys))
        if not keys[key](value):
            raise BadRequest(f"{what}: {str(value)[:80]!r} can not be the {key}", HINTS.get(key, ""))
    return given


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


KEYS: dict[str, Callable[[Any], bool]] = {
    "id": _is_count,
    "category": lambda value: value in CATEGORIES,
    "severity": lambda value: value in SEVERITIES,
    "create_time_start": _is_time,
    "create_time_end": _is_time,
    "include_resolved": lambda value: isinstance(value, bool),
    "max_results": lambda value: _is_count(value) and 1 <= value <= MOST,
}
HINTS = {
    "category": "categories: " + ", ".join(CATEGORIES),
    "severity": "severities: " + ", ".join(SEVERITIES),
    "create_time_start": "seconds since 1970, UTC",
    "create_time_end": "seconds since 1970, UTC",
    "max_results": f"1 to {MOST}",
}
