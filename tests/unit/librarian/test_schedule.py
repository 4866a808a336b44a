"""The schedule of background tasks: what is read from it, and what is said of mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from goggles.errors import SettingsError
from goggles.librarian import schedule
from goggles.librarian.schedule import DEFAULT, KINDS, Plan, again, duration, load, read

SEND = {"task_name": "to central", "every": "00:05:00", "destination_librarian": "central"}
CHECK = {"task_name": "check", "every": "00:00:10"}

AS_JSON = """{"send_clone": [{"task_name": "to central", "every": "00:05:00", "soft_timeout": "01:00:00",
 "destination_librarian": "central", "age_in_days": 7, "store_preference": null, "send_batch_size": 10}],
 "check_consumed_queue": [{"task_name": "check", "every": "00:00:10"}]}"""
AS_TOML = """
[[send_clone]]
task_name = "to central"
every = "00:05:00"
soft_timeout = "01:00:00"
destination_librarian = "central"
age_in_days = 7
send_batch_size = 10

[[check_consumed_queue]]
task_name = "check"
every = "00:00:10"
"""


@pytest.mark.parametrize(("name", "text"), [("schedule.json", AS_JSON), ("schedule.toml", AS_TOML)])
def test_a_file_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    send, check = load(tmp_path / name)
    assert (send.kind, send.name, send.every, send.soft_timeout) == ("send_clone", "to central", 300.0, 3600.0)
    assert (send["age_in_days"], send["send_batch_size"], send["store_preference"]) == (7.0, 10, None)
    assert (check.kind, check.name, check.every, check.soft_timeout) == ("check_consumed_queue", "check", 10.0, None)


def test_what_is_left_out_has_its_default() -> None:
    (plan,) = read({"send_clone": [SEND]})
    assert {key: plan[key] for key in KINDS["send_clone"]} == {
        "destination_librarian": "central",
        "age_in_days": None,
        "store_preference": None,
        "send_batch_size": 128,
        "warn_disabled_timer": None,
    }


@pytest.mark.parametrize("spelling", ["receive_clone", "recieve_clone", "recv_clone"])
def test_the_spellings_of_old_files_are_known(spelling: str) -> None:
    assert [plan.kind for plan in read({spelling: [CHECK]})] == ["receive_clone"]


def test_keys_of_existing_librarians_are_taken_over() -> None:
    queue = {**CHECK, "task_name": "queue", "complete_status": 2}
    receive = {**CHECK, "task_name": "receive", "deletion_policy": "ALLOWED"}
    old = {"max_rsync_retries": 8, "check_consumed_queue": [queue], "recieve_clone": [receive]}
    plans = read(old)
    assert [plan.kind for plan in plans] == ["check_consumed_queue", "receive_clone"]
    assert (plans[0]["complete_status"], plans[1]["deletion_policy"]) == (2, 1)
    receive["deletion_policy"], queue["complete_status"] = "disallowed", "STAGED"
    assert [read(old)[0]["complete_status"], read(old)[1]["deletion_policy"]] == [2, 0]


def test_an_empty_schedule_is_one() -> None:
    assert read({}) == ()
    assert read({"send_clone": []}) == ()


def test_the_default_schedule_is_made_of_known_kinds_and_whole() -> None:
    for plan in DEFAULT:
        assert set(plan.values) == set(KINDS[plan.kind])
    assert len({plan.name for plan in DEFAULT}) == len(DEFAULT)


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:01", 1), ("00:01:00", 60), ("24:00:00", 86_400), ("9999:59:59", 35_999_999)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1", "00:00:00", "1:2:3", "00:60:00", "00:00:60", "-1:00:00", "00:00:01 ", "00:00:01\n", 5, 1.5, None]
)
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError):
        duration(text)


MISTAKES: list[tuple[Any, str]] = [
    ([], "a table is needed"),
    ("send_clone", "a table is needed"),
    ({"send_clones": [SEND]}, "send_clones: there is no such kind of task"),
    ({"send_clone": SEND}, "send_clone: a list of tables is needed"),
    ({"send_clone": ["x"]}, r"send_clone\[0\]: a table is needed"),
    ({"check_consumed_queue": [CHECK] * (schedule.MAX_TASKS + 1)}, "check_consumed_queue: a list of tables"),
    ({"send_clone": [SEND, {**SEND, "evry": "00:00:01"}]}, r"send_clone\[1\]\.evry: there is no such key"),
    ({"send_clone": [{"every": "00:00:01"}]}, r"send_clone\[0\]\.task_name is missing"),
    ({"send_clone": [{"task_name": "x"}]}, r"send_clone\[0\]\.every is missing"),
    ({"send_clone": [CHECK]}, r"send_clone\[0\]\.destination_librarian is missing"),
    ({"send_clone": [{**SEND, "task_name": ""}]}, r"send_clone\[0\]\.task_name: '' is not a text"),
    ({"send_clone": [{**SEND, "task_name": 5}]}, r"send_clone\[0\]\.task_name: 5 is not a text"),
    ({"send_clone": [{**SEND, "every": "5 minutes"}]}, r"\.every: '5 minutes' is not a time HH:MM:SS above zero"),
    ({"send_clone": [{**SEND, "every": None}]}, r"\.every: None is not a time"),
    ({"send_clone": [{**SEND, "soft_timeout": 60}]}, r"\.soft_timeout: 60 is not a time HH:MM:SS or null"),
    ({"send_clone": [{**SEND, "age_in_days": -1}]}, r"\.age_in_days: -1 is not a number of days or null"),
    ({"send_clone": [{**SEND, "age_in_days": "7"}]}, r"\.age_in_days: '7' is not a number of days or null"),
    ({"send_clone": [{**SEND, "age_in_days": True}]}, r"\.age_in_days: True is not"),
    ({"send_clone": [{**SEND, "send_batch_size": 0}]}, r"\.send_batch_size: 0 is not a whole number from 1 to 1000"),
    ({"send_clone": [{**SEND, "send_batch_size": 1.5}]}, r"\.send_batch_size: 1.5 is not a whole number"),
    ({"send_clone": [{**SEND, "store_preference": 1}]}, r"\.store_preference: 1 is not a text or null"),
    ({"incoming_transfer_hypervisor": [{**CHECK, "age_in_days": None}]}, r"\.age_in_days: None is not a number"),
    ({"send_clone": [SEND], "check_consumed_queue": [{**CHECK, "task_name": "to central"}]}, "'to central' stands"),
    ({"check_consumed_queue": [{**CHECK, "complete_status": 3}]}, r"complete_status: 3 is not 2 or STAGED"),
    ({"receive_clone": [{**CHECK, "deletion_policy": "PERHAPS"}]}, r"deletion_policy: 'PERHAPS' is not 0 \(DIS"),
    ({"receive_clone": [{**CHECK, "deletion_policy": True}]}, r"deletion_policy: True is not 0 \(DIS"),
    ({"send_clone": [SEND, SEND]}, "task_name 'to central' stands there twice"),
    ({"receive_clone": [CHECK], "recv_clone": [CHECK]}, "task_name 'check' stands there twice"),
]


@pytest.mark.parametrize(("data", "words"), MISTAKES)
def test_a_mistake_names_its_key(data: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read(data)


@pytest.mark.parametrize(("data", "words"), [pair for pair in MISTAKES if isinstance(pair[0], dict)])
def test_a_mistake_in_a_file_names_the_file_too(tmp_path: Path, data: Any, words: str) -> None:
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps(data))
    with pytest.raises(SettingsError, match=words) as caught:
        load(file)
    assert caught.value.message.startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("schedule.json", b"{", "is not JSON"),
        ("schedule.json", b"\xff\xfe", "is not JSON"),
        ("schedule.toml", b"x = ", "is not TOML"),
        ("schedule", b"[[x]]\n", "is not JSON"),
    ],
)
def test_a_file_that_can_not_be_understood(tmp_path: Path, name: str, text: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(SettingsError, match=words):
        load(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can not be read: No such file") as caught:
        load(tmp_path / "none.json")
    assert "--background" in caught.value.hint


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_was_read_can_be_read_again(kind: str) -> None:
    """As vg-background does: a plan crosses the wire and is the same plan on the other side."""
    needed = {key: 1.5 if key == "age_in_days" else "central" for key, rule in KINDS[kind].items() if rule.needed}
    (plan,) = read({kind: [{**CHECK, "soft_timeout": "00:01:00", **needed}]})
    other = again(plan.kind, plan.name, plan.soft_timeout, dict(plan.values))
    assert other == Plan(kind, "check", 0.0, 60.0, plan.values)


@pytest.mark.parametrize(
    ("kind", "timeout", "values", "words"),
    [
        ("nothing", None, {}, "nothing: there is no such kind"),
        ("consume_queue", 0.0, {}, "soft_timeout"),
        ("consume_queue", float("nan"), {}, "soft_timeout"),
        ("consume_queue", None, {"x": 1}, r"consume_queue\.x: there is no such key"),
        ("send_clone", None, {}, r"send_clone\.destination_librarian is missing"),
        ("receive_clone", None, {"files_per_run": -1}, r"receive_clone\.files_per_run"),
    ],
)
def test_what_comes_again_is_checked_again(kind: str, timeout: float | None, values: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        again(kind, "name", timeout, values)


def test_the_schedules_of_the_guide_are_right() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "librarian.md").read_text("utf-8")
    fenced = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)]
    schedules = [content for content in fenced if "connections" not in content]
    indented = re.findall(r"^ {7}(\{.*?\]\})$", guide, re.MULTILINE | re.DOTALL)
    schedules += [json.loads(text) for text in indented]
    kinds = {plan.kind for content in schedules for plan in read(content)}
    assert len(schedules) == 3
    assert {"send_clone", "receive_clone", "create_local_clone"} <= kinds
