"""A handshake that is cut off is a lost connection, which is tried again, and no fault of a certificate."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from goggles.errors import ConnectionLost
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Role
from goggles.testing.cluster import Certificates
from goggles.wire.dial import Address, Dialer


def test_a_server_that_dies_in_the_handshake_is_lost(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certs")
    dialer = Dialer(Contexts(PkiFiles(certificates.ca, *certificates.files("client", Role.CLIENT))))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            sock, _ = listener.accept()
            with sock:
                while len(sock.recv(65_536)) == 65_536:  # all of the first message, so that no reset is sent
                    pass

        server = threading.Thread(target=hang_up)
        server.start()
        with pytest.raises(ConnectionLost):
            dialer.rpc(Address("127.0.0.1", listener.getsockname()[1]), Role.NAMESERVER)
        server.join()
