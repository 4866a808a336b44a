"""Why would a handshake fail?  In words, before it does.

Law: every reason is looked for, not just the first; nothing is changed.  The chain is judged by OpenSSL itself
(pyOpenSSL's X509Store), as in a real handshake; revocation by `revocation`, as after one.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from goggles.clock import Clock
from goggles.errors import CertificateError
from goggles.pki.identity import Identity
from goggles.pki.pem import hosts_of, load_bundle, load_key, names_of, uris_of
from goggles.pki.revocation import label, read_lists, revoked_labels
from goggles.roles import Role

SERVERS = (Role.NAMESERVER, Role.STORAGE, Role.LIBRARIAN)


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why a handshake fails, or (`bad` false) something worth knowing."""

    what: str
    hint: str = ""
    bad: bool = True

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


@dataclass(frozen=True, slots=True)
class Expected:
    """What the peer should be: its role, name and host, where they are known."""

    role: Role | None = None
    name: str = ""
    host: str = ""


def diagnose(
    certificate: Path, ca_cert: Path, clock: Clock, *, key: Path | None = None, expected: Expected | None = None
) -> list[Finding]:
    """Everything that speaks against the certificate in the eyes of who trusts `ca_cert`."""
    findings: list[Finding] = []
    chain, authorities = _read(certificate, findings), _read(ca_cert, findings)
    if not chain or not authorities:
        return findings
    return judge(chain, authorities, ca_cert.with_suffix(".crl"), clock, key, expected or Expected())


def _read(path: Path, findings: list[Finding]) -> list[x509.Certificate]:
    try:
        return load_bundle(path)
    except CertificateError as error:
        findings.append(Finding(error.message, error.hint))
        return []


def judge(
    chain: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    crl: Path,
    clock: Clock,
    key: Path | None,
    expected: Expected,
) -> list[Finding]:
    """`diagnose` for certificates that were read already; the peer's own is the first of the chain."""
    now = datetime.datetime.fromtimestamp(clock.now(), datetime.UTC)
    return [
        *_dates(chain[0], now),
        *_issuer(chain, authorities, now),
        *_revocation(chain, authorities, crl, now),
        *_names(chain[0], expected),
        *_key(chain[0], key),
    ]


def _dates(own: x509.Certificate, now: datetime.datetime) -> list[Finding]:
    if own.not_valid_after_utc < now:
        return [Finding(f"it has expired: it ran out on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "renew it")]
    if own.not_valid_before_utc > now:
        until = f"{own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        return [Finding(f"it is not valid before {until}", "are the clocks right?")]
    days = (own.not_valid_after_utc - now).days
    return [Finding(f"it runs out in {days} days", "vg-certs renew", bad=False)] if days < 30 else []


def _issuer(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime.datetime
) -> list[Finding]:
    own = chain[0]
    store = crypto.X509Store()
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    # the dates of the peer's own certificate are judged apart; those of the CAs above it are not
    in_date = own.not_valid_before_utc <= now <= own.not_valid_after_utc
    store.set_time(
        now if in_date else own.not_valid_before_utc + (own.not_valid_after_utc - own.not_valid_before_utc) / 2
    )
    between = [crypto.X509.from_cryptography(each) for each in chain[1:]]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(own), between).verify_certificate()
    except crypto.X509StoreContextError as error:
        return [_explain(str(error), error.certificate.to_cryptography(), own)]
    return []


def _explain(said: str, blamed: x509.Certificate, own: x509.Certificate) -> Finding:
    if blamed != own and "expired" in said:
        name = blamed.subject.rfc4514_string()
        return Finding(f"its CA ({name}) has expired: it ran out on {blamed.not_valid_after_utc:%Y-%m-%d}")
    if any(word in said for word in ("issuer", "self-signed", "self signed", "signature")):
        issuer = own.issuer.rfc4514_string()
        hint = "both sides must trust the CA of the other; an intermediate CA goes behind the certificate"
        return Finding(f"it was issued by another CA ({issuer})", hint)
    return Finding(f"its chain does not verify: {said}")


def _revocation(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], crl: Path, now: datetime.datetime
) -> list[Finding]:
    if not crl.exists():
        return []
    try:
        revoked = revoked_labels(crl, authorities)
        latest = max(each.last_update_utc for each in read_lists(crl))
    except CertificateError as error:
        return [Finding(error.message, error.hint)]
    if label(chain[0]) in revoked:
        return [Finding(f"it was revoked (serial {chain[0].serial_number:X})", "move it away and issue a new one")]
    old = (now - latest).days > 3650
    return [Finding(f"the revocation list is of {latest:%Y-%m-%d}", "is there a newer one?", bad=False)] if old else []


def _names(own: x509.Certificate, expected: Expected) -> list[Finding]:
    try:
        identity = Identity.from_names(uris_of(own))
    except CertificateError as error:
        return [Finding(error.message, error.hint), *_host(own, expected.host), *_uses(own, expected.role)]
    findings = []
    if expected.role is not None and identity.role is not expected.role:
        hint = f"issue one with ROLE={expected.role}"
        findings.append(Finding(f"its role is {identity.role}, not {expected.role}", hint))
    if expected.name and identity.name != expected.name:
        findings.append(Finding(f"its name is {identity.name}, not {expected.name}"))
    return [*findings, *_host(own, expected.host), *_uses(own, identity.role)]


def _uses(own: x509.Certificate, role: Role | None) -> list[Finding]:
    """OpenSSL refuses a certificate that may not be used for this end of a connection."""
    try:
        allowed = set(own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []
    wanted = {"clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
    if role is None or role in SERVERS:
        wanted["serverAuth"] = ExtendedKeyUsageOID.SERVER_AUTH
    missing = [use for use, oid in wanted.items() if oid not in allowed]
    return [Finding(f"it may not be used for {use}", f"issue one with extendedKeyUsage {use}") for use in missing]


def _host(own: x509.Certificate, host: str) -> list[Finding]:
    """A host name must be among the DNS names, an address among the IP names: OpenSSL does not mix them."""
    if not host:
        return []
    names = names_of(own)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if any(_same_host(name, host) for name in names.get_values_for_type(x509.DNSName)):
            return []
    else:
        if address in names.get_values_for_type(x509.IPAddress):
            return []
        if host in names.get_values_for_type(x509.DNSName):
            return [Finding(f"it has {host} as a DNS name, but it is an address", f"it needs the IP name {host}")]
    known = ", ".join(hosts_of(own)) or "no host"
    return [Finding(f"it is for {known}, not for {host}", f"issue one with HOSTS={host},...")]


def _same_host(name: str, host: str) -> bool:
    name, host = name.lower(), host.lower()
    first, _, rest = host.partition(".")
    return name == host or (name.startswith("*.") and bool(first) and rest == name[2:])


def _key(own: x509.Certificate, key: Path | None) -> list[Finding]:
    if key is None:
        return []
    try:
        private = load_key(key)
    except CertificateError as error:
        return [Finding(error.message, error.hint)]
    findings = []
    if private.public_key() != own.public_key():
        findings.append(Finding(f"{key} is not its key", "they belong together: take both of one peer"))
    if key.stat().st_mode & 0o077:
        findings.append(Finding(f"{key} can be read by others", f"chmod 600 {key}", bad=False))
    return findings
