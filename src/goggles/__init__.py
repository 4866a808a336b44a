"""verbose-goggles: one safe tree of files over a handful of hosts.

    import goggles
    fs = goggles.connect("nameserver", 8000, ca_cert=..., certfile=..., keyfile=...)
"""

from goggles.version import __version__

__all__ = ["__version__"]
