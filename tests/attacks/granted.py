"""What a nameserver granted an attacker, and what comes of using it otherwise."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.attacks import hostile as h
from tests.attacks.conftest import calls, data
from tests.attacks.hostile import Bytes, Refused

from goggles.testing.cluster import Cluster

BODY = b"of mallory"
SHA = hashlib.sha256(BODY).hexdigest()


class Opened:
    """An upload of an attacker, with its way to one storage; `grant` is good for that one and nobody else."""

    def __init__(self, site: Cluster, path: str, size: int = len(BODY)) -> None:
        self.site = site
        with calls(site) as line:
            ticket = dict(line.value("open_write", path, size, len(site.names)))
        self.upload = ticket["upload"]
        self.hops = [dict(hop) for hop in ticket["chain"]]
        self.first = self.hops[0]
        self.name: str = self.first["name"]
        self.grant: bytes = self.first["grant"]
        self.after: int = self.first["after"]

    def line(self) -> Bytes:
        return data(self.site, self.name)

    def send(self, body: bytes = BODY, end: Any = None, grant: bytes = b"", line: Bytes | None = None) -> Any:
        with line or self.line() as plane:
            plane.send(h.ASK, ("write", grant or self.grant, self.after, ()))
            plane.frame(h.DATA, body)
            plane.send(h.END, (len(body), hashlib.sha256(body).hexdigest()) if end is None else end)
            return plane.answer()

    def commit(self, sha256: str = SHA, size: int = len(BODY)) -> Any:
        with calls(self.site) as line:
            return line.value("commit", self.upload, size, sha256)

    def drop(self) -> None:
        with calls(self.site) as line:
            line.value("abandon", self.upload)


def read_hop(site: Cluster, path: str = "/kept", name: str = "mallory") -> dict[str, Any]:
    with calls(site, name) as line:
        return dict(dict(line.value("open_read", path))["hops"][0])


def refusal(line: Bytes, *request: Any) -> str:
    with line, pytest.raises(Refused) as error:
        line.ask(*request)
    assert "internal" not in error.value.code
    return error.value.code
