"""What a process of this machine (Linux) has open."""

from __future__ import annotations

import os
from pathlib import Path


def descriptors(pid: int) -> list[str]:
    """Where its descriptors lead, as /proc/PID/fd says: "/a/file", "socket:[4711]"; none where it has ended.

    A process opens and closes while it is looked at: what is gone before it is read is left out."""
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []
    return [found for found in map(_target, links) if found]


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
