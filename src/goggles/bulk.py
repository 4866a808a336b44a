"""Large files, written once from start to end past the page cache.

Law: the bytes of the file are the same either way; where the file system or the memory does not lend itself to it, the
rest goes the usual way.

Why: what is written through the page cache is copied once more, pushes out what others read, and is waited for at the
end all the same, because it has to be durable.
"""

from __future__ import annotations

import errno
import fcntl
import os

LARGE = 16 << 20  # bytes; what is smaller may well be read again at once
BLOCK = 4096  # bytes; sizes and places of direct writes are multiples of it


class BulkWriter:
    """Appends to an open file that will have about `size` bytes; past the page cache where these are many."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._direct = size >= LARGE and _switch(fd, True)

    def write(self, data: memoryview | bytes) -> None:
        """All of `data`; OSError."""
        view = memoryview(data)
        while view:
            view = view[self._some(view) :]

    def _some(self, view: memoryview) -> int:
        whole = len(view) - len(view) % BLOCK
        if not self._direct:
            return os.write(self._fd, view)
        try:
            if whole:
                return os.write(self._fd, view[:whole])
        except OSError as error:
            if error.errno != errno.EINVAL:  # the place in the file, or in memory, is not aligned
                raise
        self._direct = False
        _switch(self._fd, False)
        return os.write(self._fd, view)


def _switch(fd: int, on: bool) -> bool:
    """Whether it could be switched."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return True
