"""The collections of the emulator: folders, and what the service lets an identity see and do in them.

Law: nothing outside a collection's folder is read or written, whatever path or link leads there.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.network.globus.rules import Refused, bad, check_path, number

DENIED = "PERMISSION_DENIED"


@dataclass
class Collection:
    """A folder that is a collection."""

    id: str
    folder: Path
    name: str
    umask: int = 0o022
    hides_dots: bool = False
    makes_folders: bool = True
    online: bool = True
    consent: bool = False
    session: dict[str, Any] | None = None
    readers: set[str] | None = None  # identities; None: all
    writers: set[str] | None = None

    def place(self, path: str) -> Path:
        inner = path.removeprefix("/~/").removeprefix("~/").lstrip("/")
        return self.folder / inner

    def hidden(self, path: str) -> bool:
        return self.hides_dots and any(part.startswith(".") for part in path.split("/"))

    def outside(self, path: str) -> bool:
        return not self.place(path).resolve().is_relative_to(self.folder.resolve())

    def readable(self, path: str, who: str) -> bool:
        return not self._closed(path, who, self.readers)

    def writable(self, path: str, who: str) -> bool:
        return not self._closed(path, who, self.writers)

    def _closed(self, path: str, who: str, allowed: set[str] | None) -> bool:
        return self.outside(path) or self.hidden(path) or (allowed is not None and who not in allowed)

    def read(self, path: str, who: str) -> tuple[bytes, str]:
        """The bytes of a file, or the code of what is in the way."""
        if not self.readable(path, who):
            return b"", DENIED
        try:
            return self.place(path).read_bytes(), ""
        except FileNotFoundError:
            return b"", "FILE_NOT_FOUND"
        except IsADirectoryError:
            return b"", "IS_A_DIRECTORY"
        except NotADirectoryError:
            return b"", "NOT_A_DIRECTORY"
        except PermissionError:
            return b"", DENIED

    # --- calls -----------------------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        named = {"DATA_TYPE": "endpoint", "id": self.id, "display_name": self.name, "canonical_name": self.id}
        kind = {"entity_type": "GCSv5_mapped_collection", "default_directory": "/~/", "gcp_connected": self.online}
        return named | kind

    def look(self, verb: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The answer to ls or stat."""
        path = query.get("path", "/~/")
        check_path(path)
        if not self.online:
            raise Refused(409, "ClientError.Conflict.GCNotConnected", "Globus Connect Personal is not connected")
        if self.outside(path):
            raise Refused(403, "EndpointPermissionDenied", "Denied by endpoint: Path not allowed")
        place = self.place(path)
        if self.hidden(path) or not place.exists():
            raise Refused(404, "ClientError.NotFound", f"Directory {path!r} not found on endpoint {self.id}")
        if verb == "stat":
            return _file(place)
        if not place.is_dir():
            raise Refused(502, "ExternalError.DirListingFailed.NotDirectory", f"{path} is not a directory")
        limit, offset = number(query, "limit", 100_000, 100_000, 1), number(query, "offset", 0, 100_000)
        dots = query.get("show_hidden", "1") not in ("0", "false") and not self.hides_dots
        rows = [_file(each) for each in sorted(place.iterdir()) if dots or not each.name.startswith(".")]
        page = rows[offset : offset + limit]
        said = {"DATA_TYPE": "file_list", "path": path, "absolute_path": path, "endpoint": self.id}
        return said | {"DATA": page, "length": len(page), "total": len(rows)}

    def mkdir(self, who: str, document: Any) -> dict[str, Any]:
        if not isinstance(document, dict) or document.get("DATA_TYPE") != "mkdir" or "path" not in document:
            raise bad("This is no mkdir document")
        path = document["path"]
        check_path(path)
        if not self.writable(path, who):
            raise Refused(403, "EndpointPermissionDenied", "Denied by endpoint: Path not allowed")
        place = self.place(path)
        if place.exists():
            raise Refused(502, "ExternalError.MkdirFailed.Exists", "Path already exists")
        if not place.parent.is_dir():
            raise Refused(404, "ClientError.NotFound", f"{path}: no such folder")
        place.mkdir()
        return {"DATA_TYPE": "mkdir_result", "code": "DirectoryCreated", "message": "The directory was created"}


def _file(place: Path) -> dict[str, Any]:
    seen = place.stat()
    changed = datetime.fromtimestamp(seen.st_mtime, UTC).isoformat(" ", "seconds")
    row = {"DATA_TYPE": "file", "name": place.name, "type": "dir" if place.is_dir() else "file", "size": seen.st_size}
    return row | {"permissions": f"{stat.S_IMODE(seen.st_mode):04o}", "last_modified": changed, "link_target": None}
