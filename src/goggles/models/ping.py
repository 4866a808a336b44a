"""What a librarian says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PingResponse:
    """`name`: the name of the librarian, which is that of its site, and that of its accounts on others."""

    name: str
    description: str
