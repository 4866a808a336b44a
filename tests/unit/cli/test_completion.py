"""Command lines that complete themselves, tried in a real bash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from goggles.testing.cluster import SOURCE

PROGRAMS = {
    "vg": "client",
    "vg-nameserver": "nameserver",
    "vg-storage": "storage",
    "vg-background": "background",
    "vg-certs": "certs",
    "goggles": "goggles",
    "librarian": "librarian",
    "librarian-change-transfer-status": "transfer_status",
    "check-globus": "check_globus",
}


def script(program: str, shell: str) -> str:
    module = f"goggles.cli.{PROGRAMS[program]}"
    ran = subprocess.run(
        [sys.executable, "-m", module, "--print-completion", shell],
        env={"PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def completed(program: str, line: str, folder: Path) -> set[str]:
    """What bash offers for the last word of `line`."""
    (folder / "completion").write_text(script(program, "bash"))
    asked = f"""
        source completion
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {program} "${{COMP_WORDS[COMP_CWORD]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = ["bash", "--norc", "-c", asked]
    ran = subprocess.run(bash, cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return {word.strip() for word in ran.stdout.splitlines() if word.strip()}


def test_flags_are_completed(tmp_path: Path) -> None:
    assert completed("vg", "vg --ns_", tmp_path) == {"--ns_hostname", "--ns_port"}


def test_commands_are_completed(tmp_path: Path) -> None:
    assert completed("librarian", "librarian get-st", tmp_path) == {"get-store-list", "get-store-manifest"}


def test_flags_of_a_command_are_completed(tmp_path: Path) -> None:
    line = "librarian add-librarian site --na"
    assert completed("librarian", line, tmp_path) == {"--name"}


def test_files_are_completed_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "rootCA.crt").touch()
    assert completed("vg", "vg --ca_cert roo", tmp_path) == {"rootCA.crt"}
    assert completed("vg", "vg --ns_hostname roo", tmp_path) == set()


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_has_a_script_that_bash_can_read(program: str) -> None:
    subprocess.run(["bash", "-n"], input=script(program, "bash"), text=True, check=True, timeout=30)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_one_too(shell: str) -> None:
    assert "ns_hostname" in script("vg", shell)
