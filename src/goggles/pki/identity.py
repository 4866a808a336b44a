"""Who is speaking: role and name, read from a peer's certificate.

Law: role and name stand in one SAN URI, `spiffe://<site>/<role>/<name>` (the form of the SPIFFE ID
standard).  A certificate with none, or with more than one, speaks for nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from goggles.errors import CertificateError
from goggles.roles import Role

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
SITE = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal: `site` names the trust domain, `name` is unique for its role there."""

    site: str
    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role.value} {self.name}"

    @property
    def uri(self) -> str:
        return f"spiffe://{self.site}/{self.role.value}/{self.name}"

    @classmethod
    def from_uri(cls, uri: str) -> Identity:
        """Raises CertificateError where `uri` is not of our form."""
        site, _, rest = uri.removeprefix("spiffe://").partition("/")
        role, _, name = rest.partition("/")
        known = role in set(Role) and NAME.match(name) and SITE.match(site)
        if not uri.startswith("spiffe://") or not known:
            raise CertificateError(f"{uri!r} is not spiffe://<site>/<role>/<name> with a role we know")
        return cls(site, Role(role), name)

    @classmethod
    def from_names(cls, uris: list[str]) -> Identity:
        """The identity among the SAN URIs of a certificate."""
        ours = [uri for uri in uris if uri.startswith("spiffe://")]
        if len(ours) != 1:
            raise CertificateError(
                f"the certificate has {len(ours)} names of the form spiffe://<site>/<role>/<name>, it needs one",
                "issue it with: make -C certs peer NAME=... ROLE=... HOSTS=...",
            )
        return cls.from_uri(ours[0])
