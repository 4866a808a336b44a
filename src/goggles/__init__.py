"""verbose-goggles: one safe tree of files over a handful of hosts.

import goggles
fs = goggles.connect("nameserver", 8000, ca_cert=..., certfile=..., keyfile=...)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from goggles.version import __version__

if TYPE_CHECKING:
    from goggles.client.librarian.admin import AdminClient
    from goggles.client.librarian.client import LibrarianClient
    from goggles.client.session import Session, connect

__all__ = ["AdminClient", "LibrarianClient", "Session", "__version__", "connect"]
_HOMES = {
    "AdminClient": "goggles.client.librarian.admin",
    "LibrarianClient": "goggles.client.librarian.client",
    "Session": "goggles.client.session",
    "connect": "goggles.client.session",
}


def __getattr__(name: str) -> Any:
    """What clients use, loaded when first asked for: a nameserver or a storage never loads the client."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'goggles' has no attribute {name!r}")
