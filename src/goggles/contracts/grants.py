"""Grants: what a nameserver allows one principal to do with one storage, in a form that the storage can check alone.

Law: a grant is JSON followed by its HMAC-SHA-256 under a key that only the nameserver and its storages
have (given out in `upgrade`, new with each start of the nameserver).  It names its holder, so that it is of
no use to anybody else, and the storage it is for.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from goggles.errors import PermissionDenied, Stale

WRITE = "write"
READ = "read"
QUARANTINED = "quarantined"  # to read what a storage has put away; `path` is the entry
PUSH = "push"  # from a storage of another site; `subject` is the arrival
LIFETIME = 12 * 3600.0
_MAC = hashlib.sha256().digest_size
_HINT = "grants come from the nameserver; ask it again"


@dataclass(frozen=True, slots=True)
class Grant:
    """`subject` is the upload id (write), the version (read) or the arrival (push); `size` the most bytes that may be
    written."""

    kind: str
    subject: str
    path: str
    size: int
    storage: str
    holder: str  # identity URI of the principal
    expires: float  # seconds since 1970, UTC

    def seal(self, key: bytes) -> bytes:
        """The grant as bytes that `check` accepts."""
        values = (self.kind, self.subject, self.path, self.size, self.storage, self.holder, self.expires)
        body = orjson.dumps(values)
        return body + hmac.digest(key, body, "sha256")


def check(sealed: bytes, keys: Sequence[bytes], *, kind: str, storage: str, holder: str, now: float) -> Grant:
    """The grant in `sealed`; Stale where it was not made with one of the keys (another nameserver, or nobody, made it),
    PermissionDenied where it has expired or is somebody else's."""
    body, mac = sealed[:-_MAC], sealed[-_MAC:]
    if not any(hmac.compare_digest(hmac.digest(key, body, "sha256"), mac) for key in keys):
        raise Stale("this grant was not made by the nameserver that this storage serves now", _HINT)
    grant = Grant(*orjson.loads(body))
    if (grant.kind, grant.storage, grant.holder) != (kind, storage, holder):
        raise PermissionDenied(f"this grant is not for {holder} to {kind} on storage {storage}", _HINT)
    if grant.expires < now:
        raise PermissionDenied("this grant has expired", _HINT)
    return grant
