"""What lies in delivery/ and beside it speaks of things that there are: metrics, settings, programs, libraries."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from goggles.contracts.peering import State
from goggles.contracts.records import StorageInfo
from goggles.librarian.figures import Figures
from goggles.librarian.metrics import STORAGE_STATES, _Collector
from goggles.librarian.peers import PeerInfo
from goggles.librarian.runs import Run
from goggles.librarian.schedule import DEFAULT
from goggles.librarian.troubles import CATEGORIES, SEVERITIES
from goggles.settings import PROGRAMS, options

HOME = Path(__file__).resolve().parents[2]
DELIVERY = HOME / "delivery"
BUILT_IN = {"instance", "job"}
NAMES = ("alice", "bob", "carol", "dave", "eve", "mellory", "trent")
COMPOSE_FILES = ("docker-compose.yml", "docker-compose.librarians.yml")


class _Everything:
    """A reader with one of each thing that there are figures of."""

    def read(self) -> Figures:
        plan = DEFAULT[0]
        return Figures(
            since_upload=1.0,
            storages=[StorageInfo("alice", ("alice", 1), 1, 1, "active", 1, 0, 1, "", 0.0, "", 1.0, 14.0, 1.0, 1.0)],
            transfers={},
            peers=[PeerInfo(1, "central", "https://central", 1, "", True, (), 0.0, 0.0)],
            errors={(severity, category): 1 for severity in SEVERITIES for category in CATEGORIES},
            tasks=[(plan, Run(1.0, 2.0, "done"), 0.0)],
        )


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """The labels of each metric that a nameserver shows."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(_Everything(), "goggles"))
    return {s.name: set(s.labels) for family in registry.collect() for s in family.samples}


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, an expression of Prometheus)."""
    for group in yaml.safe_load((DELIVERY / "monitoring" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads((DELIVERY / "monitoring" / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        yield variable["name"], variable["query"]


def test_every_metric_that_is_watched_exists_with_its_labels(labels: dict[str, set[str]]):
    wrong = []
    for where, text in expressions():
        for name, braces in re.findall(r"(goggles_\w+)(?:\{([^}]*)\})?", text):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces))
            if name not in labels or not used <= labels[name] | BUILT_IN:
                wrong.append(f"{where}: {name} {sorted(used)}")
    assert wrong == []


def test_what_is_grouped_by_or_shown_is_a_label(labels: dict[str, set[str]]):
    known = set().union(*labels.values()) | BUILT_IN
    texts = "".join((DELIVERY / "monitoring" / name).read_text() for name in ("alerts.yml", "dashboard.json"))
    shown = set(re.findall(r"\{\{ ?\$labels\.(\w+)", texts)) | set(re.findall(r"\{\{(\w+)\}\}", texts))
    grouped = {word for group in re.findall(r"(?:by|on) \(([^)]*)\)", texts) for word in re.split(r",\s*", group)}
    assert shown | grouped <= known
    assert len(shown) > 5


def test_values_of_labels_are_values_that_occur():
    known = {"state": {*STORAGE_STATES, *(state.name.lower() for state in State)}, "severity": set(SEVERITIES)}
    wrong = [
        f"{where}: {label}={value}"
        for where, text in expressions()
        for label, values in re.findall(r'(state|severity)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', text)
        for value in values.split("|")
        if value not in known[label]
    ]
    assert wrong == []


def test_every_metric_is_shown_somewhere(labels: dict[str, set[str]]):
    watched = {name for _, text in expressions() for name in re.findall(r"goggles_\w+", text)}
    told_elsewhere = {"goggles_site_info", "goggles_directories"}
    told_elsewhere |= {"goggles_peer_last_heard_timestamp_seconds"}
    assert set(labels) - watched == told_elsewhere


def test_every_alert_says_what_it_means_and_is_explained():
    page = (HOME / "docs" / "monitoring.md").read_text()
    rules = [
        r for g in yaml.safe_load((DELIVERY / "monitoring" / "alerts.yml").read_text())["groups"] for r in g["rules"]
    ]
    assert [
        r["alert"] for r in rules if not r["annotations"]["summary"] or r["labels"]["severity"] not in SEVERITIES
    ] == []
    assert [rule["alert"] for rule in rules if f"\n### {rule['alert']}\n" not in page] == []


# --- what Prometheus itself says -------------------------------------------------------------

MONITORING = DELIVERY / "monitoring"


def promtool(*words: object) -> str:
    """What it says; skipped where there is none."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool here (apt-get install prometheus)")
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_alert_rings_where_it_should_and_is_silent_where_all_is_well():
    promtool("check", "rules", MONITORING / "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", MONITORING / "alerts.test.yml")


def test_each_alert_is_tried_with_good_and_with_bad_figures():
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    cases = yaml.safe_load((MONITORING / "alerts.test.yml").read_text())["tests"]
    tried = {(check["alertname"], bool(check["exp_alerts"])) for case in cases for check in case["alert_rule_test"]}
    assert tried == {(rule["alert"], rings) for rule in rules for rings in (True, False)}
    well = {check["alertname"] for check in cases[0]["alert_rule_test"] if not check["exp_alerts"]}
    assert well == {rule["alert"] for rule in rules}, "the site that is well is asked about all"


def test_figures_of_the_alert_tests_are_figures_that_there_are(labels: dict[str, set[str]]):
    text = (MONITORING / "alerts.test.yml").read_text()
    for name, braces in set(re.findall(r"(goggles_\w+)\{([^}]*)\}", text)):
        assert set(re.findall(r"(\w+)=", braces)) == labels[name] | BUILT_IN, name


def test_prometheus_understands_each_panel_of_the_dashboard(tmp_path: Path):
    board = json.loads((MONITORING / "dashboard.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$instance", "ns:9100|other:9100")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", file)
    assert not any("$" in rule["expr"] for rule in rules)


# --- compose files ---------------------------------------------------------------------------


def variables() -> set[str]:
    return {name for cls in PROGRAMS.values() for option in options(cls) for name in option.variables}


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_compose_files_set_what_can_be_set(name: str):
    services: dict[str, Any] = yaml.safe_load((HOME / name).read_text())["services"]
    ours = {
        key for one in services.values() if "database" not in one.get("image", "") for key in one.get("environment", {})
    }
    foreign = {"HL_CLIENT_CONFIG", "POSTGRES_USER", "POSTGRES_PASSWORD"}
    assert ours - foreign <= variables()
    assert {"GOGGLES_HOSTNAME", "name", "capacity"} <= ours


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_every_host_has_volumes_of_its_own(name: str):
    services: dict[str, Any] = yaml.safe_load((HOME / name).read_text())["services"]
    servers = {key: one for key, one in services.items() if one.get("command") in (["vg-nameserver"], ["vg-storage"])}
    assert {key: one["volumes"] for key, one in servers.items()} == {
        key: [f"certs-{key}:/certs:ro", f"data-{key}:/data"] for key in servers
    }
    assert all(one["read_only"] and one["cap_drop"] == ["ALL"] for one in services.values())


def test_the_seven_storages_of_the_demo_are_there():
    services = yaml.safe_load((HOME / "docker-compose.yml").read_text())["services"]
    found = {
        name: (one["environment"]["port"], one["environment"]["capacity"])
        for name, one in services.items()
        if name in NAMES
    }
    assert found == {name: (port, "1MiB") for port, name in enumerate(NAMES, 8001)}


def test_the_image_needs_no_registry_to_read_its_own_recipe():
    lines = (DELIVERY / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if re.match(r"#\s*syntax\s*=", line)] == []
    assert next(line for line in lines if line and not line.startswith("#")) == "ARG BASE_IMAGE=python:3.13-slim"


def test_the_lock_of_the_image_is_a_part_of_the_lock():
    spec = importlib.util.spec_from_file_location("lock", DELIVERY / "lock.py")
    assert spec is not None and spec.loader is not None
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    assert (DELIVERY / "requirements.lock").read_text() == lock.text(), "run: venv/bin/python delivery/lock.py"


# --- systemd ---------------------------------------------------------------------------------


def test_units_start_programs_that_there_are():
    programs = {Path(line).name for line in _values("ExecStart")}
    assert programs == {"vg-nameserver", "vg-storage", "vg-background"}
    assert all((Path(sys.executable).parent / name).exists() for name in programs)


def _values(key: str) -> list[str]:
    texts = [unit.read_text() for unit in sorted((DELIVERY / "systemd").glob("*.service"))]
    return [
        line.split("=", 1)[1].split()[0] for text in texts for line in text.splitlines() if line.startswith(f"{key}=")
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_the_units(tmp_path: Path):
    for unit in (DELIVERY / "systemd").glob("*.service"):
        text = unit.read_text().replace("/opt/goggles/bin", str(Path(sys.executable).parent))
        (tmp_path / unit.name.replace("@", "@alice")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "goggles" in line]
    assert (done.returncode, ours) == (0, [])
