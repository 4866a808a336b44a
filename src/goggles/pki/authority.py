"""A certificate authority of one's own: create, issue, renew, revoke.

Law: keys are EC P-256, never leave with a mode other than 0600, and are never overwritten; every file appears whole
or not at all.  Role and name of a peer stand in its SAN URI (see `identity`), its hosts as DNS or IP names.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from goggles.errors import AlreadyExists, CertificateError, NotFound
from goggles.pki.identity import SITE, Identity

CA_DAYS = 3650
PEER_DAYS = 825
CRL_DAYS = 3650  # a CRL that nobody renews must not stop the site
BACKDATE = datetime.timedelta(hours=1)  # clocks of hosts differ
CA_NAME = "rootCA"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write `data` to `path` so that it is there whole or not at all, and never readable by more than `mode` says."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(hidden, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key and its certificate, in PEM."""

    name: str
    key: bytes
    certificate: bytes

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write <name>.crt and <name>.key (0600) to the folder; their paths.  AlreadyExists where a key is there."""
        folder.mkdir(parents=True, exist_ok=True)
        key, certificate = folder / f"{self.name}.key", folder / f"{self.name}.crt"
        if key.exists():
            raise AlreadyExists(f"{key} exists already", "renew keeps the key and makes a new certificate")
        write_file(key, self.key, 0o600)
        write_file(certificate, self.certificate, 0o644)
        return certificate, key


def load_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file, or CertificateError."""
    return load_bundle(path)[0]


def load_bundle(path: Path) -> list[x509.Certificate]:
    """All certificates in a PEM file, or CertificateError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"{path} can not be read: {error.strerror}", "see certs/README.md") from error
    except ValueError as error:
        raise CertificateError(f"{path} is not a certificate in PEM form", "see certs/README.md") from error


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """An unencrypted private key in PEM, or CertificateError."""
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]
    except OSError as error:
        raise CertificateError(f"{path} can not be read: {error.strerror}", "see certs/README.md") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path} is not an unencrypted private key in PEM form") from error


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URIs among the subject's alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(names.value.get_values_for_type(x509.UniformResourceIdentifier))


class Authority:
    """A CA: its key, its certificate, and the folder they are in."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, folder: Path) -> None:
        self._key = key
        self.certificate = certificate
        self.folder = folder

    @property
    def site(self) -> str:
        """The trust domain of the names that this CA gives."""
        uris = [uri for uri in uris_of(self.certificate) if uri.startswith("spiffe://")]
        return uris[0].removeprefix("spiffe://").partition("/")[0] if uris else "goggles"

    @property
    def crl_path(self) -> Path:
        return self.folder / f"{CA_NAME}.crl"

    @classmethod
    def create(cls, folder: Path, site: str = "goggles") -> Authority:
        """Make <folder>/rootCA.key and rootCA.crt; AlreadyExists where there is one."""
        if not SITE.match(site):
            raise CertificateError(
                f"{site!r} can not be the name of a site", "lower-case letters, digits, dots, dashes"
            )
        if (folder / f"{CA_NAME}.key").exists():
            raise AlreadyExists(f"{folder / CA_NAME}.key exists already", "a CA is made once and kept")
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(key, _self_signed(key, site), folder)
        write_file(folder / f"{CA_NAME}.key", _pem(key), 0o600)
        write_file(folder / f"{CA_NAME}.crt", made.certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return made

    @classmethod
    def load(cls, key: Path, certificate: Path) -> Authority:
        if not key.exists():
            raise NotFound(f"there is no CA key at {key}", "make one: make -C certs ca")
        return cls(load_key(key), load_certificate(certificate), certificate.parent)

    def issue(self, identity: Identity, hosts: Sequence[str], days: float = PEER_DAYS) -> Credentials:
        """A new key and a certificate for it."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key.public_key(), identity, hosts, days)
        return Credentials(identity.name, _pem(key), certificate.public_bytes(serialization.Encoding.PEM))

    def renew(self, certificate: Path, days: float = PEER_DAYS) -> x509.Certificate:
        """Replace a certificate by one for the same key and names that is valid from now."""
        old = load_certificate(certificate)
        names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identity = Identity.from_names(uris_of(old))
        hosts = [str(name) for kind in (x509.DNSName, x509.IPAddress) for name in names.get_values_for_type(kind)]
        new = self._certificate(old.public_key(), identity, hosts, days)  # type: ignore[arg-type]
        write_file(certificate, new.public_bytes(serialization.Encoding.PEM), 0o644)
        return new

    def revoke(self, certificate: x509.Certificate) -> None:
        """Write the certificate into the CRL beside the CA."""
        old = self._crl()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(_now() - BACKDATE).next_update(_now() + datetime.timedelta(days=CRL_DAYS))
        serials = {entry.serial_number: entry for entry in old}
        if certificate.serial_number not in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(_now())
            serials[certificate.serial_number] = entry.build()
        for revoked in serials.values():
            builder = builder.add_revoked_certificate(revoked)
        crl = builder.sign(self._key, hashes.SHA256())
        write_file(self.crl_path, crl.public_bytes(serialization.Encoding.PEM), 0o644)

    def _crl(self) -> list[x509.RevokedCertificate]:
        if not self.crl_path.exists():
            return []
        return list(x509.load_pem_x509_crl(self.crl_path.read_bytes()))

    def _certificate(
        self, public: ec.EllipticCurvePublicKey, identity: Identity, hosts: Sequence[str], days: float
    ) -> x509.Certificate:
        uri = x509.UniformResourceIdentifier(identity.uri)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return (
            _builder(subject, self.certificate.subject, public, days)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri, *map(_host, hosts)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(_issuer_id(self.certificate), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(_now() - BACKDATE, _now() + datetime.timedelta(days=days) - BACKDATE))
        .not_valid_after(_now() + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _self_signed(key: ec.EllipticCurvePrivateKey, site: str) -> x509.Certificate:
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, site), x509.NameAttribute(NameOID.COMMON_NAME, f"{site} CA")]
    )
    uri = x509.UniformResourceIdentifier(f"spiffe://{site}")
    return (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(True, 1), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issuer_id(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise CertificateError(f"{text!r} is neither a host name nor an IP address") from error
