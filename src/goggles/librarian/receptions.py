"""What the answers to an offer hold: places, refusals, and the ways to a storage.

Law: what a peer says is checked here; what our storages say of themselves leaves the site only where it is meant to.
"""

from __future__ import annotations

import json

from goggles.contracts.peering import Place, Reception
from goggles.errors import Conflict, GogglesError, Unavailable
from goggles.wire import faults


def place_of(answer: object) -> Place | GogglesError:
    """The answer to one offer: a place, or why it was refused."""
    if isinstance(answer, tuple) and len(answer) == 3 and all(isinstance(part, str) for part in answer):
        return faults.from_tuple(*answer)
    try:
        place = Place.from_wire(answer)  # type: ignore[arg-type]  # whatever came; it is looked at below
        if len(place.id) == 32 and len(place.place) < 4096:
            return place
    except (TypeError, ValueError):
        pass
    return Unavailable("the answer makes no sense")


def facilities_of(reception: Reception) -> str:
    """The ways to the storage, with its address for our own data plane."""
    try:
        known = json.loads(reception.facilities)
    except ValueError as error:
        raise Conflict(f"what storage {reception.store} says of itself makes no sense") from error
    if not isinstance(known, dict) or not all(isinstance(each, dict) for each in known.values()):
        raise Conflict(f"what storage {reception.store} says of itself makes no sense")
    if "goggles" in known:
        known["goggles"] |= {"host": reception.host, "port": reception.port}
    return json.dumps(known)


def offered(facilities: str) -> str:
    """Of what a storage of ours says of itself, that which is for other sites."""
    return json.dumps({name: how for name, how in json.loads(facilities).items() if how.get("available", True)})
