"""vg-health: is the server on this host well?  For the health checks of containers and service managers.

vg-health nameserver [flags of vg-nameserver]
vg-health storage [flags of vg-storage]

Law: the server is asked over TLS under its own name with its own certificate, so a good answer also shows that others
can reach it.  Settings are the server's: the same flags, environment and settings file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from goggles.cli.arguments import fail, read, run
from goggles.errors import SettingsError, Unavailable
from goggles.log import escape
from goggles.pki.context import Contexts, PkiFiles
from goggles.roles import Role
from goggles.settings import NameserverSettings, StorageSettings
from goggles.version import __version__
from goggles.wire.dial import Address, Dialer

PATIENCE = 8.0  # seconds for each step
SERVERS: dict[str, type[NameserverSettings | StorageSettings]] = {
    "nameserver": NameserverSettings,
    "storage": StorageSettings,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Ask; the exit code: 0 where it is well, 1 where it is not or does not answer, 2 where the request is wrong."""

    def program() -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        if words in (["-h"], ["--help"]):
            print(__doc__)
            return 0
        if words == ["--version"]:
            print(f"vg-health {__version__}")
            return 0
        if not words or words[0] not in SERVERS:
            raise SettingsError("whose health?", "vg-health nameserver, or vg-health storage")
        settings = read(SERVERS[words[0]], words[1:], os.environ)
        state, detail = _ask(settings, Role(words[0]))
        if state != "well":
            return fail("vg-health", Unavailable(f"{words[0]} is not well: {detail}", "its log says more"))
        print(escape(f"{words[0]} is well: {detail}"))
        return 0

    return run("vg-health", program)


def _ask(settings: NameserverSettings | StorageSettings, role: Role) -> tuple[str, str]:
    """(well or not, what it says of itself)."""
    if not settings.port:
        raise SettingsError("on which port?", "give --port, as to the server")
    dialer = Dialer(Contexts(PkiFiles(settings.ca_cert, settings.certfile, settings.keyfile)))
    peer = dialer.rpc(Address(settings.hostname, settings.port), role, timeout=PATIENCE)
    try:
        state, detail = peer.call("health", timeout=PATIENCE)
        return state, detail
    finally:
        peer.close()


if __name__ == "__main__":
    raise SystemExit(main())
