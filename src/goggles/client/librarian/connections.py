"""The librarians that a user has names for: ~/.hl_client.cfg and its kin.

Law: connections come from the file that HL_CLIENT_CONFIG names, else ~/.hl_client.cfg, else ~/.hl_client.json, and from
the variable LIBRARIAN_CLIENT_CONNECTIONS, which is stronger.  A connection that can not be used is no reason not to use
another.  An error names the place and the key, and never shows a password.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goggles.client.librarian.where import address_of
from goggles.errors import BadRequest, SettingsError

FILE = "HL_CLIENT_CONFIG"
VARIABLE = "LIBRARIAN_CLIENT_CONNECTIONS"
USUAL = (".hl_client.cfg", ".hl_client.json")
KEYS = frozenset(
    ("url", "authenticator", "host", "port", "user", "password", "ca_cert", "certfile", "keyfile", "certificate_name")
)
EXAMPLE = '{"connections": {"NAME": {"url": "https://host:port/", "authenticator": "user:password"}}}'


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """How one librarian is reached, and as whom.  What is not given of the certificates is found, as vg finds it."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    ca_cert: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    certificate_name: str = ""  # in the librarian's certificate, where that is not the host (a tunnel)


@dataclass(frozen=True, slots=True)
class Connections:
    """All that were found.  `wrong`: what is wrong with those that can not be used; `places`: where they stand;
    `open_to_others`: the file, where others can read it."""

    known: Mapping[str, ClientInfo]
    places: tuple[str, ...]
    open_to_others: Path | None = None
    wrong: Mapping[str, SettingsError] = field(default_factory=dict)

    def need(self, name: str) -> ClientInfo:
        """SettingsError where there is none of this name, or something is wrong with it."""
        if name in self.known:
            return self.known[name]
        if name in self.wrong:
            raise self.wrong[name]
        if not self.places:
            raise SettingsError(
                f"there is no connection {name!r}: neither ~/{USUAL[0]} nor ~/{USUAL[1]} is there, nor is {FILE} set",
                f"write {EXAMPLE}",
            )
        near = difflib.get_close_matches(name, self.known, 1)
        there = "there are " + ", ".join(sorted(self.known)) if self.known else "there are none"
        raise SettingsError(
            f"there is no connection {name!r} in {' or '.join(self.places)}",
            f"did you mean {near[0]}?" if near else there,
        )


def load(environ: Mapping[str, str] | None = None, home: Path | None = None) -> Connections:
    """The connections of this user."""
    environ = os.environ if environ is None else environ
    found: dict[str, ClientInfo | SettingsError] = {}
    places: list[str] = []
    exposed = None
    file = _file(environ, home or _home())
    if file is not None:
        found |= _from_file(file)
        places.append(str(file))
        exposed = file if file.stat().st_mode & 0o077 else None
    if environ.get(VARIABLE):
        found |= _each(_json(environ[VARIABLE], VARIABLE), VARIABLE, Path())
        places.append(VARIABLE)
    known = {name: one for name, one in found.items() if isinstance(one, ClientInfo)}
    wrong = {name: one for name, one in found.items() if isinstance(one, SettingsError)}
    return Connections(known, tuple(places), exposed, wrong)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise SettingsError("this user has no home directory", f"name the file with {FILE}") from error


def _file(environ: Mapping[str, str], home: Path) -> Path | None:
    if environ.get(FILE):
        return Path(environ[FILE]).expanduser()
    return next((home / name for name in USUAL if (home / name).exists()), None)


def _from_file(file: Path) -> dict[str, ClientInfo | SettingsError]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"{file} can not be read: {error.strerror}", f"see {FILE}, or make it") from error
    except UnicodeError as error:
        raise SettingsError(f"{file} is not UTF-8") from error
    content = _json(text, str(file))
    if not isinstance(content, dict) or "connections" not in content:
        raise SettingsError(f"{file} has no key connections", f"it looks like {EXAMPLE}")
    return _each(content["connections"], f"{file}: connections", file.parent)


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{place} is not JSON: {error}") from error


def _each(content: Any, place: str, folder: Path) -> dict[str, ClientInfo | SettingsError]:
    """What can not be used is told when it is asked for: it must not keep anybody from the others."""
    if not isinstance(content, dict):
        raise SettingsError(f"{place} must be an object of connections by name")
    found: dict[str, ClientInfo | SettingsError] = {}
    for name, item in content.items():
        try:
            found[name] = _Reader(item, f"{place}.{name}", folder).info()
        except SettingsError as error:
            found[name] = error
    return found


class _Reader:
    """One connection, in either of the two shapes."""

    def __init__(self, item: Any, place: str, folder: Path) -> None:
        if not isinstance(item, dict):
            raise SettingsError(f"{place} must be an object", f"as in {EXAMPLE}")
        self._item = item
        self._place = place
        self._folder = folder
        for key in item:
            if key not in KEYS:
                near = difflib.get_close_matches(str(key), KEYS, 1)
                hint = f"did you mean {near[0]}?" if near else "known keys: " + ", ".join(sorted(KEYS))
                raise SettingsError(f"{place}.{key} is no key of a connection", hint)

    def info(self) -> ClientInfo:
        user, password = self._who()
        host = self._text("url") or self._text("host")
        if not host:
            raise SettingsError(f"{self._place} has neither url nor host")
        try:
            address = address_of(host, self._port())
        except BadRequest as error:
            key = "url" if self._text("url") else "host"
            raise SettingsError(f"{self._place}.{key}: {error.message}", error.hint) from error
        files = {key: self._path(key) for key in ("ca_cert", "certfile", "keyfile")}
        tunnel = self._text("certificate_name")
        return ClientInfo(address.host, address.port, user, password, certificate_name=tunnel, **files)

    def _who(self) -> tuple[str, str]:
        if "authenticator" in self._item:
            user, colon, password = self._text("authenticator").partition(":")
            if not (user and colon and password):
                raise SettingsError(f"{self._place}.authenticator is not user:password", "of an account on it")
            return user, password
        for key in ("user", "password"):
            if not self._text(key):
                raise SettingsError(f"{self._place}.{key} is missing", "give user and password, or an authenticator")
        return self._text("user"), self._text("password")

    def _text(self, key: str) -> str:
        value = self._item.get(key, "")
        if not isinstance(value, str):
            raise SettingsError(f"{self._place}.{key} must be text")
        return value

    def _port(self) -> int:
        port = self._item.get("port", 0)
        if isinstance(port, str) and port.isascii() and port.isdigit():
            port = int(port)
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port < 65_536:
            raise SettingsError(f"{self._place}.port is not a port")
        return port

    def _path(self, key: str) -> Path | None:
        """Relative ones start at the folder of the file."""
        text = self._text(key)
        try:
            return self._folder / Path(text).expanduser() if text else None
        except RuntimeError as error:
            raise SettingsError(f"{self._place}.{key}: {error}") from error
