"""Who is of our own site, and who only of a site that we trust.

Law: a CA of another site (`peer_ca`) speaks for that site, never for ours.  A certificate that names our site counts
only where it leads to a CA of our own (`ca_cert`); one that names another site is a visitor, and is let in only in the
roles in which visitors are expected.
"""

from __future__ import annotations

import ssl
import threading
from collections import OrderedDict
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from goggles.errors import CertificateError
from goggles.pki.identity import Identity
from goggles.pki.pem import is_issued_by
from goggles.roles import Role

MAX_KNOWN = 4_096
MAX_CHAIN = 8


def leads_to(
    own: x509.Certificate, between: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> bool:
    """True where each certificate was signed by the next, up to one of the authorities."""
    if any(is_issued_by(own, authority) for authority in authorities):
        return True
    following = [each for each in between if is_issued_by(own, each)]
    rest = [each for each in between if each not in following]
    return any(leads_to(each, rest, authorities) for each in following)


class Home:
    """The CAs of our own site, and which certificates are known to come from them.

    `own`: our certificate and what stands between it and its CA.  A resumed TLS session does not show intermediate
    certificates again, so what was found out is remembered."""

    def __init__(self, own: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> None:
        self._authorities = [*own[1:], *authorities]
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, bool] = OrderedDict()  # fingerprint: is of our site; guarded by _lock

    def admit(
        self, sock: ssl.SSLSocket, shown: x509.Certificate, who: Identity, site: str, visitors: frozenset[Role]
    ) -> None:
        """CertificateError unless `who`, as `shown` says, may speak for its site here."""
        if who.site == site:
            if not self._is_home(sock, shown):
                raise CertificateError(
                    f"{who.uri} is named as of our own site, but another CA issued it",
                    "two sites must not have one name: make the CA of one of them anew with --site NAME",
                )
        elif who.role not in visitors:
            raise CertificateError(f"{who.uri} is of another site than {site}", "it has no business here")

    def _is_home(self, sock: ssl.SSLSocket, shown: x509.Certificate) -> bool:
        fingerprint = shown.fingerprint(hashes.SHA256())
        with self._lock:
            known = self._known.get(fingerprint)
        if known is None:
            known = leads_to(shown, _between(sock), self._authorities)
            with self._lock:
                self._known[fingerprint] = known
                while len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)
        return known


def _between(sock: ssl.SSLSocket) -> list[x509.Certificate]:
    """The intermediate certificates that the peer sent; none in a resumed session."""
    inner = sock if hasattr(sock, "get_unverified_chain") else sock._sslobj  # type: ignore[attr-defined]  # public from 3.13 on
    chain = inner.get_unverified_chain() or []
    shown = [item if isinstance(item, bytes) else item.public_bytes(ssl._ssl.ENCODING_DER) for item in chain]  # type: ignore[attr-defined]  # no stubs for _ssl
    return [x509.load_der_x509_certificate(each) for each in shown[1 : 1 + MAX_CHAIN]]
