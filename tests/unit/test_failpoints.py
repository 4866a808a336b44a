from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.points import points

import goggles
from goggles import failpoints
from goggles.errors import SettingsError
from goggles.failpoints import InjectedFailure

HOME = Path(__file__).resolve().parents[2]


def test_the_page_names_every_failpoint_and_no_other():
    page = (HOME / "docs/failpoints.md").read_text("utf-8")
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert sorted(re.findall(r"`((?:\w+\.){2}\w+)`", "\n".join(table))) == points()


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    failpoints.disarm()


def outcomes(name: str, hits: int) -> str:
    """`x` for each hit that failed, `.` for each that did not."""
    marks = ""
    for _ in range(hits):
        try:
            failpoints.hit(name)
            marks += "."
        except InjectedFailure:
            marks += "x"
    return marks


def test_nothing_happens_where_nothing_is_armed():
    assert outcomes("a", 3) == "..."


@pytest.mark.parametrize(("action", "marks"), [("error", "xxxx"), ("error*2", "xx.."), ("error@3", "..x.")])
def test_an_armed_point_fails_as_often_as_it_was_told(action, marks):
    failpoints.arm_from(f"a={action}")
    assert outcomes("a", 4) == marks
    assert outcomes("b", 1) == "."


def test_several_points_are_armed_by_one_text():
    failpoints.arm_from("a=error@1; b=sleep:0 ;c=error")
    assert (outcomes("a", 2), outcomes("b", 1), outcomes("c", 1)) == ("x.", ".", "x")


def test_a_disarmed_point_is_quiet_and_leaves_the_others_armed():
    failpoints.arm_from("a=error;b=error")
    failpoints.disarm("a")
    assert (outcomes("a", 1), outcomes("b", 1)) == (".", "x")


def test_a_function_can_be_armed():
    seen = []
    failpoints.arm("a", lambda: seen.append(1))
    failpoints.hit("a")
    assert seen == [1]


def test_an_unknown_action_is_refused():
    with pytest.raises(SettingsError, match="explode"):
        failpoints.arm_from("a=explode")


def test_crash_kills_the_process_with_no_time_for_goodbyes():
    source = str(Path(goggles.__file__).parents[1])
    code = "from goggles import failpoints; failpoints.hit('a'); failpoints.hit('a'); print('alive')"
    environment = {**os.environ, "PYTHONPATH": source, failpoints.ENVIRONMENT: "a=crash@2"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")
