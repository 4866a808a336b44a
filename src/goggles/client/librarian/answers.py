"""What a librarian answers, as objects that scripts can use: keys are attributes too, and JSON takes them as they are.

Law: nothing is lost on the way from the wire; unknown keys stay.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from goggles.contracts.records import Pairs
from goggles.errors import BadRequest

TIMES = "give a time as 2026-07-01 or 2026-07-01T12:30:00 (UTC where it names no zone)"


class Answer(dict[str, Any]):
    """A dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class FileAnswer(Answer):
    """A file, also by the names that other librarians use."""

    @property
    def name(self) -> str:
        return str(self["path"])

    @property
    def checksum(self) -> str:
        return f"sha256:::{self['hash']}"

    @property
    def create_time(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self["created"], datetime.UTC)


def answers(items: Iterable[Pairs]) -> list[Answer]:
    return [Answer(item) for item in items]


def file_answer(pairs: Pairs) -> FileAnswer:
    made = FileAnswer(pairs)
    for key in ("instances", "remote_instances"):
        made[key] = answers(made.get(key, ()))
    return made


def seconds(moment: datetime.datetime | float | None) -> float | None:
    """A time as seconds since 1970; one without a zone is UTC."""
    if not isinstance(moment, datetime.datetime):
        return None if moment is None else float(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def moment(text: str) -> datetime.datetime:
    """A time as people write it; BadRequest where it is none."""
    try:
        return datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadRequest(f"{text[:60]!r} is not a time", TIMES) from None
