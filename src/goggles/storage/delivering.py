"""The receiving end of a push from another site's storage.

Law: a push needs a grant of our own nameserver for this very arrival and this very storage of the other site.  What
has come stays when the connection breaks; the sender asks how much there is and goes on behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from goggles.contracts.grants import Grant
from goggles.errors import BadRequest, ProtocolError
from goggles.storage.arrivals import Arrivals
from goggles.wire.data import Buffer, DataLink, Kind

Check = Callable[[bytes], Grant]


def arrived(link: DataLink, arrivals: Arrivals, request: tuple[object, ...], check: Check) -> None:
    """("arrived", grant): how many bytes are here."""
    match request:
        case ("arrived", bytes(grant)):
            link.send_value(Kind.OK, (arrivals.size(check(grant).subject),))
        case _:
            raise BadRequest("a request must be (arrived, grant)")


def append(link: DataLink, arrivals: Arrivals, request: tuple[object, ...], check: Check) -> None:
    """("append", grant, offset), then DATA until END: written behind `offset`; how many bytes are here then."""
    match request:
        case ("append", bytes(sealed), int(offset)) if offset >= 0:
            grant = check(sealed)
        case _:
            raise BadRequest("a request must be (append, grant, offset)")
    buffer, have = Buffer(), offset
    with arrivals.append(grant.subject, offset) as file:
        while True:
            kind, _ = link.receive(buffer)
            if kind is not Kind.DATA:
                break
            have += buffer.used
            if have > grant.size:
                raise BadRequest(f"more than the {grant.size} bytes that were announced")
            arrivals.need_wanted(grant.subject)
            _write(file.fileno(), buffer.data)
    if kind is not Kind.END:
        raise ProtocolError(f"{link.peer} sent {kind.name} in the middle of a file")
    link.send_value(Kind.OK, (have,))


def _write(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]
