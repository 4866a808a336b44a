"""Digests of bytes.

Law: one digest, SHA-256, written as 64 lower-case hexadecimal digits wherever it is stored or said.
"""

from __future__ import annotations

import hashlib
import re
from io import FileIO

CHUNK = 1 << 20
EMPTY = hashlib.sha256().hexdigest()
_FORM = re.compile(r"[0-9a-f]{64}\Z")


def is_digest(text: object) -> bool:
    """True where `text` has the form of a SHA-256 in hexadecimal."""
    return isinstance(text, str) and _FORM.match(text) is not None


def of_file(file: FileIO) -> tuple[int, str]:
    """(size, sha256) of what is left to read of `file`, in constant memory."""
    digest, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(CHUNK))
    while count := file.readinto(buffer):
        digest.update(buffer[:count])
        size += count
    return size, digest.hexdigest()
