"""Making, renewing and revoking: nothing is lost, nothing is overwritten; and what the doctor says of odd ones."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from goggles.cli.certs import main
from goggles.clock import ManualClock, SystemClock
from goggles.errors import AlreadyExists, CertificateError, LocalFileError
from goggles.pki.authority import Authority
from goggles.pki.context import Contexts, PkiFiles
from goggles.pki.dialling import ask
from goggles.pki.doctor import Expected, diagnose
from goggles.pki.identity import Identity
from goggles.pki.pem import hosts_of, load_certificate, write_file
from goggles.pki.revocation import label, revoked_labels
from goggles.roles import Role


@pytest.fixture
def ca(tmp_path):
    return Authority.create(tmp_path / "ca")


def issue(ca, name="victor", role=Role.STORAGE, hosts=("localhost",), days=100.0):
    certificate, key = ca.issue(Identity(ca.site, role, name), list(hosts), days).write(ca.folder / name)
    return PkiFiles(ca.folder / "rootCA.crt", certificate, key)


def revoked(ca):
    return revoked_labels(ca.crl_path, [ca.certificate])


def run(ca, *words):
    return main(["--folder", str(ca.folder), *words])


# --- nothing is overwritten ------------------------------------------------------------------


def test_a_ca_whose_key_is_kept_elsewhere_is_left_alone(ca, capsys):
    before = (ca.folder / "rootCA.crt").read_bytes()
    (ca.folder / "rootCA.key").unlink()
    assert run(ca, "ca") == 0
    assert "exists already" in capsys.readouterr().out
    assert (ca.folder / "rootCA.crt").read_bytes() == before
    assert not (ca.folder / "rootCA.key").exists()


def test_a_ca_that_was_interrupted_is_completed_with_its_own_key(ca):
    files, key = issue(ca), (ca.folder / "rootCA.key").read_bytes()
    (ca.folder / "rootCA.crt").unlink()
    assert run(ca, "ca") == 0
    assert (ca.folder / "rootCA.key").read_bytes() == key
    assert str(Contexts(files).identity) == "storage victor"


@pytest.mark.parametrize("gone", ["victor.crt", "victor.key"])
def test_half_a_pair_is_not_replaced(ca, gone):
    files = issue(ca)
    (files.certfile.parent / gone).unlink()
    with pytest.raises(AlreadyExists):
        issue(ca)
    assert not (files.certfile.parent / gone).exists()


def test_of_many_who_make_the_same_key_one_does_and_it_fits(ca):
    def make(_):
        try:
            return issue(ca)
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [files for files in pool.map(make, range(8)) if files]
    assert len(made) == 1
    assert str(Contexts(made[0]).identity) == "storage victor"


def test_a_file_is_private_from_its_first_moment_and_whole(tmp_path):
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            for name in os.listdir(tmp_path):
                with contextlib.suppress(FileNotFoundError):  # renamed between the two looks
                    seen.add(stat.S_IMODE(os.stat(tmp_path / name).st_mode))

    old = os.umask(0)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        write_file(tmp_path / "a.key", b"x" * 1_000_000, 0o600)
        while not seen:
            threading.Event().wait(0.001)
    finally:
        os.umask(old)
        stop.set()
        thread.join()
    assert seen == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


def test_a_file_that_is_not_to_be_replaced_is_not(tmp_path):
    write_file(tmp_path / "a.key", b"first", 0o600, replace=False)
    with pytest.raises(AlreadyExists):
        write_file(tmp_path / "a.key", b"second", 0o600, replace=False)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.key", b"first")]


def test_a_folder_that_can_not_be_written_is_said_to_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalFileError, match="can not be written"):
        Authority.create(tmp_path / "file")


def test_keys_of_two_cas_are_not_mixed(ca, tmp_path):
    other = Authority.create(tmp_path / "other")
    with pytest.raises(CertificateError, match="not the key of"):
        Authority.load(other.folder / "rootCA.key", ca.folder / "rootCA.crt")


def test_the_site_is_kept_in_the_ca(tmp_path):
    Authority.create(tmp_path, "north")
    assert Authority.load(tmp_path / "rootCA.key", tmp_path / "rootCA.crt").site == "north"


# --- revoking --------------------------------------------------------------------------------


def test_what_a_peer_had_before_it_was_renewed_is_revoked_too(ca):
    files, bystander = issue(ca), issue(ca, "bob")
    old = load_certificate(files.certfile)
    new = Authority.load(ca.folder / "rootCA.key", ca.folder / "rootCA.crt").renew(files.certfile)
    assert ca.revoke(new) == 2
    assert revoked(ca) == {label(old), label(new)}
    assert label(load_certificate(bystander.certfile)) not in revoked(ca)


def test_a_revoked_peer_is_not_renewed(ca):
    files = issue(ca)
    ca.revoke(load_certificate(files.certfile))
    with pytest.raises(CertificateError, match="was revoked"):
        ca.renew(files.certfile)


def test_revocations_made_at_the_same_time_are_all_kept(ca):
    peers = [load_certificate(issue(ca, f"n{number}").certfile) for number in range(8)]
    hands = [Authority.load(ca.folder / "rootCA.key", ca.folder / "rootCA.crt") for _ in peers]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda hand, peer: hand.revoke(peer), hands, peers))
    assert revoked(ca) == {label(peer) for peer in peers}


def test_a_certificate_of_another_ca_is_neither_revoked_nor_renewed(ca, tmp_path):
    files = issue(Authority.create(tmp_path / "other"))
    with pytest.raises(CertificateError, match="not issued by"):
        ca.revoke(load_certificate(files.certfile))
    with pytest.raises(CertificateError, match="not issued by"):
        ca.renew(files.certfile)


@pytest.mark.parametrize("text", ["junk", "", "-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n"])
def test_a_list_that_can_not_be_read_is_not_overwritten(ca, text):
    certificate = load_certificate(issue(ca).certfile)
    ca.crl_path.write_text(text)
    with pytest.raises(CertificateError, match="not a certificate revocation list"):
        ca.revoke(certificate)
    assert ca.crl_path.read_text() == text


def test_a_list_of_a_stranger_is_not_taken_over(ca, tmp_path):
    other = Authority.create(tmp_path / "other")
    other.revoke(load_certificate(issue(other).certfile))
    shutil.copy(other.crl_path, ca.crl_path)
    with pytest.raises(CertificateError, match="not signed by"):
        ca.revoke(load_certificate(issue(ca).certfile))


def test_lists_of_other_cas_in_the_file_stay(ca, tmp_path):
    other = Authority.create(tmp_path / "other", "elsewhere")
    theirs = load_certificate(issue(other, "eve").certfile)
    other.revoke(theirs)
    ca.revoke(load_certificate(issue(ca).certfile))
    ca.crl_path.write_bytes(ca.crl_path.read_bytes() + other.crl_path.read_bytes())
    ca.revoke(load_certificate(issue(ca, "bob").certfile))
    assert label(theirs) in revoked_labels(ca.crl_path, [ca.certificate, other.certificate])


# --- hosts, names, days ----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["a b", "..", "-x", "x" * 300, "1.2.3.256", "fe80::1%eth0", "a/b", "a\0", "", "[::1]"])
def test_what_is_no_host_is_refused(ca, host):
    with pytest.raises(CertificateError, match="neither a host name nor an IP address"):
        issue(ca, hosts=[host])


def test_hosts_are_names_and_addresses_once_each(ca):
    hosts = ["ns", "a_b.example", "*.example.org", "müller.example", "10.0.0.7", "::1", "ns"]
    found = hosts_of(load_certificate(issue(ca, hosts=hosts).certfile))
    assert found == ["ns", "a_b.example", "*.example.org", "xn--mller-kva.example", "10.0.0.7", "::1"]


@pytest.mark.parametrize("name", ["../up", "a/b", "a b", "ä", "-x", "x" * 64, "a\0b", ""])
def test_hostile_names_get_no_certificate(ca, name):
    with pytest.raises(CertificateError):
        ca.issue(Identity(ca.site, Role.CLIENT, name), ["localhost"])


def test_no_certificate_outlives_its_ca(ca):
    until = load_certificate(issue(ca, days=9000).certfile).not_valid_after_utc
    assert until == ca.certificate.not_valid_after_utc


# --- the doctor on odd ones ------------------------------------------------------------------


def findings(files, **more):
    found = diagnose(files.certfile, files.ca_cert, more.pop("clock", SystemClock()), **more)
    return [finding.what for finding in found if finding.bad]


def test_a_healthy_certificate_stays_healthy_when_another_is_revoked_late_in_its_life(ca):
    files = issue(ca, days=60)
    ca.revoke(load_certificate(issue(ca, "eve").certfile))
    assert findings(files, clock=ManualClock(SystemClock().now() + 50 * 86_400)) == []


def test_a_list_of_a_stranger_is_not_mistaken_for_a_wrong_ca(ca, tmp_path):
    files, other = issue(ca), Authority.create(tmp_path / "other")
    other.revoke(load_certificate(issue(other).certfile))
    shutil.copy(other.crl_path, ca.crl_path)
    (found,) = findings(files)
    assert "was not signed by a CA that is trusted here" in found


def remade(ca, old, **changes):
    """A certificate like `old`, signed by `ca`, but for the end date or the uses."""
    builder = x509.CertificateBuilder(old.issuer, old.subject, old.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(old.not_valid_before_utc)
    builder = builder.not_valid_after(changes.get("until", old.not_valid_after_utc))
    for extension in old.extensions:
        other = isinstance(extension.value, x509.ExtendedKeyUsage) and "uses" in changes
        builder = builder.add_extension(changes["uses"] if other else extension.value, extension.critical)
    return builder.sign(ca._key, old.signature_hash_algorithm)


def test_an_expired_ca_is_blamed_itself(ca):
    files = issue(ca, days=100)
    until = ca.certificate.not_valid_before_utc + datetime.timedelta(days=50)
    files.ca_cert.write_bytes(remade(ca, ca.certificate, until=until).public_bytes(Encoding.PEM))
    (found,) = findings(files, clock=ManualClock(SystemClock().now() + 60 * 86_400))
    assert "its CA (CN=goggles CA,O=goggles) has expired" in found


@pytest.mark.parametrize(
    ("role", "use", "missing"),
    [
        (Role.STORAGE, ExtendedKeyUsageOID.CLIENT_AUTH, ["it may not be used for serverAuth"]),
        (Role.STORAGE, ExtendedKeyUsageOID.SERVER_AUTH, ["it may not be used for clientAuth"]),
        (Role.CLIENT, ExtendedKeyUsageOID.CLIENT_AUTH, []),
    ],
)
def test_a_certificate_for_one_end_only_is_found(ca, role, use, missing):
    files = issue(ca, role=role)
    made = remade(ca, load_certificate(files.certfile), uses=x509.ExtendedKeyUsage([use]))
    files.certfile.write_bytes(made.public_bytes(Encoding.PEM))
    assert findings(files) == missing


def test_both_missing_files_are_named(ca, tmp_path):
    files = PkiFiles(tmp_path / "no.crt", tmp_path / "none.crt", tmp_path / "none.key")
    assert len(findings(files)) == 2


# --- the doctor on a running peer ------------------------------------------------------------


class Listening:
    """A port where `answer` is done to one caller."""

    def __init__(self, answer):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(answer,))

    def _serve(self, answer):
        plain, _ = self._listener.accept()
        with plain:
            plain.settimeout(5)
            try:
                answer(plain)
            except (OSError, CertificateError):
                pass

    def __enter__(self):
        self._thread.start()
        return self.port

    def __exit__(self, *_):
        self._thread.join(6)
        self._listener.close()


def goggles(contexts):
    def answer(plain):
        with contexts.server().wrap_socket(plain, server_side=True) as sock:
            contexts.identify(sock)
            sock.recv(1)

    return answer


def whats(shown):
    return " | ".join(finding.what for finding in shown.findings)


def test_a_peer_that_lets_us_in_is_shown_with_its_certificate(ca):
    with Listening(goggles(Contexts(issue(ca, "ns", Role.NAMESERVER)))) as port:
        shown = ask("127.0.0.1", port, issue(ca), verdict=0.1)
    assert (hosts_of(shown.chain[0]), shown.findings) == (["localhost"], [])


def test_a_peer_that_does_not_trust_our_ca_says_so(ca, tmp_path):
    stranger = issue(Authority.create(tmp_path / "other"))
    with Listening(goggles(Contexts(issue(ca, "ns", Role.NAMESERVER)))) as port:
        shown = ask("127.0.0.1", port, stranger, verdict=2)
    assert "refuses our certificate" in whats(shown)


def test_a_peer_that_has_us_revoked_hangs_up(ca):
    ours = issue(ca)
    ca.revoke(load_certificate(ours.certfile))
    with Listening(goggles(Contexts(issue(ca, "ns", Role.NAMESERVER)))) as port:
        shown = ask("127.0.0.1", port, ours, verdict=2)
    assert "hangs up right after the handshake" in whats(shown)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda plain: plain.sendall(b"220 hello\r\n" * 20), "does not speak TLS: it says b'220 hello"),
        (lambda plain: plain.recv(9000) and plain.shutdown(socket.SHUT_RDWR), "hangs up in the handshake"),
        (lambda plain: plain.recv(9000) and plain.recv(1), "says nothing within"),
    ],
    ids=["greeting", "hangs up", "silent"],
)
def test_what_is_no_tls_is_said_to_be_none(answer, said):
    with Listening(answer) as port:
        assert said in whats(ask("127.0.0.1", port, None, seconds=0.1))


def test_nobody_there_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "nobody answers" in whats(ask("127.0.0.1", port, None))


def test_the_program_asks_as_somebody(ca, capsys):
    issue(ca)
    with Listening(goggles(Contexts(issue(ca, "ns", Role.NAMESERVER)))) as port:
        code = run(ca, "check", "--connect", f"localhost:{port}", "--as", "victor", "--role", "nameserver")
    said = capsys.readouterr().out
    assert (code, "spiffe://goggles/nameserver/ns" in said, "not known" in said) == (0, True, False)


# --- the program -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["peer", "a", "--days", "nan"],
        ["peer", "a", "--days", "1e9"],
        ["peer", "a", "--role", "king"],
        ["peer", "a b"],
        ["peer", "a", "--hosts", "a b"],
        ["renew", "nobody"],
        ["revoke", "../x"],
        ["check"],
        ["check", "--connect", "x:99999"],
        ["check", "--connect", "x"],
        ["bogus"],
        [],
    ],
    ids=" ".join,
)
def test_a_wrong_request_is_one_line_and_exit_code_2(ca, capsys, words):
    assert run(ca, *words) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_show_tells_what_a_certificate_says(ca, capsys):
    issue(ca, hosts=["localhost", "10.0.0.7"])
    assert run(ca, "show", "victor") == 0
    said = capsys.readouterr().out
    assert "spiffe://goggles/storage/victor" in said
    assert "localhost, 10.0.0.7" in said


def test_expected_hosts_are_judged_as_openssl_does(ca):
    files = issue(ca, hosts=["*.example.org", "10.0.0.7"])
    assert findings(files, expected=Expected(host="a.example.org")) == []
    assert findings(files, expected=Expected(host="10.0.0.7")) == []
    for host in ("example.org", "a.b.example.org", "10.0.0.8"):
        assert findings(files, expected=Expected(host=host)) != []
