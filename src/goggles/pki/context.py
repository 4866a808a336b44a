"""The only TLS contexts of the package.

Law: TLS 1.3, a certificate from both sides, host names checked by clients.  Who the peer is, whether its certificate
has run out or was revoked, is checked here after each handshake, because a resumed TLS session skips OpenSSL's own
checks.  The files are looked at again and again: renewed certificates and new revocations count without a restart,
and a broken file changes nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from goggles.errors import CertificateError
from goggles.pki.authority import load_bundle, load_key, uris_of
from goggles.pki.identity import Identity
from goggles.pki.revocation import revoked_serials

log = logging.getLogger(__name__)
ALPN = ("goggles-rpc", "goggles-data")
WARN_DAYS = 30


@dataclass(frozen=True, slots=True)
class PkiFiles:
    """Where a process has its credentials.  `crl`: beside the CA by default, and only if it is there."""

    ca_cert: Path
    certfile: Path
    keyfile: Path
    crl: Path | None = None

    @property
    def crl_file(self) -> Path:
        return self.crl or self.ca_cert.with_suffix(".crl")

    def stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when one of the files does."""
        return tuple(_stamp(path) for path in (self.ca_cert, self.certfile, self.keyfile, self.crl_file))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was made of the files when they were last read."""

    server: ssl.SSLContext
    clients: dict[str, ssl.SSLContext]
    identity: Identity
    expires_at: float
    revoked: frozenset[str]


class Contexts:
    """The contexts of one process, from its files."""

    def __init__(self, files: PkiFiles, recheck: float = 1.0) -> None:
        self._files = files
        self._recheck = recheck
        self._lock = threading.Lock()
        self._stamps = files.stamps()
        self._looked = time.monotonic()
        self._loaded = _load(files)

    @property
    def identity(self) -> Identity:
        return self._loaded.identity

    @property
    def expires_at(self) -> float:
        """When the own certificate runs out; seconds since 1970, UTC."""
        return self._current().expires_at

    def expires_soon(self, now: float, days: float = WARN_DAYS) -> bool:
        return self.expires_at < now + days * 86_400

    def server(self) -> ssl.SSLContext:
        """For those who come to us."""
        return self._current().server

    def client(self, alpn: str = ALPN[0]) -> ssl.SSLContext:
        """For those we go to; kept, so that TLS sessions are resumed."""
        return self._current().clients[alpn]

    def identify(self, sock: ssl.SSLSocket) -> Identity:
        """Who is at the other end, or CertificateError."""
        certificate: dict[str, Any] = sock.getpeercert() or {}
        if not certificate:
            raise CertificateError("the peer showed no certificate")
        if ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
            raise CertificateError(f"the certificate of the peer ran out at {certificate['notAfter']}", "renew it")
        if certificate["serialNumber"].lstrip("0") in self._current().revoked:
            raise CertificateError("the certificate of the peer was revoked", "it needs a new one")
        return Identity.from_names([name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI"])

    def peer_serial(self, sock: ssl.SSLSocket) -> str:
        """The serial number of the peer's certificate, for `is_revoked`."""
        certificate: dict[str, Any] = sock.getpeercert() or {}
        return str(certificate.get("serialNumber", ""))

    def is_revoked(self, serial: str) -> bool:
        return serial.lstrip("0") in self._current().revoked

    def _current(self) -> _Loaded:
        now = time.monotonic()
        if now - self._looked >= self._recheck:
            with self._lock:
                if now - self._looked >= self._recheck:
                    self._looked = now
                    self._refresh()
        return self._loaded

    def _refresh(self) -> None:
        """Lock held."""
        stamps = self._files.stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._loaded = _load(self._files)
        except CertificateError as error:
            log.warning("the certificates changed and can not be used, the old ones stay in use: %s", error)
        else:
            log.info("certificates read again")


def _load(files: PkiFiles) -> _Loaded:
    certificate = _check(files)
    expires = certificate.not_valid_after_utc.timestamp()
    identity = Identity.from_names(uris_of(certificate))
    revoked = revoked_serials(files.crl_file, files.ca_cert)
    clients = {alpn: _client(files, alpn) for alpn in ALPN}
    return _Loaded(_server(files), clients, identity, expires, revoked)


def _check(files: PkiFiles) -> x509.Certificate:
    """The own certificate, once it is known that it can be used."""
    authorities, chain, key = load_bundle(files.ca_cert), load_bundle(files.certfile), load_key(files.keyfile)
    own = chain[0]
    if own.public_key() != key.public_key():
        raise CertificateError(
            f"{files.keyfile} is not the key of {files.certfile}", "they belong together: give both of one peer"
        )
    if own.not_valid_after_utc.timestamp() < time.time():
        raise CertificateError(
            f"{files.certfile} ran out on {own.not_valid_after_utc:%Y-%m-%d}", "renew it: vg-certs renew"
        )
    if own.not_valid_before_utc.timestamp() > time.time():
        raise CertificateError(
            f"{files.certfile} is not valid before {own.not_valid_before_utc}", "is the clock right?"
        )
    if not any(_issued_by(own, each) for each in (*authorities, *chain[1:])):
        raise CertificateError(
            f"{files.certfile} was not issued by a CA in {files.ca_cert}", "vg-certs check tells more"
        )
    if files.keyfile.stat().st_mode & 0o077:
        log.warning("%s can be read by others than its owner; chmod 600 it", files.keyfile)
    return own


def _issued_by(own: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        own.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _base(files: PkiFiles, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(files.ca_cert)
        context.load_cert_chain(files.certfile, files.keyfile)
    except (ssl.SSLError, OSError) as error:
        raise CertificateError(f"{files.certfile} and {files.ca_cert} can not be used: {error}") from error
    return context


def _server(files: PkiFiles) -> ssl.SSLContext:
    context = _base(files, ssl.PROTOCOL_TLS_SERVER)
    context.check_hostname = False  # of clients only their identity is checked, not where they come from
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(ALPN))
    return context


def _client(files: PkiFiles, alpn: str) -> ssl.SSLContext:
    context = _base(files, ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    context.set_alpn_protocols([alpn])
    return context


def presented_by(host: str, port: int, seconds: float = 5.0) -> list[x509.Certificate]:
    """The certificate that a server shows, believed or not; OSError (also ssl.SSLError) where it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, not trusted
    with (
        socket.create_connection((host, port), seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as sock,
    ):
        shown = sock.getpeercert(binary_form=True)
    return [x509.load_der_x509_certificate(shown)] if shown else []
