"""Why would a handshake fail?  In words, before it does.

Law: every reason is looked for, not just the first; nothing is changed.  Chain and revocation are judged by OpenSSL
itself (pyOpenSSL's X509Store), as in a real handshake.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from OpenSSL import crypto

from goggles.clock import Clock
from goggles.errors import GogglesError
from goggles.pki.authority import load_bundle, load_key, uris_of
from goggles.pki.identity import Identity
from goggles.roles import Role


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
    try:
        chain, authorities = load_bundle(certificate), load_bundle(ca_cert)
    except GogglesError as error:
        return [Finding(error.message, error.hint)]
    return judge(chain, authorities, ca_cert.with_suffix(".crl"), clock, key, expected or Expected())


def judge(
    chain: list[x509.Certificate],
    authorities: list[x509.Certificate],
    crl: Path,
    clock: Clock,
    key: Path | None,
    expected: Expected,
) -> list[Finding]:
    """`diagnose` for certificates that were read already."""
    return [
        *_dates(chain[0], clock),
        *_issuer(chain, authorities, crl),
        *_names(chain[0], expected),
        *_key(chain[0], key),
    ]


def _dates(own: x509.Certificate, clock: Clock) -> list[Finding]:
    now = datetime.datetime.fromtimestamp(clock.now(), datetime.UTC)
    if own.not_valid_after_utc < now:
        return [Finding(f"it ran out on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "vg-certs renew")]
    if own.not_valid_before_utc > now:
        return [
            Finding(f"it is not valid before {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC", "are the clocks right?")
        ]
    days = (own.not_valid_after_utc - now).days
    return [Finding(f"it runs out in {days} days", "vg-certs renew", bad=False)] if days < 30 else []


def _issuer(chain: list[x509.Certificate], authorities: list[x509.Certificate], crl: Path) -> list[Finding]:
    store = crypto.X509Store()
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(_middle(chain[0]))  # dates are judged apart
    revoked = _revocations(store, crl)
    between = [crypto.X509.from_cryptography(each) for each in chain[1:]]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(chain[0]), between).verify_certificate()
    except crypto.X509StoreContextError as error:
        return [*revoked, _explain(str(error), chain[0])]
    return revoked


def _middle(own: x509.Certificate) -> datetime.datetime:
    return own.not_valid_before_utc + (own.not_valid_after_utc - own.not_valid_before_utc) / 2


def _revocations(store: crypto.X509Store, crl: Path) -> list[Finding]:
    if not crl.exists():
        return []
    try:
        store.add_crl(x509.load_pem_x509_crl(crl.read_bytes()))
    except (ValueError, OSError) as error:
        return [Finding(f"{crl} is not a revocation list: {error}", "make it anew with vg-certs revoke, or remove it")]
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.PARTIAL_CHAIN)
    return []


def _explain(said: str, own: x509.Certificate) -> Finding:
    if "revoked" in said:
        return Finding(f"it was revoked (serial {own.serial_number:X})", "issue a new one: vg-certs peer")
    if "issuer" in said or "self-signed" in said or "self signed" in said or "signature" in said:
        issuer = own.issuer.rfc4514_string()
        return Finding(f"it was issued by another CA ({issuer})", "both sides must trust the CA of the other")
    if "CRL" in said:
        return Finding(f"the revocation list does not fit: {said}", "make it anew: vg-certs revoke, or remove it")
    return Finding(f"its chain does not verify: {said}")


def _names(own: x509.Certificate, expected: Expected) -> list[Finding]:
    try:
        identity = Identity.from_names(uris_of(own))
    except GogglesError as error:
        return [Finding(error.message, error.hint), *_host(own, expected.host)]
    findings = []
    if expected.role is not None and identity.role is not expected.role:
        findings.append(
            Finding(f"its role is {identity.role}, not {expected.role}", f"issue one with ROLE={expected.role}")
        )
    if expected.name and identity.name != expected.name:
        findings.append(Finding(f"its name is {identity.name}, not {expected.name}"))
    return [*findings, *_host(own, expected.host)]


def _host(own: x509.Certificate, host: str) -> list[Finding]:
    if not host:
        return []
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [Finding(f"it names no host at all, so not {host}", f"issue one with HOSTS={host}")]
    known = [str(name) for kind in (x509.DNSName, x509.IPAddress) for name in names.get_values_for_type(kind)]
    if any(_same_host(name, host) for name in known):
        return []
    return [Finding(f"it is for {', '.join(known) or 'no host'}, not for {host}", f"issue one with HOSTS={host},...")]


def _same_host(name: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        pass
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*.") and host.partition(".")[2] == name[2:])


def _key(own: x509.Certificate, key: Path | None) -> list[Finding]:
    if key is None:
        return []
    try:
        private = load_key(key)
    except GogglesError as error:
        return [Finding(error.message, error.hint)]
    findings = []
    if private.public_key() != own.public_key():
        findings.append(Finding(f"{key} is not its key", "they belong together: take both of one peer"))
    if key.stat().st_mode & 0o077:
        findings.append(Finding(f"{key} can be read by others", f"chmod 600 {key}", bad=False))
    return findings
