"""What an offer of a file must be like, and what is offered of a storage in return.  Pure."""

from __future__ import annotations

import json

from goggles import checksums
from goggles.contracts.peering import Offer
from goggles.errors import BadRequest
from goggles.paths import DfsPath, parse

MAX_SIZE = 1 << 60
LATEST = 1e11  # seconds since 1970: beyond the year 5000
IS_HEX = frozenset("0123456789abcdef")


def check_offer(offer: Offer) -> DfsPath:
    """The path of an offer that makes sense; BadRequest, BadPath."""
    if len(offer.id) != 32 or not IS_HEX.issuperset(offer.id):
        raise BadRequest("the id of a transfer has 32 hexadecimal digits")
    if not 0 <= offer.size <= MAX_SIZE:
        raise BadRequest(f"a file can not have {offer.size!r} bytes")
    if not checksums.is_digest(offer.sha256):
        raise BadRequest(f"{offer.sha256[:80]!r} is not a sha256")
    if not 0 <= offer.made_at < LATEST:
        raise BadRequest("a file can not have been made at such a time")
    if "\0" in offer.uploader + offer.source:
        raise BadRequest("the uploader and the source of a file are texts without NUL")
    path = parse(offer.path)
    if path == "/":
        raise BadRequest("/ is a directory")
    return path


def offered(facilities: str) -> str:
    """Of what a storage of ours says of itself, that which is for other sites."""
    return json.dumps({name: how for name, how in json.loads(facilities).items() if how.get("available", True)})
