"""How the values of settings are written: sizes, times, paths, choices, and what a settings file may hold for each.

Law: a kind takes text, whatever place it came from, and raises ValueError for what it is not.
"""

from __future__ import annotations

import json
import re
import urllib.parse
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_YES_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written.  `read` takes text and raises ValueError; `natives` are its types in a settings file."""

    shape: str  # completes "... is not"
    read: Callable[[str], Any]
    natives: tuple[type, ...] = (str,)

    def from_file(self, value: object) -> Any:
        """The value of a key, which must have one of the types that this kind has in TOML and JSON."""
        if type(value) not in self.natives:
            raise ValueError
        if isinstance(value, dict):
            return self.read(json.dumps(value))
        return self.read("\n".join(map(str, value)) if isinstance(value, list) else str(value))


def _text(text: str) -> str:
    if not text or any(char < " " or char == "\x7f" for char in text):
        raise ValueError
    return text


def _path(text: str) -> Path:
    try:
        return Path(_text(text)).expanduser()
    except RuntimeError as error:  # ~nobody-of-this-name
        raise ValueError from error


def _between(number: Any, least: float, most: float) -> Any:
    if not least <= number <= most:
        raise ValueError
    return number


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError
    return int(text)


def size(text: str) -> int:
    """Bytes in `1048576`, `1MiB`, `10G`, `2T`, `1.5g` (powers of 1,024) or `5MB` (powers of 1,000); else ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError
    number, unit, suffix = match.groups()
    factor = (1000 if unit and (suffix or "").lower() == "b" else 1024) ** _UNITS[unit.lower()]
    return int(float(number) * factor) if "." in number else int(number) * factor


def _yes_no(text: str) -> bool:
    if text.lower() not in _YES_NO:
        raise ValueError
    return _YES_NO[text.lower()]


def _web(text: str) -> str:
    parts = urllib.parse.urlsplit(_text(text))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    return text


def count(least: int, most: int) -> Kind:
    """A whole number between two bounds."""
    return Kind(f"a whole number from {least} to {most}", lambda text: _between(_whole(text), least, most), (int,))


def seconds(least: float = 0.0, most: float = 1e9) -> Kind:
    """A time span."""
    shape = f"a number of seconds, at least {least:g}"
    return Kind(shape, lambda text: _between(float(text), least, most), (int, float))


def choice(*words: str) -> Kind:
    """One of a few words."""
    return Kind("one of " + ", ".join(words), lambda text: words[words.index(text.lower())])


TEXT = Kind("text without control characters", _text)
PATH = Kind("a path", _path)
PORT = count(0, 65_535)
SIZE = Kind(
    "a size in bytes from 1 up, as 1048576, 1MiB, 10G or 2T", lambda t: _between(size(t), 1, 1 << 60), (int, str)
)
WEB = Kind("an address that begins with http:// or https://", _web)
RATE = Kind("bytes a second, as 500K or 10M; 0: no limit", lambda t: _between(size(t), 0, 1 << 50), (int, str))
SWITCH = Kind("yes or no", _yes_no, (bool,))
LINES = Kind("a list of texts", lambda text: tuple(text.split("\n")), (list,))
PATHS = Kind("paths with : between them", lambda text: tuple(Path(part) for part in text.split(":") if part))
UUID = Kind("a UUID, as 01234567-89ab-cdef-0123-456789abcdef", lambda text: str(uuid.UUID(_text(text))))


def _managers(text: str) -> dict[str, Any]:
    """What the seeds' `asynchronous_transfer_manager_data` holds: JSON, or the name of a file with JSON."""
    try:
        found: Any = json.loads(text if text.lstrip().startswith("{") else _path(text).read_text("utf-8"))
    except (OSError, RecursionError) as error:
        raise ValueError from error
    globus = found.get("globus", {}) if isinstance(found, dict) else None
    if not isinstance(globus, dict) or set(found) - {"globus"}:
        raise ValueError
    known = {"available": bool, "destination_endpoint": str, "root": str}
    if any(key not in known or not isinstance(value, known[key]) for key, value in globus.items()):
        raise ValueError
    if globus.get("destination_endpoint"):
        UUID.read(globus["destination_endpoint"])
    return dict(found)


MANAGERS = Kind(
    'JSON like {"globus": {"available": true, "destination_endpoint": "UUID"}}, or a file that holds it',
    _managers,
    (str, dict),
)
