"""The start of a nameserver, before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from goggles.cli.nameserver import main


def test_a_mistake_in_the_schedule_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the password that is shown once would be lost in a start that failed."""
    monkeypatch.chdir(tmp_path)
    Path("schedule.json").write_text('{"send_clones": []}')
    certificates = [f"--{key}=nowhere" for key in ("ca_cert", "certfile", "keyfile")]
    assert main([*certificates, "--background=schedule.json"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("vg-nameserver: schedule.json: send_clones: there is no such kind of task")
    assert not Path("goggles.db").exists() and "password" not in told
