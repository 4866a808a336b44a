"""verbose-goggles: one safe tree of files over a handful of hosts.

import goggles
fs = goggles.connect("nameserver", 8000, ca_cert=..., certfile=..., keyfile=...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from goggles.version import __version__

if TYPE_CHECKING:
    from goggles.client.session import Session, connect

__all__ = ["Session", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    """`connect` and `Session`, loaded when first asked for: a nameserver or a storage never loads the client."""
    if name in ("connect", "Session"):
        from goggles.client import session

        return getattr(session, name)
    raise AttributeError(f"module 'goggles' has no attribute {name!r}")
