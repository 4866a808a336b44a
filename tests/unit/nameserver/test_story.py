"""The story of each file in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from goggles.log import JsonFormat, TextFormat
from goggles.nameserver import story as module
from goggles.nameserver.entry import Entry
from goggles.nameserver.story import Story

ENTRY = Entry(7, 1, "a b", "f", 2, 0.0, 0.0, 12, "0" * 64, 3, "v", "ann", "here")


class Heard(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def heard() -> Iterator[Heard]:
    logger, handler = logging.getLogger("goggles.story"), Heard()
    level, passed_on = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = passed_on


def tell(story: Story) -> None:
    story.put("/a 100% b", "ann", ENTRY, ["alice", "bob", "carol"], 4)
    story.copying("/a", "alice", "bob")
    story.copied("/a", "bob")
    story.trimmed("/a", "carol")
    story.tell("mv", "moved %s to %s", path="/a", to="/b")


def test_each_line_says_it_for_people_and_for_machines(heard: Heard):
    story = Story()
    tell(story)
    story.start()
    story.stop()
    assert [record.getMessage() for record in heard.records] == [
        "put /a 100% b: 12 bytes by ann, on alice, bob and carol, generation 3, copies owed: 1",
        "copying /a from alice to bob",
        "copied /a to bob",
        "one copy of /a too many: the one on carol goes",
        "moved /a to /b",
    ]
    line = json.loads(JsonFormat("nameserver").format(heard.records[0]))
    assert (line["event"], line["path"], line["size"], line["owed"]) == ("put", "/a 100% b", 12, 1)
    assert line["storages"] == ["alice", "bob", "carol"]
    text = TextFormat("nameserver").format(heard.records[0])
    assert text.endswith("copies owed: 1"), "what is for machines stands in JSON only"


def test_nothing_is_written_by_whoever_tells(heard: Heard):
    tell(Story())
    assert heard.records == [], "it may hold the global lock"


def test_what_is_too_much_is_left_out_and_counted(heard: Heard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    story = Story()
    tell(story)
    story.start()
    story.stop()
    assert [record.levelname for record in heard.records] == ["INFO", "INFO", "INFO", "WARNING"]
    assert "2 lines of this story were left out" in heard.records[-1].getMessage()


def test_a_log_that_does_not_hear_it_costs_nothing(heard: Heard):
    logging.getLogger("goggles.story").setLevel(logging.WARNING)
    story = Story()
    tell(story)
    story.start()
    story.stop()
    assert heard.records == []


def test_the_site_says_once_that_files_are_short_of_copies_and_once_that_none_is(heard: Heard):
    story, counted = Story(), []

    def count(files: int) -> int:
        counted.append(files)
        return files

    for owed, files in ((False, 0), (True, 5), (True, 4), (True, 0), (False, 1), (False, 0), (False, 0)):
        story.standing(owed, lambda files=files: count(files))
    story.start()
    story.stop()
    assert [record.getMessage() for record in heard.records] == [
        "files that are short of a copy: 5",
        "every file has its copies",
    ]
    assert counted == [5, 1, 0], "the table is counted only when something may have changed"
