"""check-globus: from the login to a probe in a folder, each step of what a transfer needs, and in words what is wrong.

Law: a step that fails says what to do, and those that do not need it are still taken.  What is made is removed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from goggles.errors import GogglesError, Unavailable
from goggles.librarian.managers.globus.service import Globus
from goggles.librarian.managers.steps import joined

PATIENCE = 120.0  # seconds for Globus to remove a folder
PAUSE = 1.0


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
    for spot in spots:
        yield from _check_spot(globus, spot)


def _check_spot(globus: Globus, spot: Spot) -> Iterator[Finding]:
    known = _try(f"{spot.title}: collection {spot.endpoint}", lambda: _described(globus, spot.endpoint))
    yield known
    if not known.good:
        return
    listed = _try(f"{spot.title}: list {spot.folder}", lambda: _listed(globus, spot))
    yield listed
    if listed.good and spot.writes:
        yield _try(f"{spot.title}: write and remove a probe", lambda: _probe(globus, spot))


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


def _probe(globus: Globus, spot: Spot) -> str:
    is_storage = ".goggles" in globus.listing(spot.endpoint, spot.folder)
    name = f"goggles-probe-{secrets.token_hex(8)}"
    folder = joined(spot.folder, f".goggles/incoming/{name}" if is_storage else name)
    globus.make_folder(spot.endpoint, folder)
    try:
        _remove(globus, spot.endpoint, folder)
    except GogglesError as error:
        raise Unavailable(f"{folder} was made, and not removed: {error.message}", "remove it by hand") from error
    return "done"


def _remove(globus: Globus, endpoint: str, folder: str) -> None:
    task, deadline = globus.remove(endpoint, folder), time.monotonic() + PATIENCE
    while (status := globus.task(task)["status"]) != "SUCCEEDED":
        if status != "ACTIVE" or time.monotonic() > deadline:
            raise Unavailable(f"the task for it is {status}")
        time.sleep(PAUSE)
