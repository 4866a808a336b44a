"""Two sites that trust each other: who counts as whose, in real handshakes."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from goggles.errors import CertificateError
from goggles.pki.authority import Authority
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.roles import Role

VISITORS = frozenset({Role.LIBRARIAN})


@pytest.fixture
def home(tmp_path):
    return Authority.create(tmp_path / "home", "here")


@pytest.fixture
def away(tmp_path):
    return Authority.create(tmp_path / "away", "there")


def contexts(ca, trusted, name, role, site=""):
    """Credentials from `ca`, trusting `trusted` as the CA of another site."""
    files = ca.issue(Identity(site or ca.site, role, name), ["localhost"], 10).write(ca.folder / name)
    return Contexts(PkiFiles(ca.folder / "rootCA.crt", *files, peer_ca=trusted.folder / "rootCA.crt"), 0.0)


def meet(server, client, visitors=VISITORS):
    """What the server makes of the client."""
    left, right = socket.socketpair()
    answer = []

    def serve():
        try:
            with server.server().wrap_socket(left, server_side=True) as sock:
                answer.append(server.identify(sock, visitors))
                sock.sendall(b"x")
        except (OSError, CertificateError) as error:
            answer.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.client().wrap_socket(right, server_hostname="localhost") as sock:
        try:
            sock.recv(1)
        except ssl.SSLError:
            pass
    thread.join(5)
    return answer[0]


@pytest.fixture
def server(home, away):
    return contexts(home, away, "nameserver", Role.NAMESERVER)


def test_a_librarian_of_another_site_is_a_visitor(home, away, server):
    assert meet(server, contexts(away, home, "there", Role.LIBRARIAN)).uri == "spiffe://there/librarian/there"


@pytest.mark.parametrize("role", [Role.ADMIN, Role.CLIENT, Role.STORAGE, Role.NAMESERVER])
def test_nobody_else_of_another_site_has_any_business_here(home, away, server, role):
    assert "of another site" in str(meet(server, contexts(away, home, "mallory", role)))


def test_where_no_visitors_are_expected_none_come_in(home, away, server):
    assert "of another site" in str(meet(server, contexts(away, home, "there", Role.LIBRARIAN), frozenset()))


@pytest.mark.parametrize("role", [Role.ADMIN, Role.STORAGE, Role.LIBRARIAN])
def test_the_ca_of_another_site_can_not_speak_for_ours(home, away, server, role):
    assert "another CA issued it" in str(meet(server, contexts(away, home, "mallory", role, site="here")))


def test_our_own_are_at_home(home, away, server):
    root = contexts(home, away, "root", Role.ADMIN)
    assert [meet(server, root).role for _ in range(2)] == [Role.ADMIN, Role.ADMIN]
