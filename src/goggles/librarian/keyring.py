"""The key under which the passwords of peers lie in the database.

Law: the key is in a file of its own, never in the database or a log, readable by its owner only; made at first use.
A database without its key is no use to a thief, and a key that was lost costs the passwords of peers and nothing else.
Source of the form: Fernet (cryptography).
"""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from goggles.errors import DatabaseError, SettingsError
from goggles.pki.pem import write_file


class Keyring:
    """Seals and opens short texts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fernet: Fernet | None = None

    def seal(self, text: str) -> bytes:
        return self._key().encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """The text; DatabaseError where another key sealed it."""
        try:
            return self._key().decrypt(sealed).decode()
        except InvalidToken as error:
            raise DatabaseError(
                f"what the database says of a peer was not encrypted with the key in {self.path}",
                "put the right key back (--encryption_key_file), or add the peer anew",
            ) from error

    def _key(self) -> Fernet:
        if self._fernet is None:
            self._fernet = self._load()
        return self._fernet

    def _load(self) -> Fernet:
        try:
            if not self.path.exists():
                write_file(self.path, Fernet.generate_key() + b"\n", 0o600, replace=False)
            if self.path.stat().st_mode & 0o077:
                raise SettingsError(f"{self.path} can be read by others", f"chmod 600 {self.path}")
            return Fernet(self.path.read_bytes().strip())
        except OSError as error:
            raise SettingsError(
                f"{self.path} can not be read: {error.strerror}", "see --encryption_key_file"
            ) from error
        except ValueError as error:
            raise SettingsError(f"{self.path} holds no key", "put the right one back") from error
