"""The note on a published file: what it is, written beside its bytes in an extended attribute.

Format: `user.goggles`, JSON with sha256, size, mtime_ns, version, generation.

Law: a note is believed only while size and modification time of the file are those in the note; whatever was changed
behind our back is hashed anew.  Where the file system has no extended attributes, everything is hashed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from dataclasses import dataclass

import orjson

from goggles import checksums

log = logging.getLogger(__name__)
VERSION = re.compile(r"([0-9a-f]{32})?\Z")
NAME = "user.goggles"
_warned = False


@dataclass(frozen=True, slots=True)
class Note:
    """`version` is '' where it is not known (yet)."""

    sha256: str
    size: int
    mtime_ns: int
    version: str
    generation: int

    def fits(self, status: os.stat_result) -> bool:
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)


def read(fd: int) -> Note | None:
    """The note on an open file, if there is one that fits the file as it is now."""
    note = as_written(fd)
    return note if note is not None and note.fits(os.fstat(fd)) else None


def as_written(fd: int) -> Note | None:
    """The note on an open file, whether or not it fits."""
    try:
        return parse(os.getxattr(fd, NAME))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            log.warning("the note on a file can not be read: %s", error)
        return None
    except ValueError:
        return None


def parse(data: bytes) -> Note:
    """The note in `data`; ValueError where that is none of ours."""
    try:
        note = Note(**orjson.loads(data))
    except TypeError as error:
        raise ValueError(str(error)) from error
    numbers = (note.size, note.mtime_ns, note.generation)
    if list(map(type, numbers)) != [int, int, int] or any(abs(one) >> 63 for one in numbers):
        raise ValueError("these are no numbers of a note")
    if type(note.version) is not str or not VERSION.match(note.version) or not checksums.is_digest(note.sha256):
        raise ValueError("these are no values of a note")
    return note


def write(fd: int, sha256: str, version: str, generation: int) -> None:
    """Write the note on an open file as it is now."""
    status = os.fstat(fd)
    note = Note(sha256, status.st_size, status.st_mtime_ns, version, generation)
    try:
        os.setxattr(fd, NAME, orjson.dumps(note))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        _warn_once()


def _warn_once() -> None:
    global _warned
    if not _warned:
        _warned = True
        log.warning("this file system has no extended attributes: every self-check will read every file")


def kept_at(fd: int) -> bool:
    """Whether the file system of this open directory keeps notes."""
    try:
        os.getxattr(fd, NAME)
    except OSError as error:
        return error.errno != errno.ENOTSUP
    return True
