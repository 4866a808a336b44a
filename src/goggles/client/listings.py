"""What a nameserver lists, before it is believed.

Law: the names of a listing become names of local files (`get -r`), and the last one is where the next page begins; so
each must be a name of the very directory that was asked for, behind the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from goggles.contracts.records import Entry, FileInfo
from goggles.errors import BadPath, ProtocolError
from goggles.paths import DfsPath, check_name, show


def need_entries_of(directory: DfsPath, after: str, entries: Sequence[Entry]) -> None:
    """ProtocolError unless these can stand in `directory` behind the name `after`; a file lists itself."""
    if len(entries) == 1 and isinstance(entries[0], FileInfo) and entries[0].path == directory:
        return
    above = directory.rstrip("/") + "/"
    for entry in entries:
        if type(entry.path) is not str or not entry.path.startswith(above):
            raise ProtocolError(f"the nameserver lists {show(str(entry.path)[:200])} in {show(directory[:200])}")
        name = entry.path[len(above) :]
        if not _is_name(name) or name <= after:  # characters have the same order as their bytes in UTF-8
            raise ProtocolError(f"the nameserver lists {show(name[:200])}, which is no name, or not the next one")
        after = name


def _is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except BadPath:
        return False
