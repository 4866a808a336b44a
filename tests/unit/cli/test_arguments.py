from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from goggles.cli import arguments
from goggles.cli.arguments import fail, read, run
from goggles.errors import Cancelled, GogglesError, NotFound, SettingsError
from goggles.settings import PROGRAMS, ClientSettings, NameserverSettings, StorageSettings, options

HOME = Path(__file__).resolve().parents[3]
CERTIFICATES = ["--ca_cert", "ca", "--certfile", "crt", "--keyfile", "key"]
STORAGE = [*CERTIFICATES, "--name", "alice", "--capacity", "1G"]


def raises(error: BaseException):
    def function() -> int:
        raise error

    return function


# --- flags -----------------------------------------------------------------------------------


def test_dashes_may_be_written_for_underscores():
    made = read(StorageSettings, [*STORAGE, "--ns-hostname", "x", "--ns-port=9"], {})
    assert (made.ns_hostname, made.ns_port) == ("x", 9)


def test_a_value_may_have_dashes():
    assert read(StorageSettings, [*STORAGE, "--zone=room-1-a"], {}).zone == "room-1-a"
    assert read(ClientSettings, [*CERTIFICATES, "-c", "ls -l --all /a-b"], {}).command == ("ls -l --all /a-b",)


def test_commands_keep_their_order():
    assert read(ClientSettings, [*CERTIFICATES, "-c", "ls /", "--command", "du"], {}).command == ("ls /", "du")


@pytest.mark.parametrize(("flags", "meant"), [([], False), (["--standby"], True), (["--standby=no"], False)])
def test_a_switch_can_be_turned_off_again(flags, meant):
    assert read(NameserverSettings, [*CERTIFICATES, *flags], {}).standby is meant
    assert read(NameserverSettings, [*CERTIFICATES, "--standby=no"], {"GOGGLES_STANDBY": "yes"}).standby is False


def test_a_settings_file_comes_from_flag_or_environment(tmp_path):
    for name, grace in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.toml").write_text(f"grace = {grace}\n")
    environ = {"GOGGLES_SETTINGS": str(tmp_path / "a.toml")}
    assert read(NameserverSettings, CERTIFICATES, environ).grace == 1.0
    assert read(NameserverSettings, [*CERTIFICATES, "--settings", str(tmp_path / "b.toml")], environ).grace == 2.0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--capcity", "5"], "did you mean --capacity"),
        (["--nam", "alice"], "did you mean --name"),
        (["surplus"], "unknown argument 'surplus'"),
        (["--port"], "expected one argument"),
    ],
)
def test_a_wrong_command_line_is_refused(argv, said):
    with pytest.raises(SettingsError) as caught:
        read(StorageSettings, [*STORAGE, *argv], {})
    assert said in str(caught.value)


@pytest.mark.parametrize("cls", list(PROGRAMS.values()))
def test_help_lists_every_setting_with_its_default(cls, capsys):
    with pytest.raises(SystemExit) as ended:
        read(cls, ["--help"], {})
    shown = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert all(f"{option.flag} " in shown and option.help.split()[0] in shown for option in options(cls))
    assert "default: " in shown and "GOGGLES_" in shown


# --- the end of a program --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("x"), 1), (SettingsError("x"), 2), (Cancelled("x"), 130), (GogglesError("x"), 1)]
)
def test_an_error_is_one_line_and_its_exit_code(capsys, error, code):
    assert run("vg", raises(error)) == code
    assert capsys.readouterr().err == "vg: x\n"


def test_the_line_says_what_to_do_next_and_can_not_be_forged(capsys):
    assert fail("vg", NotFound("/a\n\x1b[2J is not there", "try\tls")) == 1
    assert capsys.readouterr().err == "vg: /a\\n\\x1b[2J is not there (try\\tls)\n"


def test_an_interrupt_is_130_and_says_nothing(capsys):
    assert run("vg", raises(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_is_one_line_for_the_user_and_a_traceback_for_the_log(capsys, caplog):
    with caplog.at_level(logging.CRITICAL):
        assert run("vg", raises(ZeroDivisionError("x\ny"))) == 1
    err = capsys.readouterr().err
    assert err.startswith("vg: internal error, ZeroDivisionError: x\\ny (this is a bug") and err.count("\n") == 1
    assert caplog.records[-1].exc_info is not None


def test_a_missing_library_says_how_to_get_it(capsys):
    assert run("vg", raises(ModuleNotFoundError("No module named 'rpyc'", name="rpyc.core"))) == 2
    assert capsys.readouterr().err == "vg: the library rpyc.core is not installed (run: make venv)\n"


def test_an_error_of_the_system_is_not_taken_for_a_closed_pipe(capsys):
    assert run("vg", raises(OSError(errno.EIO, "bad disk"))) == 1
    assert "bad disk" in capsys.readouterr().err


def test_output_that_nobody_reads_any_more_ends_quietly():
    code = (
        "import sys; from goggles.cli.arguments import run\n"
        "def spin() -> int:\n  while True: print('x' * 100, flush=True)\n"
        "sys.exit(run('vg', spin))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(HOME / "src")}
    ) as program:
        program.stdout.read(10)
        program.stdout.close()
        assert (program.stderr.read(), program.wait()) == (b"", arguments.BROKEN_PIPE)


@pytest.mark.parametrize(
    ("name", "prog"), [("vg_nameserver.py", "vg-nameserver"), ("vg_storage.py", "vg-storage"), ("vg_client.py", "vg")]
)
def test_the_programs_run_from_a_bare_checkout_and_refuse_in_one_line(name, prog, tmp_path):
    """Isolated from the environment: no PYTHONPATH, no user packages, no certificates."""
    command = [sys.executable, "-I", str(HOME / name), "--prot", "5"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={}, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"{prog}: unknown argument '--prot'")
    assert ended.stderr.count("\n") == 1
