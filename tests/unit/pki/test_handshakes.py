"""Who is let in and who is not, in real handshakes over a pair of sockets."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import timeit
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from goggles.clock import ManualClock, SystemClock
from goggles.errors import CertificateError, GogglesError
from goggles.pki.authority import Authority
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.identity import Identity
from goggles.pki.pem import load_certificate, write_file
from goggles.roles import Role


@pytest.fixture
def ca(tmp_path):
    return Authority.create(tmp_path / "ca")


def issue(ca, name="victor", role=Role.STORAGE, hosts=("localhost",), days=100.0, site=""):
    certificate, key = ca.issue(Identity(site or ca.site, role, name), list(hosts), days).write(ca.folder / name)
    return PkiFiles(ca.folder / "rootCA.crt", certificate, key)


@pytest.fixture
def server(ca):
    return Contexts(issue(ca, "ns", Role.NAMESERVER), 0.0)


@pytest.fixture
def client(ca):
    return Contexts(issue(ca, "ann", Role.CLIENT), 0.0)


class Shaken:
    """What came of a handshake: an identity or an error on each side, and the session to come back with."""

    def __init__(self, server, context, host="localhost", session=None):
        self.server = self.client = self.session = self.serial = None
        self.resumed, self.alpn = False, None
        left, right = socket.socketpair()
        left.settimeout(5)
        right.settimeout(5)
        thread = threading.Thread(target=self._serve, args=(server, left))
        thread.start()
        try:
            with context.wrap_socket(right, server_hostname=host, session=session) as sock:
                self.client = sock.recv(1)
                self.session, self.resumed, self.alpn = sock.session, sock.session_reused, sock.selected_alpn_protocol()
        except (OSError, ValueError) as error:
            self.client = error
        finally:
            right.close()
            thread.join(5)

    def _serve(self, contexts, left):
        try:
            with contexts.server().wrap_socket(left, server_side=True) as sock:
                self.server = contexts.identify(sock)
                self.serial = contexts.peer_serial(sock)
                sock.sendall(b"x")
        except (OSError, GogglesError) as error:
            self.server = error
        finally:
            left.close()


def test_the_server_knows_its_client(server, client):
    shaken = Shaken(server, client.client())
    assert (str(shaken.server), shaken.client) == ("client ann", b"x")


def test_a_session_is_resumed_and_its_holder_still_known(server, client):
    again = Shaken(server, client.client(), session=Shaken(server, client.client()).session)
    assert (again.resumed, str(again.server)) == (True, "client ann")


def test_a_revoked_client_does_not_come_back_with_its_session(ca, server, client):
    first = Shaken(server, client.client())
    assert not server.is_revoked(first.serial)
    ca.revoke(load_certificate(ca.folder / "ann/ann.crt"))
    again = Shaken(server, client.client(), session=first.session)
    assert (again.resumed, type(again.server)) == (True, CertificateError)
    assert "revoked" in str(again.server)
    assert server.is_revoked(first.serial)


def test_an_expired_client_does_not_come_back_with_its_session(ca, client):
    clock = ManualClock(SystemClock().now())
    server = Contexts(issue(ca, "ns", Role.NAMESERVER, days=800), 0.0, clock)
    first = Shaken(server, client.client())
    clock.advance(101 * 86_400)
    again = Shaken(server, client.client(), session=first.session)
    assert again.resumed
    assert "has expired" in str(again.server)


def test_an_expired_client_is_refused(ca, server):
    files = issue(ca, "late", Role.CLIENT, days=-1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca_cert)
    context.load_cert_chain(files.certfile, files.keyfile)
    assert "expired" in str(Shaken(server, context).server)


def test_a_ca_that_is_no_longer_trusted_lets_nobody_back_in(ca, tmp_path, client):
    other = Authority.create(tmp_path / "other", "elsewhere")
    files = issue(other, "ns", Role.NAMESERVER, site=ca.site)
    both = tmp_path / "both.crt"
    both.write_bytes(files.ca_cert.read_bytes() + (ca.folder / "rootCA.crt").read_bytes())
    server = Contexts(PkiFiles(both, files.certfile, files.keyfile), 0.0)
    theirs = Contexts(PkiFiles(both, ca.folder / "ann/ann.crt", ca.folder / "ann/ann.key"), 0.0)
    first = theirs.client()
    shaken = Shaken(server, first)
    assert str(shaken.server) == "client ann"
    write_file(both, files.ca_cert.read_bytes(), 0o644)
    assert isinstance(Shaken(server, first, session=shaken.session).server, ssl.SSLError)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "ns.example"])
def test_addresses_and_names_are_both_hosts(ca, client, host):
    server = Contexts(issue(ca, "ns", Role.NAMESERVER, ["127.0.0.1", "::1", "ns.example"]), 0.0)
    assert Shaken(server, client.client(), host).client == b"x"


def test_a_common_name_is_no_host(ca, client):
    server = Contexts(issue(ca, "ns", Role.NAMESERVER, ["127.0.0.1"]), 0.0)
    assert isinstance(Shaken(server, client.client(), "ns").client, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("host", ["127.0.0.2", "other.example", "ns"])
def test_another_host_is_refused(server, client, host):
    assert isinstance(Shaken(server, client.client(), host).client, ssl.SSLCertVerificationError)


def test_a_ca_of_the_same_name_is_another_ca(tmp_path, server):
    other = Authority.create(tmp_path / "other")
    files = issue(other, "ann", Role.CLIENT)
    assert isinstance(Shaken(server, Contexts(files).client()).client, ssl.SSLCertVerificationError)
    blind = Contexts(files).client()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    assert isinstance(Shaken(server, blind).server, ssl.SSLError)


def test_a_client_without_a_certificate_is_refused(ca, server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.folder / "rootCA.crt")
    assert isinstance(Shaken(server, context).server, ssl.SSLError)


def test_older_tls_is_refused(ca, server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.folder / "rootCA.crt")
    context.load_cert_chain(ca.folder / "ns/ns.crt", ca.folder / "ns/ns.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert isinstance(Shaken(server, context).server, ssl.SSLError)


@pytest.mark.parametrize(("asked", "got"), [([], None), (["goggles-data"], "goggles-data"), (["h2"], None)])
def test_what_is_spoken_is_chosen_by_the_client_and_may_be_left_open(ca, server, client, asked, got):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.folder / "rootCA.crt")
    context.load_cert_chain(ca.folder / "ann/ann.crt", ca.folder / "ann/ann.key")
    if asked:
        context.set_alpn_protocols(asked)
    shaken = Shaken(server, context)
    assert (shaken.alpn, shaken.client) == (got, b"x")
    assert Shaken(server, client.client("goggles-data")).alpn == "goggles-data"


def put_uris(ca, files, *uris):
    """Replace the certificate by one of the same CA and key with these URIs."""
    old, key = load_certificate(files.certfile), ca._key
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName("localhost")]
    made = builder.add_extension(x509.SubjectAlternativeName(names), False).sign(key, old.signature_hash_algorithm)
    write_file(files.certfile, made.public_bytes(Encoding.PEM), 0o644)


@pytest.mark.parametrize("uris", [(), ("https://example",), ("spiffe://g/client/a", "spiffe://g/client/b")])
def test_a_certificate_with_no_identity_or_with_two_speaks_for_nobody(ca, server, uris):
    files = issue(ca, "odd", Role.CLIENT)
    put_uris(ca, files, *uris)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca_cert)
    context.load_cert_chain(files.certfile, files.keyfile)
    assert isinstance(Shaken(server, context).server, CertificateError)
    with pytest.raises(CertificateError, match="spiffe"):
        Contexts(files)


# --- files that change while the program runs ------------------------------------------------


def test_a_renewed_certificate_is_used_without_a_restart(ca, server, client):
    before = Shaken(server, client.client()).serial
    ca.renew(ca.folder / "ann/ann.crt")
    assert Shaken(server, client.client()).serial != before


def test_contexts_are_kept_while_nothing_changes(server):
    assert server.server() is server.server()
    assert server.client() is server.client()


def test_files_are_looked_at_again_only_after_a_while(ca):
    clock = ManualClock(SystemClock().now())
    contexts = Contexts(issue(ca), 5.0, clock)
    before = contexts.server()
    ca.renew(ca.folder / "victor/victor.crt")
    clock.advance(4.9)
    assert contexts.server() is before
    clock.advance(0.2)
    assert contexts.server() is not before


def test_a_revocation_counts_also_while_the_own_certificate_is_broken(ca, server, client):
    serial = Shaken(server, client.client()).serial
    (ca.folder / "ns/ns.crt").write_text("half a fi")
    assert str(Shaken(server, client.client()).server) == "client ann"
    ca.revoke(load_certificate(ca.folder / "ann/ann.crt"))
    assert server.is_revoked(serial)


def test_a_list_that_vanishes_is_still_honoured(ca, server, client, caplog):
    serial = Shaken(server, client.client()).serial
    ca.revoke(load_certificate(ca.folder / "ann/ann.crt"))
    assert server.is_revoked(serial)
    ca.crl_path.unlink()
    assert server.is_revoked(serial)
    assert "not there" in caplog.text


def test_a_list_of_a_stranger_changes_nothing_while_running(ca, server, client, tmp_path, caplog):
    serial = Shaken(server, client.client()).serial
    ca.revoke(load_certificate(ca.folder / "ann/ann.crt"))
    assert server.is_revoked(serial)
    other = Authority.create(tmp_path / "other")
    other.revoke(load_certificate(issue(other).certfile))
    shutil.copy(other.crl_path, ca.crl_path)
    assert server.is_revoked(serial)
    assert "not signed by" in caplog.text


def test_a_list_that_was_asked_for_must_be_there(ca):
    files = issue(ca)
    with pytest.raises(CertificateError, match="not there"):
        Contexts(PkiFiles(files.ca_cert, files.certfile, files.keyfile, ca.folder / "missing.crl"))


def test_each_list_in_the_file_counts_for_its_own_ca(ca, tmp_path):
    other, files = Authority.create(tmp_path / "other", "elsewhere"), issue(ca)
    ours, theirs = load_certificate(issue(ca, "a").certfile), load_certificate(issue(other, "b").certfile)
    ca.revoke(ours)
    other.revoke(theirs)
    files.ca_cert.write_bytes(files.ca_cert.read_bytes() + (other.folder / "rootCA.crt").read_bytes())
    ca.crl_path.write_bytes(ca.crl_path.read_bytes() + other.crl_path.read_bytes())
    contexts = Contexts(files)
    for revoked in (ours, theirs):
        assert contexts.is_revoked(f"{revoked.serial_number:X} of {revoked.issuer.rfc4514_string()}")
    assert not contexts.is_revoked(f"{ours.serial_number:X} of {theirs.issuer.rfc4514_string()}")


def test_the_certificate_of_another_is_not_taken_up_while_running(ca, caplog):
    files, bob = issue(ca), issue(ca, "bob")
    contexts = Contexts(files, 0.0)
    before = contexts.server()
    shutil.copy(bob.keyfile, files.keyfile)
    shutil.copy(bob.certfile, files.certfile)
    assert (contexts.server() is before, str(contexts.identity)) == (True, "storage victor")
    assert "storage bob" in caplog.text


def test_a_file_that_becomes_readable_is_noticed(ca):
    files = issue(ca)
    contexts = Contexts(files, 0.0)
    before = contexts.server()
    os.chmod(files.certfile, 0o640)
    assert contexts.server() is not before


# --- at the start ----------------------------------------------------------------------------


def test_a_key_that_others_can_read_is_warned_of(ca, caplog):
    files = issue(ca)
    os.chmod(files.keyfile, 0o644)
    Contexts(files)
    assert "chmod 600" in caplog.text


def test_a_ca_of_the_same_name_is_noticed_at_the_start(ca, tmp_path):
    other, files = Authority.create(tmp_path / "other"), issue(ca)
    with pytest.raises(CertificateError, match="not issued by"):
        Contexts(PkiFiles(other.folder / "rootCA.crt", files.certfile, files.keyfile))


def test_to_know_who_it_is_takes_no_time_beside_a_handshake(server, client):
    left, right = socket.socketpair()
    spent = []

    def serve():
        with server.server().wrap_socket(left, server_side=True) as sock:
            sock.recv(1)
            spent.append(min(timeit.repeat(lambda: server.identify(sock), number=20, repeat=5)) / 20)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.client().wrap_socket(right, server_hostname="localhost") as sock:
        sock.sendall(b"x")
        thread.join(5)
    print(f"{spent[0] * 1e6:.0f} microseconds")
    assert spent[0] < 0.0003


def test_the_openssl_commands_of_the_readme_make_an_intermediate_ca_and_a_list(tmp_path):
    text = (Path(__file__).resolve().parents[3] / "certs/README.md").read_text()
    for script in (block.split("```")[0] for block in text.split("```sh\n")[1:]):
        subprocess.run(["sh", "-e"], input=script, text=True, cwd=tmp_path, check=True, capture_output=True)
    chain, key = tmp_path / "victor-chain.crt", tmp_path / "victor.key"
    for trusted in ("middle.crt", "ownCA.crt"):
        trust = shutil.copy(tmp_path / trusted, tmp_path / f"trusted-{trusted}")  # beside no list
        contexts = Contexts(PkiFiles(trust, chain, key), 0.0)
        assert str(Shaken(contexts, contexts.client(), "victor").server) == "storage victor"
    direct = Contexts(PkiFiles(tmp_path / "ownCA.crt", tmp_path / "victor.crt", key), 0.0)
    assert "revoked" in str(Shaken(direct, direct.client(), "victor").server)
