"""A site replaces its CA while it is linked: files go on, once the other has the new one (docs/certificates.md)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from goggles.errors import GogglesError
from goggles.pki.authority import Authority
from goggles.pki.identity import Identity
from goggles.roles import Role
from goggles.testing.cluster import HOSTS
from goggles.testing.network import Network

ROLES = {"nameserver": Role.NAMESERVER, "librarian": Role.LIBRARIAN, "alice": Role.STORAGE, "bob": Role.STORAGE}
ROLES |= {"admin": Role.ADMIN}
NOTICED = 3.0  # seconds in which every program has looked at its files again


def arrives(network: Network, path: str) -> bool:
    with network["source"].connect() as session:
        session.write(path, path.encode())
    network.admin("source", "run_task", "send_clone")
    try:
        network.wait_arrived("central", [path], 10)
    except GogglesError:
        return False
    with network["central"].connect() as session:
        return b"".join(session.read(path)) == path.encode()


def reissue(authority: Authority, folder: Path) -> None:
    for name, role in ROLES.items():
        made = authority.issue(Identity(authority.site, role, name), [name, *HOSTS])
        (folder / name / f"{name}.key").write_bytes(made.key)
        (folder / name / f"{name}.crt").write_bytes(made.certificate)


@pytest.mark.slow
def test_files_go_on_when_the_ca_of_a_site_is_replaced(network: Network, tmp_path: Path) -> None:
    home, theirs = network["source"].certificates.folder, network["central"].certificates.folder / "peers.crt"
    old = (home / "rootCA.crt").read_bytes()
    new = Authority.create(tmp_path / "new", "source")
    fresh = (tmp_path / "new" / "rootCA.crt").read_bytes()
    assert arrives(network, "/before")
    (home / "rootCA.crt").write_bytes(old + fresh)
    theirs.write_bytes(old + fresh)
    time.sleep(NOTICED)
    assert arrives(network, "/with both")
    reissue(new, home)
    time.sleep(NOTICED)
    assert arrives(network, "/with new certificates")
    (home / "rootCA.crt").write_bytes(fresh)
    theirs.write_bytes(old)  # the other site forgot
    time.sleep(NOTICED)
    assert not arrives(network, "/while the other site does not know the new CA")
    theirs.write_bytes(fresh)
    time.sleep(NOTICED)
    assert arrives(network, "/with the new CA alone")
    network.wait_arrived("central", ["/while the other site does not know the new CA"], 60)
