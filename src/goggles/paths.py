"""Names and paths of the tree; the only place that knows the rules.

Law: a `DfsPath` has been through `parse`.  It starts with `/`, has no empty, `.` or `..` part, no
trailing slash (but the root), and only valid names.  Names are UTF-8, 1 to 255 bytes (the limit of
Linux file systems), without `/`, NUL or control characters; a whole path has up to 4,096 bytes
(PATH_MAX).  `/.goggles` is the system's own and cannot be named.
"""

from __future__ import annotations

import unicodedata
from typing import NewType

from goggles.errors import BadPath

DfsPath = NewType("DfsPath", str)

ROOT = DfsPath("/")
RESERVED = ".goggles"
MAX_NAME = 255
MAX_PATH = 4096


def parse(text: object) -> DfsPath:
    """Return `text` as a path of the tree; BadPath says which rule it breaks."""
    if not isinstance(text, str):
        raise BadPath(f"a path must be text, not {type(text).__name__}")
    if not text.startswith("/"):
        raise BadPath(f"{show(text)} does not start with /", "paths of the tree are absolute")
    if len(text) > 4 * MAX_PATH or len(_encode(text)) > MAX_PATH:
        raise BadPath(f"a path may have {MAX_PATH} bytes, this one has more: {show(text[:64])}...")
    names = [check_name(part) for part in text.split("/") if part]
    if names and names[0] == RESERVED:
        raise BadPath(f"/{RESERVED} is reserved for the system")
    return DfsPath("/" + "/".join(names))


def check_name(name: str) -> str:
    """Return `name` if one file or directory may be called so, else raise BadPath."""
    if name in ("", ".", ".."):
        raise BadPath(f"{show(name)} is not a name", "use absolute paths without . and ..")
    if "/" in name:
        raise BadPath(f"the name {show(name)} has a slash in it")
    if len(_encode(name)) > MAX_NAME:
        raise BadPath(f"a name may have {MAX_NAME} bytes, this one has more: {show(name[:64])}...")
    if not name.isprintable() and any(unicodedata.category(c) == "Cc" for c in name):
        raise BadPath(f"the name {show(name)} has control characters in it")
    return name


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadPath(f"{show(text)} is not valid UTF-8") from None


def shorten(name: str, ending: str) -> str:
    """`name` with `ending` after it, cut before that, between two characters, to what a name may have in bytes."""
    room = MAX_NAME - len(ending.encode("utf-8", "surrogateescape"))
    return name.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore") + ending


def join(directory: DfsPath, name: str) -> DfsPath:
    """The path of the entry `name` of `directory`."""
    return DfsPath(directory.rstrip("/") + "/" + check_name(name))


def split(path: DfsPath) -> tuple[DfsPath, str]:
    """`/a/b` to (`/a`, `b`); the root to (`/`, ``)."""
    parent, _, name = path.rpartition("/")
    return DfsPath(parent or "/"), name


def parts(path: DfsPath) -> list[str]:
    """`/a/b` to [`a`, `b`]; the root to []."""
    return path[1:].split("/") if path != ROOT else []


def is_inside(path: DfsPath, directory: DfsPath) -> bool:
    """True where `path` is `directory` or stands somewhere below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def show(text: str) -> str:
    """`text` made safe for a terminal or a log: quoted, control characters and surrogates escaped."""
    return repr(plain(text))


def plain(text: str) -> str:
    """`text` that can be encoded: what of it was no UTF-8 is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
