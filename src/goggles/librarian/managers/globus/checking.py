"""check-globus: from the login to a probe in a folder, each step of what a transfer needs, and in words what is wrong.

Law: a step that fails says what to do, and those that do not need it are still taken.  What is made is removed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goggles.clock import SystemClock
from goggles.errors import GogglesError, Unavailable
from goggles.librarian.managers.globus.service import Globus
from goggles.librarian.managers.steps import joined

PATIENCE = 120.0  # seconds for Globus to send the probe, and to remove it
PAUSE = 1.0
PROBE = "site.json"  # in the .goggles of each storage


@dataclass(frozen=True, slots=True)
class Finding:
    """One step: what was looked at, and what came of it."""

    what: str
    good: bool
    said: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """A folder on a collection, and whether files are to be written there."""

    title: str
    endpoint: str
    folder: str
    writes: bool


def check(globus: Globus, spots: list[Spot]) -> Iterator[Finding]:
    """Take all steps, and tell each as it ends."""
    login = _try("log in to Globus", globus.log_in)
    yield login
    if not login.good:
        return
    yield _try("room for tasks", lambda: f"{globus.pending()} of at most 100 tasks are under way")
    source = next((spot for spot in spots if not spot.writes), None)
    for spot in spots:
        yield from _check_spot(globus, spot, source)


def _check_spot(globus: Globus, spot: Spot, source: Spot | None) -> Iterator[Finding]:
    known = _try(f"{spot.title}: collection {spot.endpoint}", lambda: _described(globus, spot.endpoint))
    yield known
    if not known.good:
        return
    listed = _try(f"{spot.title}: list {spot.folder}", lambda: _listed(globus, spot))
    yield listed
    if listed.good and spot.writes:
        yield _try(f"{spot.title}: write and remove a probe", lambda: _probe(globus, spot, source))


def _try(what: str, step: Callable[[], str | None]) -> Finding:
    try:
        return Finding(what, True, step() or "")
    except GogglesError as error:
        return Finding(what, False, str(error))


def _described(globus: Globus, endpoint: str) -> str:
    found = globus.endpoint(endpoint)
    return f"{found.get('display_name') or 'without a name'} ({found.get('entity_type') or 'collection'})"


def _listed(globus: Globus, spot: Spot) -> str:
    names = globus.listing(spot.endpoint, spot.folder)
    own = "" if ".goggles" in names else "; there is no .goggles in it: is it really the folder of a storage?"
    return f"{len(names)} names{own}"


def _probe(globus: Globus, spot: Spot, source: Spot | None) -> str:
    """A folder of our own, and in it a file from the source, where there is one that every storage has."""
    is_storage = ".goggles" in globus.listing(spot.endpoint, spot.folder)
    name = f"goggles-probe-{secrets.token_hex(8)}"
    folder = joined(spot.folder, f".goggles/incoming/{name}" if is_storage else name)
    file = None if source is None else _file_of(globus, source)
    globus.make_folder(spot.endpoint, folder)
    try:
        if source is not None and file is not None:
            _send(globus, (source.endpoint, file), (spot.endpoint, joined(folder, "probe")))
    finally:
        _remove(globus, spot.endpoint, folder)
    return "a file came through" if file is not None else "a folder only: the source has no file of a storage to send"


def _file_of(globus: Globus, source: Spot) -> str | None:
    """A small file that each storage has; None where this is not the folder of one, or does not show it."""
    try:
        there = PROBE in globus.listing(source.endpoint, joined(source.folder, ".goggles"))
    except GogglesError:
        return None
    return joined(source.folder, f".goggles/{PROBE}") if there else None


def _send(globus: Globus, source: tuple[str, str], target: tuple[str, str]) -> None:
    ends = {"source": source[0], "destination": target[0], "items": {"probe": (source[1], target[1])}}
    deadline = datetime.fromtimestamp(SystemClock().now() + 2 * PATIENCE, UTC)
    asked = {"submission": globus.submission_id(), "deadline": deadline.isoformat(timespec="seconds")}
    task = globus.submit({**ends, **asked, "label": "goggles probe"})
    try:
        done = _wait(globus, task)
    except GogglesError:
        globus.cancel(task)
        raise
    if not done.get("files_transferred"):
        raise Unavailable(
            f"Globus left out {source[1]}: {', '.join(globus.skipped(task).values()) or 'it says not why'}"
        )


def _remove(globus: Globus, endpoint: str, folder: str) -> None:
    try:
        _wait(globus, globus.remove(endpoint, folder))
    except GogglesError as error:
        raise Unavailable(f"{folder} was made, and not removed: {error.message}", "remove it by hand") from error


def _wait(globus: Globus, task: str) -> dict[str, Any]:
    """The task once it has succeeded."""
    deadline = time.monotonic() + PATIENCE
    while (found := globus.task(task))["status"] != "SUCCEEDED":
        if found["status"] != "ACTIVE" or time.monotonic() > deadline:
            why = found.get("nice_status_details") or found.get("nice_status") or ""
            raise Unavailable(f"the task for it is {found['status']} {why}".rstrip())
        time.sleep(PAUSE)
    return found
