"""Certificates: what is made works in a real handshake, what is wrong with one is said in words."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from goggles.cli.certs import main
from goggles.clock import ManualClock, SystemClock
from goggles.errors import AlreadyExists, CertificateError, GogglesError
from goggles.pki.authority import Authority, load_certificate
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.doctor import Expected, diagnose
from goggles.pki.identity import Identity
from goggles.roles import Role

HOME = Path(__file__).resolve().parents[3]


@pytest.fixture
def ca(tmp_path):
    return Authority.create(tmp_path / "ca")


def issue(ca, name="victor", role=Role.STORAGE, hosts=("localhost",), days=30.0):
    identity = Identity(ca.site, role, name)
    certificate, key = ca.issue(identity, list(hosts), days).write(ca.folder / name)
    return PkiFiles(ca.folder / "rootCA.crt", certificate, key)


def shake_hands(server: PkiFiles, client: PkiFiles, host="localhost", session=None, keep=None):
    """Who each side says the other is; raises what the client or the server raised."""
    ours, theirs, seen = Contexts(server, 0.0), keep or Contexts(client, 0.0), []
    left, right = socket.socketpair()

    def serve():
        try:
            with ours.server().wrap_socket(left, server_side=True) as sock:
                seen.append(ours.identify(sock))
                sock.sendall(b"x")
                sock.recv(1)
        except (OSError, GogglesError) as error:
            seen.append(error)
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with theirs.client().wrap_socket(right, server_hostname=host, session=session) as sock:
            peer = theirs.identify(sock)
            answered = sock.recv(1)
            kept = sock.session
            if answered:
                sock.sendall(b"y")
    finally:
        right.close()
        thread.join(5)
    if isinstance(seen[0], Exception):
        raise seen[0]
    return peer, seen[0], kept


def test_both_sides_know_each_other(ca):
    peer, seen, _ = shake_hands(issue(ca, "ns", Role.NAMESERVER), issue(ca, "ann", Role.CLIENT))
    assert (str(peer), str(seen)) == ("nameserver ns", "client ann")


def test_addresses_are_names_too(ca):
    server = issue(ca, "ns", Role.NAMESERVER, ["127.0.0.1", "::1", "ns.example"])
    client = issue(ca, "ann", Role.CLIENT)
    for host in ("127.0.0.1", "::1", "ns.example"):
        assert shake_hands(server, client, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client, "127.0.0.2")


def test_another_ca_is_refused(ca, tmp_path):
    other = Authority.create(tmp_path / "other")
    with pytest.raises((ssl.SSLError, OSError)):
        shake_hands(issue(ca, "ns", Role.NAMESERVER), issue(other, "eve", Role.CLIENT))


def test_a_list_of_a_stranger_is_an_error_not_an_empty_list(ca, tmp_path):
    files, other = issue(ca), Authority.create(tmp_path / "other")
    other.revoke(other.certificate)
    shutil.copy(other.crl_path, ca.crl_path)
    with pytest.raises(CertificateError, match="not signed by a CA"):
        Contexts(files)


def test_new_files_count_without_a_restart_and_broken_ones_change_nothing(ca, caplog):
    files = issue(ca, days=1)
    contexts = Contexts(files, 0.0)
    before = contexts.server()
    assert contexts.expires_soon(SystemClock().now())
    files.certfile.write_text("not a certificate")
    assert contexts.server() is before
    assert "old ones stay in use" in caplog.text
    good = ca.issue(Identity(ca.site, Role.STORAGE, "victor"), ["localhost"], 800)
    files.keyfile.write_bytes(good.key)
    files.certfile.write_bytes(good.certificate)
    assert contexts.server() is not before
    assert not contexts.expires_soon(SystemClock().now())


def test_renewal_keeps_key_and_names(ca):
    files = issue(ca, hosts=["localhost", "10.0.0.7"], days=1)
    key, old = files.keyfile.read_bytes(), load_certificate(files.certfile)
    new = ca.renew(files.certfile)
    assert (files.keyfile.read_bytes(), new.public_key()) == (key, old.public_key())
    assert new.serial_number != old.serial_number
    assert diagnose(files.certfile, files.ca_cert, SystemClock(), expected=Expected(host="10.0.0.7")) == []


def test_keys_are_for_their_owner_only_and_never_overwritten(ca):
    files = issue(ca)
    for key in (files.keyfile, ca.folder / "rootCA.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(AlreadyExists):
        issue(ca)
    with pytest.raises(AlreadyExists):
        Authority.create(ca.folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda ca, f: f.certfile.unlink(), "can not be read"),
        (lambda ca, f: f.keyfile.write_text("junk"), "not an unencrypted private key"),
        (lambda ca, f: f.ca_cert.write_text("junk"), "not a certificate"),
        (lambda ca, f: shutil.copy(issue(ca, "bob").keyfile, f.keyfile), "is not the key of"),
    ],
    ids=["no certificate", "bad key", "bad ca", "key of another"],
)
def test_credentials_that_do_not_fit_are_refused_in_words(ca, spoil, said):
    files = issue(ca)
    spoil(ca, files)
    with pytest.raises(CertificateError, match=said):
        Contexts(files)


def test_an_expired_certificate_is_refused_at_the_start(ca):
    with pytest.raises(CertificateError, match="ran out"):
        Contexts(issue(ca, days=-1 / 48))


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", "ä", "-x", "x" * 64, "a\0b"])
def test_hostile_names_are_no_identities(name):
    with pytest.raises(CertificateError):
        Identity.from_uri(f"spiffe://goggles/storage/{name}")


@pytest.mark.parametrize("uris", [[], ["https://example"], ["spiffe://g/storage/a", "spiffe://g/storage/b"]])
def test_no_identity_or_two_speak_for_nobody(uris):
    with pytest.raises(CertificateError):
        Identity.from_names(uris)


# --- the doctor ------------------------------------------------------------------------------


def findings(files, **more):
    return [
        finding.what for finding in diagnose(files.certfile, files.ca_cert, more.pop("clock", SystemClock()), **more)
    ]


def test_the_doctor_finds_nothing_on_a_healthy_one(ca):
    files = issue(ca, days=100)
    assert findings(files, key=files.keyfile, expected=Expected(Role.STORAGE, "victor", "localhost")) == []


def test_the_doctor_names_every_reason(ca, tmp_path):
    files = issue(ca, days=100)
    other = Authority.create(tmp_path / "other")
    assert "its role is storage, not client" in findings(files, expected=Expected(Role.CLIENT))
    assert "its name is victor, not bob" in findings(files, expected=Expected(name="bob"))
    assert "it is for localhost, not for elsewhere" in findings(files, expected=Expected(host="elsewhere"))
    assert any("ran out" in what for what in findings(files, clock=ManualClock(4e9)))
    assert any("not valid before" in what for what in findings(files, clock=ManualClock(1e9)))
    assert any(
        "another CA" in what for what in findings(PkiFiles(other.folder / "rootCA.crt", files.certfile, files.keyfile))
    )
    assert any("is not its key" in what for what in findings(files, key=issue(ca, "bob").keyfile))
    ca.revoke(load_certificate(files.certfile))
    assert any("was revoked" in what for what in findings(files))


# --- the program and the Makefile ------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A copy of certs/ as it stands in a fresh checkout."""
    copy = tmp_path / "certs"
    shutil.copytree(
        HOME / "certs", copy, ignore=lambda _, names: {n for n in names if n not in ("Makefile", "README.md")}
    )
    (tmp_path / "src").symlink_to(HOME / "src")
    (tmp_path / "venv").symlink_to(HOME / "venv")
    return copy


def make(folder, *words):
    return subprocess.run(["make", "-s", *words], cwd=folder, capture_output=True, text=True, check=False)


def test_make_ca_and_peer_ask_nothing(folder):
    assert make(folder, "ca").returncode == 0
    done = make(folder, "peer", "NAME=victor", "ROLE=storage", "HOSTS=victor,localhost,127.0.0.1")
    assert done.returncode == 0, done.stderr
    files = PkiFiles(folder / "rootCA.crt", folder / "victor/victor.crt", folder / "victor/victor.key")
    assert str(Contexts(files).identity) == "storage victor"
    assert make(folder, "check", "NAME=victor", "ROLE=storage", "HOST=victor").returncode == 0
    assert "not client" in make(folder, "check", "NAME=victor", "ROLE=client").stdout
    assert make(folder, "renew", "NAME=victor").returncode == 0
    assert make(folder, "revoke", "NAME=victor").returncode == 0
    assert "was revoked" not in make(folder, "check", "NAME=victor").stderr
    again = (folder / "rootCA.key").read_bytes()
    assert make(folder, "ca").returncode == 0
    assert (folder / "rootCA.key").read_bytes() == again


@pytest.mark.parametrize(
    "words",
    [["peer"], ["peer", "NAME=../x"], ["peer", "NAME=a", "ROLE=king"], ["revoke", "NAME=nobody"], ["check"]],
    ids=" ".join,
)
def test_wrong_requests_are_refused_in_one_line(folder, words):
    make(folder, "ca")
    done = make(folder, *words)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout


def test_a_running_peer_is_asked_for_its_certificate(ca, capsys):
    contexts = Contexts(issue(ca, "ns", Role.NAMESERVER, ["localhost"], days=100))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            plain, _ = listener.accept()
            try:
                contexts.server().wrap_socket(plain, server_side=True).recv(1)
            except OSError:
                plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        where = f"localhost:{listener.getsockname()[1]}"
        code = main(["--folder", str(ca.folder), "check", "--connect", where, "--role", "storage"])
        thread.join(5)
    assert (code, "its role is nameserver, not storage" in capsys.readouterr().out) == (1, True)


def test_a_port_without_tls_is_said_to_be_one(ca, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            plain, _ = listener.accept()
            plain.sendall(b"220 hello\r\n" * 20)
            plain.close()

        thread = threading.Thread(target=serve)
        thread.start()
        code = main(["--folder", str(ca.folder), "check", "--connect", f"localhost:{listener.getsockname()[1]}"])
        thread.join(5)
    assert code == 1
    assert "BAD" in capsys.readouterr().out


def test_the_openssl_commands_of_the_readme_work(tmp_path, capsys):
    text = (HOME / "certs/README.md").read_text()
    script = text.split("```sh\n")[1].split("```")[0]
    subprocess.run(["sh", "-e"], input=script, text=True, cwd=tmp_path, check=True, capture_output=True)
    files = PkiFiles(tmp_path / "ownCA.crt", tmp_path / "victor.crt", tmp_path / "victor.key")
    assert str(shake_hands(files, files, "victor")[0]) == "storage victor"
    names = ["--cert", str(files.certfile), "--key", str(files.keyfile), "--ca_cert", str(files.ca_cert)]
    assert main(["check", *names, "--host", "victor"]) == 0
    assert "nothing speaks against" in capsys.readouterr().out
    assert os.stat(files.keyfile).st_mode & 0o077 == 0
