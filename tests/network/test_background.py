"""Background tasks: how they went outlives a restart; and vg-background, the schedule in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goggles.errors import BadRequest, NotFound, PermissionDenied, SettingsError
from goggles.librarian.background import PATIENCE
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, Process, wait_until
from goggles.testing.network import Network

CHECK = {"task_name": "check", "every": "00:00:01"}
SCHEDULE = {
    "send_clone": [{"task_name": "send all", "every": "00:00:01", "destination_librarian": "central"}],
    "consume_queue": [{"task_name": "consume", "every": "00:00:01"}],
    "check_consumed_queue": [CHECK],
    "receive_clone": [{"task_name": "receive", "every": "00:00:01", "soft_timeout": "00:01:00"}],
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """At the source no task runs by itself; at the destination all do."""
    made = Network(tmp_path_factory.mktemp("background"), {"source": ("alice",), "central": ("carol",)})
    made["source"]._nameserver_flags += ["--background", "off"]
    with made as network:
        network.link("source", "central")
        yield network


def tasks(network: Network, site: str = "source") -> dict[str, dict[str, Any]]:
    return {dict(row)["name"]: dict(row) for row in network.admin(site, "get_tasks")}


def restart(site: Cluster, *flags: str) -> None:
    assert site.nameserver is not None
    site.nameserver.stop()
    site.start_nameserver(flags)
    site.wait_active(site.names)


def command(site: Cluster, schedule: Any, *flags: str, who: tuple[str, Role] = ("admin", Role.ADMIN)) -> list[str]:
    file = site.folder / "schedule.json"
    file.write_text(schedule if isinstance(schedule, str) else json.dumps(schedule))
    made = [sys.executable, "-m", "goggles.cli.background", "--background", str(file), "--ns_port", str(site.port)]
    return [*made, *site.certificates.flags(*who), *flags]


def once(site: Cluster, schedule: Any, *flags: str, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(site, schedule, "--once", *flags, **more),
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def arrived(network: Network, path: str) -> bool:
    with network["central"].connect() as fs:
        return fs.exists(path)


def write(network: Network, path: str) -> None:
    with network["source"].connect() as fs:
        fs.write(path, path.encode())


def test_with_off_no_task_runs_by_itself_and_run_task_still_does(network: Network) -> None:
    assert tasks(network) == {}
    write(network, "/by-hand")
    assert network.run("source", "send_clone") == 1
    time.sleep(2.5)
    assert not arrived(network, "/by-hand")
    assert network.run("source", "consume_queue") == 1
    wait_until("it is pushed", lambda: network.run("source", "check_consumed_queue") == 1, 20)
    network.wait_arrived("central", ["/by-hand"])


def test_once_runs_each_task_once_and_says_how_it_went(network: Network) -> None:
    write(network, "/once")
    done = once(network["source"], SCHEDULE)
    assert (done.returncode, "task send all: 1 done" in done.stderr) == (0, True), done.stderr
    went = tasks(network)
    assert {name: (task["kind"], task["result"], task["next"]) for name, task in went.items()} == {
        "send all": ("send_clone", "done", 0.0),
        "consume": ("consume_queue", "done", 0.0),
        "check": ("check_consumed_queue", "done", 0.0),
        "receive": ("receive_clone", "done", 0.0),
    }
    assert (went["send all"]["count"], went["receive"]["soft_timeout"]) == (1, 60.0)


def test_once_fails_where_one_task_fails_and_runs_the_others(network: Network) -> None:
    lost = {"task_name": "lost", "every": "01:00:00", "destination_librarian": "nowhere"}
    before = tasks(network)["check"]["began"]
    done = once(network["source"], {"send_clone": [lost], "check_consumed_queue": [CHECK]})
    assert done.returncode == 1
    assert "task lost: no librarian 'nowhere' is known here" in done.stderr
    assert tasks(network)["check"]["began"] > before
    assert (tasks(network)["lost"]["result"], tasks(network)["lost"]["message"] != "") == ("failed", True)
    rows = [dict(row) for row in network.admin("source", "search_errors")]
    assert [row["category"] for row in rows if "task lost failed" in row["message"]] == ["configuration"]


def test_what_is_wrong_at_the_start_is_said_in_one_line(network: Network, tmp_path: Path) -> None:
    site = network["source"]
    wrong = once(site, {"send_clone": [{"task_name": "x"}]})
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "send_clone[0].every is missing" in wrong.stderr
    client = once(site, SCHEDULE, who=("client", Role.CLIENT))
    assert (client.returncode, "has level READWRITE" in client.stderr) == (1, True)
    dead = Cluster(tmp_path / "dead", (), site="source")
    nobody = subprocess.run(
        [*command(site, {"check_consumed_queue": [CHECK]}, "--once"), "--ns_port", str(dead.port)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (nobody.returncode, nobody.stderr.count("no connection to the nameserver")) == (1, 1)


def test_it_works_beside_the_nameserver_and_waits_for_one_that_is_gone(network: Network) -> None:
    site = network["source"]
    log = site.folder / "background.log"
    beside = Process("background", command(site, SCHEDULE), log, {"PYTHONPATH": SOURCE})
    try:
        write(network, "/beside")
        network.wait_arrived("central", ["/beside"])
        assert site.nameserver is not None
        site.nameserver.kill()
        time.sleep(3.0)
        assert beside.running
        site.start_nameserver()
        site.wait_active(site.names)
        write(network, "/after-the-death")
        network.wait_arrived("central", ["/after-the-death"])
        assert {task["result"] for name, task in tasks(network).items() if name in ("check", "consume")} == {"done"}
    finally:
        assert beside.stop() == 0
    assert "Traceback" not in log.read_text()


def test_a_task_of_the_day_waits_for_the_nameserver_and_leaves_while_it_waits(network: Network) -> None:
    site = network["source"]
    daily = {**SCHEDULE, "send_clone": [{**SCHEDULE["send_clone"][0], "task_name": "daily", "every": "24:00:00"}]}
    write(network, "/early")
    assert site.nameserver is not None
    site.nameserver.stop()
    beside = Process("background", command(site, daily), site.folder / "early.log", {"PYTHONPATH": SOURCE})
    late = Process("background", command(site, daily), site.folder / "late.log", {"PYTHONPATH": SOURCE})
    try:
        time.sleep(PATIENCE + 4.0)
        began = time.monotonic()
        assert late.stop() == 0
        assert time.monotonic() - began < 10
        site.start_nameserver()
        site.wait_active(site.names)
        network.wait_arrived("central", ["/early"])
        assert tasks(network)["daily"]["result"] == "done"
    finally:
        assert beside.stop() == 0


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (("nothing", (), "x"), SettingsError, "there is no such kind"),
        (("consume_queue", (), ""), BadRequest, "1 to 128 characters"),
        (("consume_queue", (), "x" * 129), BadRequest, "1 to 128 characters"),
        (("consume_queue", ("x",), "x"), BadRequest, "must be"),
        (("consume_queue", (("x", 1),), "x"), SettingsError, "no such key"),
        (("send_clone", (("destination_librarian", "nowhere"),), "x"), NotFound, "nowhere"),
        (("consume_queue", (), "x", -1.0), SettingsError, "soft_timeout"),
    ],
)
def test_what_run_plan_refuses(network: Network, args: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        network.admin("source", "run_plan", *args)


def test_run_plan_is_for_administrators(network: Network) -> None:
    peer = network["source"].dial("client", Role.CLIENT)
    try:
        with pytest.raises(PermissionDenied):
            peer.call("run_plan", "consume_queue", (), "x")
    finally:
        peer.close()


# --- inside the nameserver -------------------------------------------------------------------


def test_how_tasks_went_outlives_a_restart(network: Network) -> None:
    central = network["central"]
    file = central.folder / "hourly.json"
    hourly = {"task_name": "hourly", "every": "01:00:00", "age_in_days": 1}
    lost = {"task_name": "lost", "every": "02:00:00", "destination_librarian": "nowhere"}
    file.write_text(json.dumps({"incoming_transfer_hypervisor": [hourly], "send_clone": [lost]}))
    restart(central, "--background", str(file))
    fresh = tasks(network, "central")
    assert set(fresh) == {"hourly", "lost"}
    assert (fresh["hourly"]["began"], fresh["hourly"]["result"], fresh["hourly"]["every"]) == (0.0, "", 3600.0)
    assert 0 < fresh["hourly"]["next"] - time.time() <= 60, "what never ran does so soon"
    network.run("central", "hourly")
    with pytest.raises(NotFound):
        network.run("central", "lost")
    before = tasks(network, "central")
    restart(central, "--background", str(file))
    after = tasks(network, "central")
    for name in ("hourly", "lost"):
        assert {key: after[name][key] for key in ("began", "ended", "result", "message")} == {
            key: before[name][key] for key in ("began", "ended", "result", "message")
        }
    assert (after["hourly"]["result"], after["lost"]["result"]) == ("done", "failed")
    assert after["hourly"]["next"] == pytest.approx(after["hourly"]["began"] + 3600, abs=2), "its turn is kept"


def test_the_shell_lists_and_runs_tasks(network: Network) -> None:
    central = network["central"]

    def shell(*lines: str) -> subprocess.CompletedProcess[str]:
        words = [word for line in lines for word in ("-c", line)]
        program = [sys.executable, "-m", "goggles.cli.client", *words, "--ns_port", str(central.port)]
        return subprocess.run(
            [*program, *central.certificates.flags("admin", Role.ADMIN)],
            env={**os.environ, "PYTHONPATH": SOURCE},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    ran = shell("tasks run hourly", "tasks", "tasks run --json hourly")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "hourly: 0 done"
    assert lines[1].split()[:2] == ["task", "kind"]
    row = next(line for line in lines if line.startswith("hourly ") and "hypervisor" in line)
    assert "1:00:00" in row
    assert "done" in row
    assert json.loads(lines[-1]) == {"name": "hourly", "count": 0}
    assert "no librarian 'nowhere'" in next(line for line in lines if line.startswith("lost "))
    assert [task["name"] for task in json.loads(shell("tasks --json").stdout)] == ["hourly", "lost"]
    for wrong in ("tasks stop", "tasks run", "tasks run nothing"):
        done = shell(wrong)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


def test_the_names_of_tasks_are_completed(network: Network) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from goggles.client.shell.completion import ShellCompleter
    from goggles.client.shell.loop import Shell

    with network["central"].connect() as session:
        completer = ShellCompleter(Shell(session, Path("."), interactive=False, as_json=False))

        def complete(line: str) -> list[str]:
            return [one.text for one in completer.get_completions(Document(line), CompleteEvent())]

        assert complete("tasks ") == ["run "]
        assert complete("tasks run ") == ["hourly ", "lost "]
        assert complete("tasks run h") == ["hourly "]
