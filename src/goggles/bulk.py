"""Files that are written or read once, from start to end, past the page cache.

Law: the bytes of the file are the same either way; where the file system or the memory does not lend itself to it, the
rest goes the usual way.

Why: what is written through the page cache is copied once more, pushes out what others read, and is waited for at the
end all the same, because it has to be durable.  What is read there to be compared would be compared with the memory of
this host, not with its disk.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
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


def aligned(size: int) -> memoryview:
    """Memory into which can be read past the page cache."""
    return memoryview(mmap.mmap(-1, size))


class BulkReader:
    """Reads an open file from its start, piece by piece, into `buffer` (of `aligned`).  `place`: bytes read.

    Where nothing can be read past the page cache, what was read is not left in it."""

    def __init__(self, fd: int, buffer: memoryview) -> None:
        self._fd = fd
        self._buffer = buffer
        self._size = os.fstat(fd).st_size
        self._direct = _switch(fd, True)
        self.place = 0

    def read(self) -> memoryview:
        """The next bytes, which stay until the next call; empty at the end.  OSError."""
        if self._direct and self.place % BLOCK:
            if self.place >= self._size:
                return self._buffer[:0]
            self._give_up()
        try:
            count = os.preadv(self._fd, [self._buffer], self.place)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
            self._give_up()
            count = os.preadv(self._fd, [self._buffer], self.place)
        if not self._direct:
            os.posix_fadvise(self._fd, self.place, count, os.POSIX_FADV_DONTNEED)
        self.place += count
        return self._buffer[:count]

    def _give_up(self) -> None:
        self._direct = False
        _switch(self._fd, False)


def _switch(fd: int, on: bool) -> bool:
    """Whether it could be switched."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return True
