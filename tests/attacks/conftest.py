"""A site of real processes that is attacked, and a look at it from outside.

Law: a module ends with the site at rest, `fsck` silent, every process alive, and no error in any log that was not
meant; what an attack did to memory and to the time that honest callers wait is measured by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.attacks.hostile import Bytes, Calls

from goggles.client.session import Session
from goggles.roles import Role
from goggles.testing.cluster import Cluster
from goggles.testing.fsck import fsck

QUICK = ("--grace", "1", "--heartbeat", "0.3")
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A site that is a librarian too, with accounts."""
    made = Cluster(tmp_path_factory.mktemp("attacked") / "site", nameserver_flags=QUICK)
    made.certificates.files("librarian", Role.LIBRARIAN)
    with made:
        with made.connect() as fs:
            fs.write("/kept", b"kept")
            fs.mkdir("/full")
        yield made
        assert made.nameserver is not None
        assert made.nameserver.running
        assert all(process.running for process in made.storages.values())
        made.wait_settled(60)
    assert fsck(made.database, {name: made.root(name) for name in made.names}) == []
    assert [line for name in ("nameserver", *made.names) for line in errors(made, name)] == []


@pytest.fixture
def fs(site: Cluster) -> Iterator[Session]:
    with site.connect() as session:
        yield session


@pytest.fixture(autouse=True)
def _unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test with `fs` leaves the tree as it was."""
    if "fs" not in request.fixturenames:
        yield
        return
    session: Session = request.getfixturevalue("fs")
    before = list(session.find("/"))
    yield
    assert list(session.find("/")) == before


def errors(site: Cluster, name: str) -> list[str]:
    """The lines of a log that tell of a bug."""
    text = (site.folder / f"{name}.log").read_text(errors="replace")
    return re.findall(r"^.* (?:ERROR|CRITICAL) .*$|^    \| .*$", text, re.MULTILINE)


def resident(site: Cluster, name: str = "nameserver") -> int:
    """MiB of memory that a process has now."""
    process = site.nameserver if name == "nameserver" else site.storages[name]
    assert process is not None
    return int(psutil.Process(process.pid).memory_info().rss // MIB)


def files(site: Cluster, name: str = "mallory", role: Role = Role.CLIENT) -> tuple[Path, Path]:
    """The certificate that an attacker has, and its key."""
    return site.certificates.files(name, role)


def calls(
    site: Cluster, name: str = "mallory", role: Role = Role.CLIENT, at: str = "", alpn: str = "goggles-rpc"
) -> Calls:
    """A hostile line to the nameserver, or to the storage `at`."""
    return Calls(site.ports[at] if at else site.port, files(site, name, role), alpn)


def data(site: Cluster, at: str = "alice", name: str = "mallory", role: Role = Role.CLIENT) -> Bytes:
    """A hostile line to the data plane of a storage."""
    return Bytes(site.ports[at], files(site, name, role))
