"""The only TLS contexts of the package.

Law: TLS 1.3, a certificate from both sides, host names checked by clients.  Who the peer is, whether its certificate
has expired or was revoked, is checked here after each handshake, because a resumed TLS session skips OpenSSL's own
checks.  The files are looked at again and again: renewed certificates and new revocations count without a restart,
each on its own, and what can not be used changes nothing.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cryptography import x509

from goggles.clock import Clock, SystemClock
from goggles.errors import CertificateError
from goggles.pki.home import Home, leads_to
from goggles.pki.identity import Identity
from goggles.pki.pem import hosts_of, load_bundle, load_key, uris_of
from goggles.pki.revocation import label, revoked_labels
from goggles.roles import Role

log = logging.getLogger(__name__)
ALPN = ("goggles-rpc", "goggles-data")
WARN_DAYS = 30
NOBODY: frozenset[Role] = frozenset()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PkiFiles:
    """Where a process has its credentials.  `crl`: beside the CA by default, and only if it is there; `peer_ca`: the
    CAs of other sites, a bundle of its own."""

    ca_cert: Path
    certfile: Path
    keyfile: Path
    crl: Path | None = None
    peer_ca: Path | None = None

    @property
    def trusted(self) -> tuple[Path, ...]:
        return (self.ca_cert, self.peer_ca) if self.peer_ca is not None else (self.ca_cert,)

    @property
    def crl_file(self) -> Path:
        return self.crl or self.ca_cert.with_suffix(".crl")


@dataclass(frozen=True, slots=True)
class _Tls:
    """What was made of CA, certificate and key."""

    server: ssl.SSLContext
    clients: dict[str, ssl.SSLContext]
    own: x509.Certificate
    identity: Identity
    home: Home


class _Kept(Generic[T]):
    """What `load` makes of some files, made again when they change; where that fails, what was made before."""

    def __init__(self, paths: Sequence[Path], load: Callable[[T | None], T], recheck: float, clock: Clock) -> None:
        self._paths = paths
        self._load = load
        self._recheck = recheck
        self._clock = clock
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._looked = clock.monotonic()
        self._made = load(None)

    def get(self) -> T:
        if self._clock.monotonic() - self._looked >= self._recheck:
            with self._lock:
                if self._clock.monotonic() - self._looked >= self._recheck:
                    self._looked = self._clock.monotonic()
                    self._refresh()
        return self._made

    def _refresh(self) -> None:
        """Lock held."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._made = self._load(self._made)
        except CertificateError as error:
            log.warning("certificates changed and can not be used, the old ones stay in use: %s", error)
        else:
            log.info("read again: %s", ", ".join(path.name for path in self._paths))

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; its ctime, because that also rises when it is made readable."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ctime_ns, status.st_ino, status.st_size


class Contexts:
    """The contexts of one process, from its files; CertificateError where they can not be used."""

    def __init__(self, files: PkiFiles, recheck: float = 1.0, clock: Clock | None = None) -> None:
        self._files = files
        self._clock = clock or SystemClock()
        paths = (*files.trusted, files.certfile, files.keyfile)
        self._tls = _Kept(paths, self._load_tls, recheck, self._clock)
        self._revoked = _Kept((*files.trusted, files.crl_file), self._load_revoked, recheck, self._clock)
        if label(self._tls.get().own) in self._revoked.get():
            log.warning("%s was revoked: nobody will speak to its holder", files.certfile)

    @property
    def identity(self) -> Identity:
        return self._tls.get().identity

    @property
    def expires_at(self) -> float:
        """When the own certificate runs out; seconds since 1970, UTC."""
        return self._tls.get().own.not_valid_after_utc.timestamp()

    def is_for(self, host: str) -> bool:
        """Whether the own certificate holds this host name or address."""
        return host in hosts_of(self._tls.get().own)

    def expires_soon(self, now: float, days: float = WARN_DAYS) -> bool:
        return self.expires_at < now + days * 86_400

    def server(self) -> ssl.SSLContext:
        """For those who come to us."""
        return self._tls.get().server

    def client(self, alpn: str = ALPN[0]) -> ssl.SSLContext:
        """For those we go to; kept, so that TLS sessions are resumed."""
        return self._tls.get().clients[alpn]

    def identify(self, sock: ssl.SSLSocket, visitors: frozenset[Role] = NOBODY) -> Identity:
        """Who is at the other end, or CertificateError.  `visitors`: the roles in which other sites may come."""
        peer = _shown_by(sock)
        if peer.not_valid_after_utc.timestamp() < self._clock.now():
            until = f"{peer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            raise CertificateError(f"the certificate of the peer has expired: it ran out on {until}", "renew it")
        if label(peer) in self._revoked.get():
            raise CertificateError("the certificate of the peer was revoked", "it needs a new one")
        tls, who = self._tls.get(), Identity.from_names(uris_of(peer))
        tls.home.admit(sock, peer, who, tls.identity.site, visitors)
        return who

    def peer_serial(self, sock: ssl.SSLSocket) -> str:
        """Serial number and issuer of the peer's certificate, for `is_revoked`."""
        return label(_shown_by(sock))

    def is_revoked(self, serial: str) -> bool:
        return serial in self._revoked.get()

    def _load_tls(self, before: _Tls | None) -> _Tls:
        own = _check(self._files, self._clock)
        identity = Identity.from_names(uris_of(own))
        if before is not None and identity != before.identity:
            raise CertificateError(f"{self._files.certfile} is of {identity}, not of {before.identity}", "restart")
        clients = {alpn: _client(self._files, alpn) for alpn in ALPN}
        home = Home(load_bundle(self._files.certfile), load_bundle(self._files.ca_cert))
        return _Tls(_server(self._files), clients, own, identity, home)

    def _load_revoked(self, before: frozenset[str] | None) -> frozenset[str]:
        path = self._files.crl_file
        if path.exists():
            return revoked_labels(path, [each for bundle in self._files.trusted for each in load_bundle(bundle)])
        if before or self._files.crl is not None:
            raise CertificateError(f"the revocation list {path} is not there", "put it back; without one, restart")
        return frozenset()


def _shown_by(sock: ssl.SSLSocket) -> x509.Certificate:
    shown = sock.getpeercert(binary_form=True)
    if not shown:
        raise CertificateError("the peer showed no certificate")
    try:
        return x509.load_der_x509_certificate(shown)
    except ValueError as error:
        raise CertificateError(f"the certificate of the peer can not be read: {error}") from error


def _check(files: PkiFiles, clock: Clock) -> x509.Certificate:
    """The own certificate, once it is known that it can be used."""
    authorities, chain, key = load_bundle(files.ca_cert), load_bundle(files.certfile), load_key(files.keyfile)
    own = chain[0]
    if own.public_key() != key.public_key():
        message = f"{files.keyfile} is not the key of {files.certfile}"
        raise CertificateError(message, "they belong together: give both of one peer")
    if own.not_valid_after_utc.timestamp() < clock.now():
        message = f"{files.certfile} has expired: it ran out on {own.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateError(message, "renew it: vg-certs renew")
    if own.not_valid_before_utc.timestamp() > clock.now():
        message = f"{files.certfile} is not valid before {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise CertificateError(message, "is the clock right?")
    if not leads_to(own, chain[1:], authorities):
        message = f"{files.certfile} was not issued by a CA in {files.ca_cert}"
        raise CertificateError(message, "vg-certs check tells more")
    if files.keyfile.stat().st_mode & 0o077:
        log.warning("%s can be read by others than its owner; chmod 600 it", files.keyfile)
    return own


def _base(files: PkiFiles, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = protocol == ssl.PROTOCOL_TLS_CLIENT  # of clients only their identity counts
    context.hostname_checks_common_name = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate CA alone may be what is trusted
    try:
        for bundle in files.trusted:
            context.load_verify_locations(bundle)
        context.load_cert_chain(files.certfile, files.keyfile, password="")  # or OpenSSL asks on the terminal
    except (ssl.SSLError, OSError, ValueError) as error:
        message = f"{files.certfile} and {files.ca_cert} can not be used: {error}"
        raise CertificateError(message, "vg-certs check tells more") from error
    return context


def _server(files: PkiFiles) -> ssl.SSLContext:
    context = _base(files, ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(ALPN))
    return context


def _client(files: PkiFiles, alpn: str) -> ssl.SSLContext:
    context = _base(files, ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([alpn])
    return context
