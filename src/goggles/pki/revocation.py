"""Which certificates are revoked.

Law: a list counts only if one of our CAs signed it, and only for certificates of that CA; one that does not verify is
an error, not an empty list.  A file may hold several lists, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from goggles.errors import CertificateError

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def label(certificate: x509.Certificate) -> str:
    """What a certificate goes by among the revoked ones: its serial number and who issued it."""
    return _label(certificate.serial_number, certificate.issuer)


def _label(serial: int, issuer: x509.Name) -> str:
    return f"{serial:X} of {issuer.rfc4514_string()}"


def read_lists(path: Path) -> list[x509.CertificateRevocationList]:
    """The lists in a PEM file, verified by nobody yet; CertificateError where there is none."""
    try:
        found = [x509.load_pem_x509_crl(block) for block in _LIST.findall(path.read_bytes())]
    except OSError as error:
        raise CertificateError(f"{path} can not be read: {error.strerror}", "see certs/README.md") from error
    except ValueError as error:
        raise _no_list(path) from error
    if not found:
        raise _no_list(path)
    return found


def _no_list(path: Path) -> CertificateError:
    return CertificateError(f"{path} is not a certificate revocation list in PEM form", "see certs/README.md")


def signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    """True where `authority` issued the list and its signature is right."""
    key = cast(CertificateIssuerPublicKeyTypes, authority.public_key())
    try:
        return crl.issuer == authority.subject and crl.is_signature_valid(key)
    except (InvalidSignature, TypeError, ValueError):
        return False


def revoked_labels(path: Path, authorities: Sequence[x509.Certificate]) -> frozenset[str]:
    """The labels of all revoked certificates; CertificateError where a list in the file can not be trusted."""
    lists = read_lists(path)
    for crl in lists:
        if not any(signed_by(crl, authority) for authority in authorities):
            issuer = crl.issuer.rfc4514_string()
            raise CertificateError(
                f"{path} was not signed by a CA that is trusted here ({issuer})",
                "remove it, or make it anew: vg-certs revoke",
            )
    return frozenset(_labels(lists))


def _labels(lists: Iterable[x509.CertificateRevocationList]) -> Iterable[str]:
    for crl in lists:
        for entry in crl:
            yield _label(entry.serial_number, crl.issuer)
