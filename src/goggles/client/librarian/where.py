"""Where a librarian is, and which certificate is shown to it.

Law: whatever scheme people write before a host means our own protocol, over TLS: an address never turns it off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from goggles.errors import BadRequest, SettingsError
from goggles.pki.context import PkiFiles
from goggles.settings import CHECKOUT, ClientSettings, resolve
from goggles.wire.dial import Address

PORT = 21106  # that of librarians, where neither a port nor a URL says another
SETTINGS = "GOGGLES_SETTINGS"
SCHEMES = ("http", "https", "rpyc", "")
BEST = ("admin", "client")  # folders below certs/


def address_of(host: str, port: int = 0) -> Address:
    """Host and port from what people write: host, host:port, http://host, https://host:port/path, rpyc://host."""
    try:
        parts = urlsplit(host if "://" in host else f"//{host}")
        name, named = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"{host[:200]!r} is not a host or URL: {error}") from error
    if not name or parts.scheme not in SCHEMES or parts.username is not None:
        raise BadRequest(f"{host[:200]!r} is not a host or URL", "as in localhost or https://host.example:21106/")
    number = port or named or PORT
    if not 0 < number < 65_536:
        raise BadRequest(f"{number} is not a port")
    return Address(name, number)


@dataclass(frozen=True, kw_only=True)
class _Found(ClientSettings):
    """The certificate files, by the rules of vg; the certificate of an administrator first."""

    @classmethod
    def found(cls, known: Mapping[str, Any]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in (Path("certs"), CHECKOUT / "certs"):
            if (folder / "rootCA.crt").exists():
                found.setdefault("ca_cert", folder / "rootCA.crt")
            for name in BEST:
                certificate, key = folder / name / f"{name}.crt", folder / name / f"{name}.key"
                if "certfile" not in found and certificate.exists() and os.access(key, os.R_OK):
                    found |= {"certfile": certificate, "keyfile": key}
        if "certfile" in known:
            found["keyfile"] = Path(known["certfile"]).with_suffix(".key")
        return found


def credentials(
    ca_cert: Path | str | None, certfile: Path | str | None, keyfile: Path | str | None, environ: Mapping[str, str]
) -> PkiFiles:
    """What is given, else the environment (GOGGLES_CERTFILE, ...), the settings file, and the folder certs/."""
    given = {"ca_cert": ca_cert, "certfile": certfile, "keyfile": keyfile}
    flags = {key: str(value) for key, value in given.items() if value is not None}
    if "certfile" in flags and "keyfile" not in flags:
        flags["keyfile"] = str(Path(flags["certfile"]).with_suffix(".key"))  # not that of another certificate
    file = environ.get(SETTINGS)
    try:
        made = resolve(_Found, flags, environ, Path(file) if file else None)
    except SettingsError as error:
        where = "give ca_cert, certfile and keyfile in the connection, or GOGGLES_CA_CERT, GOGGLES_CERTFILE, "
        raise SettingsError(error.message, where + "GOGGLES_KEYFILE, or work where the folder certs/ is") from error
    return PkiFiles(made.ca_cert, made.certfile, made.keyfile)
