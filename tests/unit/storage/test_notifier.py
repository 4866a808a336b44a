"""The nameserver hears what was staged, also after it was restarted and the kept connection with it is dead."""

from collections.abc import Iterator

import pytest

from goggles.errors import ConnectionLost, Unavailable, UploadLost
from goggles.storage.notifier import Notifier

UPLOAD, DIGEST = "a" * 32, "0" * 64


class Line:
    """A connection to a nameserver that gives these answers, one a call; an exception ends it."""

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = list(answers)

    def call(self, method: str, session: str, notices: tuple[object, ...]) -> tuple[str, ...]:
        assert (method, session) == ("write_notifications", "session")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return (answer,) * len(notices)

    def close(self) -> None:
        pass


@pytest.fixture
def lines() -> list[Line]:
    return []


@pytest.fixture
def notifier(lines: list[Line]) -> Iterator[Notifier]:
    notifier = Notifier(lambda: lines.pop(0), lambda: "session")
    notifier.start()
    yield notifier
    notifier.stop()


def test_a_kept_connection_that_is_dead_costs_nothing(notifier: Notifier, lines: list[Line]) -> None:
    lines += [Line("keep", ConnectionLost("the nameserver was restarted")), Line("keep")]
    notifier.notify(UPLOAD, 1, DIGEST)
    notifier.notify(UPLOAD, 1, DIGEST)
    assert not lines


def test_a_new_connection_that_dies_is_not_tried_for_ever(notifier: Notifier, lines: list[Line]) -> None:
    lines += [Line(ConnectionLost("gone"))]
    with pytest.raises(Unavailable, match="gone"):
        notifier.notify(UPLOAD, 1, DIGEST)


def test_bytes_that_nobody_waits_for_are_known_as_such(notifier: Notifier, lines: list[Line]) -> None:
    lines += [Line("discard")]
    with pytest.raises(UploadLost):
        notifier.notify(UPLOAD, 1, DIGEST)
