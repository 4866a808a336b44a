"""Short fault campaigns, which have every kind of fault between them; `make chaos` runs for as long as you like."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests.chaos import faults
from tests.chaos.campaign import homes_of, main
from tests.chaos.history import BROKEN, DONE, NEVER, UNKNOWN, Log, Record, read
from tests.chaos.model import DIRECTORY
from tests.chaos.processes import Restart
from tests.chaos.site import SERVERS, Site

from goggles.testing import postgres
from goggles.testing.cluster import SOURCE, Process, wait_until

HOME = Path(__file__).resolve().parents[2]
TOGETHER = {
    "processes": {"kill", "restart", "stop", "step", "clocks"},
    "network": {"cut", "silence", "delay", "loss", "kill", "drain"},
    "disks": {"flip", "older", "full"},
    "wires": {"blackout", "one-way", "unreachable", "unplugged", "kill", "drain"},
}


def test_every_kind_of_fault_is_in_a_short_campaign():
    assert set().union(*TOGETHER.values()) == faults.TABLE.keys()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", TOGETHER)
def test_what_was_acknowledged_holds_whatever_fails(name: str, tmp_path: Path) -> None:
    left_out = {kind: why for kind in sorted(TOGETHER[name]) if (why := faults.TABLE[kind].why_not())}
    if name == "wires" and left_out:
        pytest.skip("; ".join(f"{kind}: {why}" for kind, why in left_out.items()))
    kinds = ",".join(sorted(TOGETHER[name] - left_out.keys()))
    holds(tmp_path, "--seed", "7", "--faults", kinds)


@pytest.mark.slow
@pytest.mark.postgresql
@pytest.mark.timeout(400)
def test_it_holds_on_postgresql_too(monkeypatch: pytest.MonkeyPatch) -> None:
    if why := postgres.why_not():
        pytest.skip(why)
    monkeypatch.delenv("TMPDIR", raising=False)  # the user of the server must get to its folder
    holds(None, "--seed", "8", "--faults", "kill,restart,stop,step,clocks", "--database", "postgresql")


def holds(folder: Path | None, *words: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.campaign", "--seconds", "10", *words],
        cwd=HOME,
        check=False,
        env={**os.environ, "PYTHONPATH": SOURCE, **({} if folder is None else {"TMPDIR": str(folder)})},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_seed_chooses_the_same_faults_each_time_and_others_than_the_next():
    assert faults.chosen(5) == faults.chosen(5)
    assert len({tuple(faults.chosen(seed)) for seed in range(20)}) > 10
    assert set().union(*(faults.chosen(seed) for seed in range(50))) == set(faults.possible())


def test_a_campaign_has_lines_or_wires_and_says_so_where_it_is_told_to_have_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(len(faults.networks(faults.chosen(seed))) <= 1 for seed in range(50))
    monkeypatch.setattr(faults.cuts.Blackout, "why_not", staticmethod(str))
    with pytest.raises(SystemExit):
        main(["--faults", "kill,cut,delay,blackout"])
    assert "not cut, delay (lines) and blackout (wires) together" in capsys.readouterr().err


def test_where_no_wires_can_be_made_the_other_faults_strike(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("blackout", "one-way", "unreachable", "unplugged"):
        monkeypatch.setattr(faults.TABLE[kind], "why_not", staticmethod(lambda: "not root"))
    assert set(faults.possible()).isdisjoint({"blackout", "one-way", "unreachable", "unplugged"})
    assert all("wires" not in faults.networks(faults.chosen(seed)) for seed in range(50))


def test_with_damage_no_file_has_one_copy_only():
    assert 1 in faults.copies(["kill", "cut"])
    assert 1 not in faults.copies(["kill", "flip"])


def test_a_server_that_was_told_to_end_has_ended_when_all_are_brought_back(tmp_path: Path) -> None:
    slow = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), exit())); print(1, flush=True)"
    )
    process = Process("slow", [sys.executable, "-c", f"{slow}; time.sleep(60)"], tmp_path / "log", {})
    wait_until("started", lambda: (tmp_path / "log").stat().st_size > 0)
    site = SimpleNamespace(environments=[], note=print, processes=lambda: dict.fromkeys(SERVERS, process))
    restart = Restart(cast(Site, site), random.Random())
    restart.strike()
    assert process.running
    restart.end()
    assert not process.running


# --- what clients write down, and what must be there then --------------------------------------


def test_a_killed_client_leaves_its_last_operation_unknown(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.begin("put", "/h", "a", digest="1")
    log.end(DONE)
    log.begin("rm", "/h", "a")
    first, second = read("c0", tmp_path / "log")
    assert (first.outcome, first.digest, first.began <= first.ended) == (DONE, "1", True)
    assert (second.kind, second.outcome, second.ended) == ("rm", UNKNOWN, NEVER)


def record(kind: str, path: str, outcome: str = DONE, **more: object) -> Record:
    return Record("c0", kind, "/h", path, outcome=outcome, **more)  # type: ignore[arg-type] - as in a log


def allowed(*records: Record) -> list[dict[str, str]]:
    (home,) = homes_of(records)
    return home.trees


def test_what_is_acknowledged_is_the_only_tree_allowed():
    done = [record("put", "a", digest="1"), record("mkdir", "d"), record("mv", "a", other="d/b"), record("get", "d/b")]
    assert allowed(*done) == [{"d": DIRECTORY, "d/b": "1"}]


def test_what_is_unknown_or_against_a_promise_may_have_happened():
    for outcome in (UNKNOWN, BROKEN):
        assert allowed(record("put", "a", digest="1"), record("rm", "a", outcome)) == [{"a": "1"}, {}]


def test_of_files_that_went_together_those_that_failed_may_be_there():
    files = {"d/x": "1", "d/y": "2"}
    (home,) = homes_of([record("tree", "d", files=files, failed=["d/y"])])
    assert home.without_loose({"d": DIRECTORY, **files}) == home.tree == {"d": DIRECTORY, "d/x": "1"}
    (home,) = homes_of([record("put", "a", digest="0"), record("tree", "d", UNKNOWN, files=files)])
    assert home.without_loose({"a": "0", "d": DIRECTORY, "d/x": "1"}) == home.tree == {"a": "0"}
    assert home.without_loose({"a": "0", "d": DIRECTORY, "d/x": "3"}) != home.tree
