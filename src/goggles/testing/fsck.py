"""The comparison of database and disks, for tests; see `goggles.nameserver.fsck`."""

from __future__ import annotations

from goggles.nameserver.fsck import Found, fsck, scan

__all__ = ["Found", "fsck", "scan"]
