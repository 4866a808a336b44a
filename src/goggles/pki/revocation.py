"""Which certificates are revoked.

Law: a CRL counts only if one of our CAs signed it; one that does not verify is an error, not an empty list.  Serial
numbers are written as Python's ssl module writes them: upper-case hexadecimal.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from goggles.errors import CertificateError
from goggles.pki.authority import load_bundle


def revoked_serials(crl: Path | None, ca_cert: Path) -> frozenset[str]:
    """The serial numbers in the CRL file, or CertificateError where it can not be trusted."""
    if crl is None or not crl.exists():
        return frozenset()
    try:
        found = x509.load_pem_x509_crl(crl.read_bytes())
    except (OSError, ValueError) as error:
        raise CertificateError(f"{crl} is not a certificate revocation list: {error}", "see certs/README.md") from error
    if not any(_signed_by(found, authority) for authority in load_bundle(ca_cert)):
        raise CertificateError(
            f"{crl} was not signed by a CA in {ca_cert}", "remove it, or make it anew: vg-certs revoke"
        )
    return frozenset(f"{entry.serial_number:X}" for entry in found)


def _signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, TypeError, ValueError):
        return False
