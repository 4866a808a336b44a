"""A certificate authority of one's own: create, issue, renew, revoke.

Law: keys are EC P-256, are never readable by others, not for a moment, and are never overwritten; every file appears
whole or not at all.  Role and name of a peer stand in its SAN URI (see `identity`), its hosts as DNS or IP names.
What is issued is written down first (`rootCA.issued`, one line each: serial number, URI, last day), so that revoking
a peer also revokes what it had before it was renewed.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from goggles.errors import AlreadyExists, CertificateError, LocalFileError
from goggles.pki.identity import SITE, Identity
from goggles.pki.pem import is_issued_by, load_bundle, load_certificate, load_key, names_of, uris_of, write_file
from goggles.pki.revocation import label, read_lists, revoked_labels, signed_by

CA_DAYS = 3650
PEER_DAYS = 825
CRL_DAYS = 3650  # a CRL that nobody renews must not stop the site
BACKDATE = datetime.timedelta(hours=1)  # clocks of hosts differ
CA_NAME = "rootCA"
PEM = serialization.Encoding.PEM
_PART = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?({_PART}\.)*(?!\d+\Z){_PART}\Z")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key and its certificate, in PEM."""

    name: str
    key: bytes
    certificate: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write <name>.crt and <name>.key (0600) to the folder; their paths.  AlreadyExists where one is there."""
        key, certificate = folder / f"{self.name}.key", folder / f"{self.name}.crt"
        if certificate.exists():
            raise AlreadyExists(f"{certificate} exists already", "renew it, or move it away to issue another")
        if key.exists():
            raise AlreadyExists(f"{key} exists already, without a certificate", "move it away to make a new one")
        write_file(key, self.key, 0o600, replace=False)
        write_file(certificate, self.certificate, 0o644)
        return certificate, key


# --- the authority ---------------------------------------------------------------------------


class Authority:
    """A CA: its key, its certificate, and where they are.  The list of what it revoked is beside its certificate."""

    def __init__(self, key: CertificateIssuerPrivateKeyTypes, certificate: x509.Certificate, path: Path) -> None:
        self._key = key
        self._path = path
        self.certificate = certificate
        self.folder = path.parent

    @property
    def site(self) -> str:
        """The trust domain of the names that this CA gives."""
        uris = [uri for uri in uris_of(self.certificate) if uri.startswith("spiffe://")]
        return uris[0].removeprefix("spiffe://").partition("/")[0] if uris else "goggles"

    @property
    def crl_path(self) -> Path:
        return self._path.with_suffix(".crl")

    @classmethod
    def create(cls, folder: Path, site: str = "goggles") -> Authority:
        """Make <folder>/rootCA.key and rootCA.crt; AlreadyExists where there is one.

        A key without a certificate was left by a run that was interrupted: it gets its certificate."""
        if not SITE.match(site):
            hint = "lower-case letters, digits, dots, dashes"
            raise CertificateError(f"{site!r} can not be the name of a site", hint)
        key_path, path = folder / f"{CA_NAME}.key", folder / f"{CA_NAME}.crt"
        if path.exists():
            raise AlreadyExists(f"{path} exists already", "a CA is made once and kept")
        if not key_path.exists():
            write_file(key_path, _pem(ec.generate_private_key(ec.SECP256R1())), 0o600, replace=False)
        key = _issuing(key_path)
        made = cls(key, _self_signed(key, site), path)
        write_file(path, made.certificate.public_bytes(PEM), 0o644)
        return made

    @classmethod
    def load(cls, key_path: Path, cert_path: Path) -> Authority:
        """The CA of these files; CertificateError where one is missing or they do not belong together."""
        if not key_path.exists():
            raise CertificateError(f"there is no CA key at {key_path}", "make one: make -C certs ca")
        key, certificate = _issuing(key_path), load_certificate(cert_path)
        if key.public_key() != certificate.public_key():
            raise CertificateError(f"{key_path} is not the key of {cert_path}", "they belong together: give both")
        return cls(key, certificate, cert_path)

    def issue(self, identity: Identity, hosts: Sequence[str], days: float = PEER_DAYS) -> Credentials:
        """A new key and a certificate for it, valid for `days` or as long as the CA itself."""
        Identity.from_uri(identity.uri)
        names = [_host(host) for host in dict.fromkeys(hosts)]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key.public_key(), identity, names, days)
        return Credentials(identity.name, _pem(key), certificate.public_bytes(PEM))

    def renew(self, certificate: Path, days: float = PEER_DAYS) -> x509.Certificate:
        """Replace a certificate by one for the same key and names that is valid from now."""
        old, *between = load_bundle(certificate)
        self._check_ours(old)
        if self.crl_path.exists() and label(old) in revoked_labels(self.crl_path, [self.certificate]):
            raise CertificateError(f"{certificate} was revoked, and its key with it", "move both away and issue anew")
        hosts = [name for name in names_of(old) if isinstance(name, x509.DNSName | x509.IPAddress)]
        new = self._certificate(old.public_key(), Identity.from_names(uris_of(old)), hosts, days)
        write_file(certificate, b"".join(each.public_bytes(PEM) for each in (new, *between)), 0o644)
        return new

    def revoke(self, certificate: x509.Certificate) -> int:
        """Write it, and all that was issued to its name before, into the list beside the CA; how many were new there.

        CertificateError where this CA did not issue it, or did not sign the list that is there."""
        self._check_ours(certificate)
        with self._locked():
            kept = read_lists(self.crl_path) if self.crl_path.exists() else []
            own = [crl for crl in kept if signed_by(crl, self.certificate)]
            if kept and not own:
                raise CertificateError(f"{self.crl_path} was not signed by {self._path}", "move it away")
            entries = {entry.serial_number: entry for crl in own for entry in crl}
            known = len(entries)
            for serial in [certificate.serial_number, *self._issued_to(uris_of(certificate))]:
                entries.setdefault(serial, _entry(serial))
            signed = self._list(list(entries.values()), 1 + max(map(_number, own)) if own else 1)
            others = [crl for crl in kept if crl not in own]
            write_file(self.crl_path, b"".join(crl.public_bytes(PEM) for crl in (signed, *others)), 0o644)
        return len(entries) - known

    def _check_ours(self, certificate: x509.Certificate) -> None:
        if not is_issued_by(certificate, self.certificate):
            issuer = certificate.issuer.rfc4514_string()
            raise CertificateError(f"it was not issued by {self._path} but by {issuer}", "only its own CA can do that")

    def _list(self, entries: list[x509.RevokedCertificate], number: int) -> x509.CertificateRevocationList:
        now = _now()
        return (
            x509.CertificateRevocationListBuilder(revoked_certificates=entries)
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATE)
            .next_update(now + datetime.timedelta(days=CRL_DAYS))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_issuer_id(self.certificate), critical=False)
            .sign(self._key, _digest(self._key))
        )

    def _certificate(
        self,
        public: CertificatePublicKeyTypes,
        identity: Identity,
        hosts: Sequence[x509.GeneralName],
        days: float,
    ) -> x509.Certificate:
        uri = x509.UniformResourceIdentifier(identity.uri)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            _builder(subject, self.certificate.subject, public, self._until(days))
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri, *hosts]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(_issuer_id(self.certificate), critical=False)
            .sign(self._key, _digest(self._key))
        )
        self._write_down(made, identity.uri)
        return made

    def _until(self, days: float) -> datetime.datetime:
        last = self.certificate.not_valid_after_utc
        if last < _now():
            raise CertificateError(f"the CA {self._path} has expired", "make a new one in another folder")
        try:
            return min(_now() + datetime.timedelta(days=days), last)
        except (OverflowError, ValueError) as error:
            raise CertificateError(f"{days} days are no time for a certificate", "give a number, as in 825") from error

    # --- what was issued ---

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time for each CA, also between processes: list and book are read, changed, and written."""
        path = self.folder / f".{CA_NAME}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LocalFileError(f"{path} can not be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _book(self) -> list[list[str]]:
        path = self._path.with_suffix(".issued")
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def _write_down(self, made: x509.Certificate, uri: str) -> None:
        with self._locked():
            lines = [line for line in self._book() if line[2] >= f"{_now():%Y-%m-%d}"]
            lines.append([f"{made.serial_number:X}", uri, f"{made.not_valid_after_utc:%Y-%m-%d}"])
            text = "".join(" ".join(line) + "\n" for line in lines)
            write_file(self._path.with_suffix(".issued"), text.encode(), 0o644)

    def _issued_to(self, uris: list[str]) -> list[int]:
        return [int(serial, 16) for serial, uri, _ in self._book() if uri in uris]


# --- the parts of a certificate --------------------------------------------------------------


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _issuing(path: Path) -> CertificateIssuerPrivateKeyTypes:
    key = load_key(path)
    if not hasattr(key, "sign"):
        raise CertificateError(f"{path} is a key that can not sign", "a CA needs an EC, RSA or Ed25519 key")
    return cast(CertificateIssuerPrivateKeyTypes, key)


def _digest(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def _builder(
    subject: x509.Name, issuer: x509.Name, public: CertificatePublicKeyTypes, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(_now(), until) - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _self_signed(key: CertificateIssuerPrivateKeyTypes, site: str) -> x509.Certificate:
    parts = {NameOID.ORGANIZATION_NAME: site, NameOID.COMMON_NAME: f"{site} CA"}
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in parts.items()])
    uri = x509.UniformResourceIdentifier(f"spiffe://{site}")
    return (
        _builder(name, name, key.public_key(), _now() + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(True, 1), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, _digest(key))
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    signs = {"key_cert_sign": signs_certificates, "crl_sign": signs_certificates}
    never = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    unused = dict.fromkeys((*never, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, **signs, **unused)


def _issuer_id(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(
            cast(CertificateIssuerPublicKeyTypes, ca.public_key())
        )
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _entry(serial: int) -> x509.RevokedCertificate:
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_now()).build()


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _host(text: str) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        if "%" not in text:
            return x509.IPAddress(address)
    try:
        name = text.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not HOST.match(name):
        raise CertificateError(f"{text!r} is neither a host name nor an IP address", "as in HOSTS=victor,192.0.2.7")
    return x509.DNSName(name)
