"""A storage with a good certificate, attached to a nameserver like any other, that says what a test wants it to say.

Law: it is our own storage in every other respect, so that each lie is told in the middle of a session that is real.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from goggles.roles import Role
from goggles.settings import StorageSettings
from goggles.storage.program import Storage
from goggles.testing.cluster import Cluster, free_port
from goggles.wire.data import Buffer, DataLink
from goggles.wire.service import Caller

Request = tuple[Any, ...]
Lie = Callable[[DataLink, Request], None]
NAME = "eve"


class Liar:
    """`lies`: what it does with a request of the data plane, by the first word of it; `asked`: those it was sent."""

    def __init__(self, site: Cluster, folder: Path) -> None:
        certificate, key = site.certificates.files(NAME, Role.STORAGE)
        self.root = folder
        self.storage = Storage(
            StorageSettings(
                name=NAME,
                hostname="localhost",
                listen="127.0.0.1",
                port=free_port(),
                capacity=1 << 30,
                rootpath=folder,
                ns_hostname="localhost",
                ns_port=site.port,
                ca_cert=site.certificates.ca,
                certfile=certificate,
                keyfile=key,
                scrub_days=0,
            )
        )
        self.asked: list[str] = []
        self.lies: dict[str, Lie] = {}
        plane: Any = self.storage._server._doors.data.__self__  # type: ignore[union-attr]
        self._honest = plane._answer
        plane._answer = self._answer

    def __enter__(self) -> Self:
        self.storage.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.storage.stop()

    def _answer(self, link: DataLink, caller: Caller, request: Request) -> None:
        self.asked.append(str(request[0]))
        lie = self.lies.get(str(request[0]))
        if lie is None:
            self._honest(link, caller, request)
        else:
            lie(link, request)


def send(link: DataLink, body: bytes) -> None:
    """One DATA frame."""
    buffer = Buffer()
    buffer.space[: len(body)] = body
    buffer.used = len(body)
    link.send_data(buffer)
