from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading

import pytest

from goggles import log
from goggles.errors import SettingsError

HOSTILE = "x\n2026-01-01T00:00:00.000Z ERROR    storage/eve [a] all is lost\x1b[2J\u2028\u202e\ud800"


@pytest.fixture(autouse=True)
def _restored():
    root, own = logging.getLogger(), logging.getLogger("goggles")
    levels = root.level, own.level
    yield
    for handler in [h for h in root.handlers if isinstance(h, log._Handler)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    logging.captureWarnings(False)


@pytest.fixture
def written(tmp_path):
    """Start the log in a file; call for what it holds so far, as lines."""

    def start(*args, **more):
        log.setup(*args, file=tmp_path / "log", **more)
        return lambda: (tmp_path / "log").read_text("utf-8").splitlines()

    return start


def speaker() -> logging.Logger:
    return logging.getLogger("goggles.test")


def test_a_line_says_when_how_bad_who_and_what(written):
    lines = written("info", process="storage/alice")
    speaker().warning("lost %d copies", 3, extra={"path": "/a b", "node": "bob"})
    (line,) = lines()
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING  storage/alice \[MainThread\] "
    assert re.fullmatch(form + r'lost 3 copies \| path="/a b" node=bob', line)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_hostile_name_can_not_make_a_line_of_its_own(written, form):
    lines = written("info", format=form)
    speaker().info("put %s", HOSTILE, extra={"path": HOSTILE})
    assert len(lines()) == 1
    assert lines()[0].isprintable()


def test_json_holds_the_same_and_what_else_the_record_carries(written):
    lines = written("info", format="json", process="nameserver")
    speaker().info("hello %s", "x", extra={"epoch": 3, "thing": {1}, "process_name": "y", "level": "forged"})
    entry = json.loads(lines()[0])
    assert (entry["message"], entry["process"], entry["epoch"], entry["thing"]) == ("hello x", "nameserver", 3, "{1}")
    assert (entry["level"], entry["logger"], entry["thread"]) == ("INFO", "goggles.test", "MainThread")


def test_a_traceback_is_set_off_so_that_it_can_not_pass_for_records(written):
    lines = written("info")
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        speaker().exception("failed")
    first, *trace = lines()
    assert first.endswith("failed") and len(trace) >= 4
    assert all(line.startswith("    | ") and line.isprintable() for line in trace)


def test_json_keeps_the_traceback_in_its_record(written):
    lines = written("info", format="json")
    try:
        raise ValueError("x")
    except ValueError:
        speaker().exception("failed")
    assert json.loads(lines()[0])["traceback"].endswith("ValueError: x")


def test_a_terminal_may_be_spared_the_tracebacks(written):
    lines = written("info", tracebacks=False)
    try:
        raise ValueError("x")
    except ValueError:
        speaker().exception("failed")
    assert len(lines()) == 1


def test_levels(written):
    lines = written("info")
    speaker().debug("no")
    speaker().info("yes")
    logging.getLogger("library").info("no")
    logging.getLogger("library").warning("yes")
    assert [line.rpartition(" ")[2] for line in lines()] == ["yes", "yes"]


def test_debug_opens_the_libraries_too(written):
    lines = written("debug")
    logging.getLogger("library").debug("yes")
    assert len(lines()) == 1


def test_without_a_file_it_is_standard_error_and_never_standard_output(capsys):
    log.setup("info")
    speaker().info("hello")
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("hello\n")


def test_setting_up_again_replaces_what_was_set_up(tmp_path):
    log.setup("info", tmp_path / "first")
    log.setup("info", tmp_path / "second")
    speaker().info("hello")
    assert (tmp_path / "first").read_text() == "" and "hello" in (tmp_path / "second").read_text()


def test_a_file_that_was_rotated_away_is_made_again(tmp_path):
    log.setup("info", tmp_path / "log")
    speaker().info("one")
    (tmp_path / "log").rename(tmp_path / "log.1")
    speaker().info("two")
    assert "one" in (tmp_path / "log.1").read_text() and "two" in (tmp_path / "log").read_text()


def test_a_file_that_can_not_be_written_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        log.setup("info", tmp_path / "none" / "log")


def test_a_full_disk_costs_a_line_and_not_the_program(capsys):
    log.setup("info", "/dev/full")
    speaker().info("hello")
    assert "a line of the log was lost (goggles.test" in capsys.readouterr().err


def test_a_wrong_call_costs_a_line_and_not_the_program(capsys):
    record = logging.makeLogRecord({"name": "goggles.test", "msg": "%d", "args": ("no number",)})
    log.setup("info").handle(record)
    err = capsys.readouterr().err
    assert "a line of the log was lost" in err and "Traceback" not in err


def test_nobody_left_to_be_told(monkeypatch):
    log.setup("info", "/dev/full")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    speaker().info("hello")


def test_a_thread_that_dies_is_said_in_the_log(written):
    lines = written("info")
    error = ValueError("x")
    log.uncaught(threading.ExceptHookArgs((ValueError, error, None, threading.current_thread())))
    log.uncaught(threading.ExceptHookArgs((SystemExit, SystemExit(0), None, None)))
    assert len([line for line in lines() if "died" in line]) == 1


def test_escape_keeps_what_people_write():
    assert log.escape("Übung 日本 (1).txt") == "Übung 日本 (1).txt"
    assert log.escape("a\tb\x7f\u200b") == "a\\tb\\x7f\\u200b"


def _lines(count):
    return [logging.LogRecord("goggles.story", logging.INFO, __file__, 0, "line %d", (n,), None) for n in range(count)]


def test_several_lines_go_in_one_write(tmp_path, monkeypatch):
    handler = log.setup("info", tmp_path / "log")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    written: list[str] = []
    monkeypatch.setattr(handler.stream, "write", written.append)
    log.tell_all(logging.getLogger("goggles.story"), _lines(3))
    (text,) = written
    assert [line.split()[-1] for line in text.splitlines()] == ["0", "1", "2"]


def test_lines_follow_a_file_that_was_rotated_away(tmp_path, monkeypatch):
    handler = log.setup("info", tmp_path / "log")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    (tmp_path / "log").rename(tmp_path / "old")
    log.tell_all(logging.getLogger("goggles.story"), _lines(2))
    assert (tmp_path / "log").read_text().count("line") == 2


def test_lines_that_fail_together_are_tried_one_by_one(tmp_path, monkeypatch):
    handler = log.setup("info", tmp_path / "log")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    odd = logging.LogRecord("goggles.story", logging.INFO, __file__, 0, "%d of them", ("many",), None)
    log.tell_all(logging.getLogger("goggles.story"), [*_lines(1), odd, *_lines(1)])
    assert (tmp_path / "log").read_text().count("line 0") == 2
