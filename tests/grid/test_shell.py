"""The shell without a person: -c, scripts, JSON, exit codes, good and bad commands."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles.client.shell.grammar import grammars
from goggles.client.shell.loop import Shell
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, free_port, wait_until


class Program:
    """vg on one cluster and one local folder."""

    def __init__(self, cluster: Cluster, local: Path) -> None:
        certificate, key = cluster.certificates.files("root", Role.ADMIN)
        self.local = local
        self._flags = ["--ns_port", str(cluster.port), "--ca_cert", str(cluster.certificates.ca), "--timeout", "5"]
        self._flags += ["--certfile", str(certificate), "--keyfile", str(key), "--local", str(local)]

    def __call__(self, *commands: str, script: str | None = None, flags: tuple[str, ...] = ()) -> tuple[int, str, str]:
        words = [word for command in commands for word in ("-c", command)]
        done = subprocess.run(
            [sys.executable, "-m", "goggles.cli.client", *self._flags, *flags, *words],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": SOURCE},
            timeout=60,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done.returncode, done.stdout, done.stderr

    def start(self, command: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "goggles.cli.client", *self._flags, "-c", command]
        environment = {**os.environ, "PYTHONPATH": SOURCE}
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


@pytest.fixture(scope="module")
def vg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    local = tmp_path_factory.mktemp("local")
    (local / "my file.txt").write_text("hello\n")
    (local / "folder/below").mkdir(parents=True)
    (local / "folder/below/ü.bin").write_bytes(os.urandom(100_000))
    with Cluster(tmp_path_factory.mktemp("site"), ("alice", "bob", "carol")) as cluster:
        yield Program(cluster, local)


def test_a_file_goes_in_and_comes_out(vg: Program) -> None:
    code, out, err = vg(
        "mkdir -p /a/b",
        'put "my file.txt" /a',
        "put my\\ file.txt /a/b/other",
        "cat '/a/my file.txt'",
        "get /a/b/other",
    )
    assert (code, out, err) == (0, "hello\n", "")
    assert (vg.local / "other").read_text() == "hello\n"


def test_listings_tell_what_the_seeds_say(vg: Program) -> None:
    code, out, _ = vg("mkdir -p /seed", "put 'my file.txt' /seed/x", "ls /seed", "du", "stat /seed/x", "nodes", "df")
    assert code == 0
    for word in ("file", "x", "6 B", "alice", "free", "capacity", "active", "sha256", "copies", "2 of 2", "offsite"):
        assert word in out


def test_whole_directories_and_wildcards(vg: Program) -> None:
    code, out, _ = vg("put -r folder /w", "mkdir /w2", "put *.txt /w2/", "ls -R /w", "find / --name '*.txt'", "tree /w")
    assert code == 0
    assert "ü.bin" in out
    assert "/w2/my file.txt" in out
    code, _, _ = vg(
        "cp -r /w /w3", "mv /w3/below /w3/moved", "get -r /w3 -o back", "rm /w2/*", "rmdir /w2", "rm -r /w3"
    )
    assert code == 0
    assert (vg.local / "back/moved/ü.bin").read_bytes() == (vg.local / "folder/below/ü.bin").read_bytes()


def test_a_local_directory_with_wildcards_in_its_name_is_only_a_name(vg: Program) -> None:
    odd = vg.local / "odd[1]*"
    odd.mkdir()
    (odd / "one.dat").write_bytes(b"1")
    assert vg("mkdir /odd", "lcd 'odd[1]*'", "put *.dat /odd/", "stat /odd/one.dat")[0] == 0


def test_a_cat_that_is_interrupted_stops_after_the_first_time(vg: Program) -> None:
    length = 256 << 20
    with open(vg.local / "large", "wb") as file:
        file.truncate(length)
    assert vg("put large /large")[0] == 0
    with vg.start("cat /large") as process:
        assert process.stdout is not None
        seen = len(process.stdout.read(1 << 20))
        process.send_signal(signal.SIGINT)
        seen += len(process.stdout.read())
    assert seen < length
    assert process.returncode != 0
    assert vg("rm /large")[0] == 0


def test_a_slash_at_the_end_means_directories_only(vg: Program) -> None:
    vg("mkdir -p /slash/dir", "put 'my file.txt' /slash/difile")
    assert vg("rm -r /slash/di*/", "ls -R /slash")[1].count("difile") == 1
    assert vg("stat /slash/dir")[0] == 1


def test_json_is_whole_and_errors_are_json_too(vg: Program) -> None:
    code, out, err = vg("mkdir -p /j", "ls /", "stat /nix", "du", flags=("--json",))
    assert code == 1
    made, listing, du = [json.loads(line) for line in out.splitlines()]
    assert made == {"path": "/j", "done": "made"}
    assert "/j" in [entry["path"] for entry in listing]
    assert {info["name"] for info in du["storages"]} == {"alice", "bob", "carol"}
    assert json.loads(err)["code"] == "not_found"


def test_each_change_answers_in_json(vg: Program) -> None:
    code, out, err = vg(
        *("mkdir /done /done/a /done/b", "put 'my file.txt' /done/f", "mv /done/f /done/a", "cp /done/a/f /done"),
        *("rm /done/f", "rm -f /done/nothing", "rmdir -r /done"),
        flags=("--json",),
    )
    assert (code, err) == (0, "")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(one["path"], one["done"], one.get("to")) for one in answers if "done" in one] == [
        ("/done", "made", None),
        ("/done/a", "made", None),
        ("/done/b", "made", None),
        ("/done/f", "moved", "/done/a/f"),
        ("/done/a/f", "copied", "/done/f"),
        ("/done/f", "removed", None),
        ("/done", "removed", None),
    ]


def test_json_of_one_command_is_json_in_all_it_says(vg: Program) -> None:
    code, out, err = vg("stat --json /nix", "du --json", "ls /")
    assert code == 1
    assert json.loads(err)["code"] == "not_found"
    assert set(json.loads(out.splitlines()[0])) == {"site", "storages"}
    assert "carol" in vg("du")[1]


def test_options_may_stand_anywhere(vg: Program) -> None:
    code, out, err = vg("put folder -r /anywhere", "ls /anywhere -R", "mkdir -- -r", "rmdir -- -r", "rm /anywhere -r")
    assert (code, err) == (0, "")
    assert "ü.bin" in out


def test_a_quoted_tilde_is_a_name(vg: Program) -> None:
    (vg.local / "~").mkdir()
    (vg.local / "~" / "tilde.txt").write_text("not at home")
    assert (
        vg("mkdir /tilde", "put '~/tilde.txt' /tilde/", "put '~'/*.txt /tilde/again", "cat /tilde/again")[1]
        == "not at home"
    )
    assert vg("put ~/tilde.txt /tilde/")[0] == 1


def test_nothing_to_remove_is_fine_with_f(vg: Program) -> None:
    assert vg("rm -f /*.nix", "rm -f /nix")[0] == 0
    assert vg("rm /*.nix")[0] == 1


def test_the_lines_of_a_script_are_not_read_by_its_commands(vg: Program) -> None:
    assert vg(script="!cat\npwd\n")[1] == "/\n"


def test_a_script_goes_on_after_a_failure_and_ends_with_1(vg: Program) -> None:
    code, out, err = vg(script="# a comment\n\nnonsense\ncd /\npwd\n")
    assert (code, out.strip()) == (1, "/")
    assert "there is no command nonsense" in err
    assert vg(script="pwd\nquit\nnonsense\n")[0] == 0


def test_a_script_ends_at_the_first_failure_where_that_is_wanted(vg: Program) -> None:
    for flags in (("--stop_on_error",), ("--stop_on_error", "--json")):
        code, out, _ = vg(script="pwd\nnonsense\nls /\n", flags=flags)
        assert (code, len(out.splitlines())) == (1, 1)
    code, out, _ = vg("nonsense", "pwd", flags=("--stop_on_error",))
    assert (code, out) == (1, "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ls /nix", "there is nothing at /nix"),
        ("mkdri /nix", "there is no command mkdri (did you mean mkdir? help lists all)"),
        ("rm /", "is a directory"),
        ("rmdir /", "root directory can not be removed"),
        ("put nofile /", "can not be read"),
        ("put folder /", "put -r"),
        ("put /dev/null /null", "not a file"),
        ("get /", "get -r"),
        ('cat "unclosed', "not closed"),
        ("ls /*.nix", "nothing matches"),
        ("ls --nonsense", "help ls"),
        ("mv /", "help mv"),
        ("setrep x /", "not a number"),
        ("setrep ² /", "not a number"),
        ("setrep 99 /", "1 to 16 copies"),
        ("accept nobody", "no storage"),
        ("drain nobody", "no storage"),
        ("mkdir /" + "x" * 256, "255 bytes"),
        ("mkdir /.goggles", "reserved"),
        ("!false", "ended with 1"),
        ("ls | head", "no pipes"),
        ("ls / > x", "no pipes"),
        ("get /given -o nodir/", "make it first"),
        ("get /given -f -o pipe", "not a regular file"),
        ("get -r / -o 'my file.txt'", "is a file"),
        ("put ~nosuchuser/x /", "can not be read"),
        ("du /dir", "unrecognized arguments: /dir"),
        ("lcd nosuch", "not a local directory"),
        ("mkdir /no/such", "mkdir -p makes the directories above too"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(vg: Program, line: str, said: str) -> None:
    if not (vg.local / "pipe").exists():
        os.mkfifo(vg.local / "pipe")
        assert vg("put 'my file.txt' /given")[0] == 0
    code, _, err = vg(line)
    assert code == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_questions_are_not_asked_where_nobody_is_there(vg: Program) -> None:
    vg("mkdir -p /q", "put 'my file.txt' /q/x")
    (vg.local / "there").write_text("precious")
    for line, option in (("rmdir /q", "rmdir -r"), ("get /q/x -o there", "get -f")):
        code, _, err = vg(line)
        assert code == 1
        assert option in err
    assert (vg.local / "there").read_text() == "precious"
    assert vg("get -f /q/x -o there", "rmdir -r /q")[0] == 0


def test_every_command_has_help_and_is_listed(vg: Program) -> None:
    commands = sorted(grammars(Shell))
    code, out, _ = vg("help", *[f"help {name}" for name in commands])
    assert code == 0
    seeds = "usage help du ls local cd pwd mkdir rmdir get put rm EOF"
    assert all(name in out for name in (*commands, *seeds.split()))


@pytest.mark.parametrize("line", ["help drain", "drain --help", "drain -h", "drain alice --help"])
def test_a_command_asked_for_help_explains_itself_and_does_nothing(vg: Program, line: str) -> None:
    assert vg(line) == vg("help drain")
    assert "Empty a storage" in vg(line)[1]
    assert '"draining"' not in vg("nodes --json")[1]


def test_what_means_something_else_is_not_taken_for_help(vg: Program) -> None:
    code, out, err = vg("du -h", "mkdir -p -- /--help /-h", "ls /")
    assert (code, err) == (0, "")
    assert "alice" in out and "--help/" in out and "-h/" in out
    assert vg("rmdir -- /--help /-h")[0] == 0


def test_the_list_of_commands_has_what_people_type(vg: Program) -> None:
    listed = [line.split()[0] for line in vg("help")[1].splitlines()]
    assert "put" in listed and "EOF" not in listed


def test_whoever_waits_for_a_nameserver_is_told_so_at_once(vg: Program) -> None:
    port = free_port()
    code, _, err = vg("ls /", flags=("--ns_port", str(port), "--timeout", "2"))
    assert code == 1
    waiting, end = err.strip().splitlines()
    assert waiting == f"waiting for the nameserver at localhost:{port} ..."
    assert "nobody answers" in end


def test_a_closed_pipe_ends_quietly(vg: Program) -> None:
    words = [sys.executable, "-m", "goggles.cli.client", *vg._flags, "-c", "help", "-c", "usage", "-c", "help"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_a_link_is_followed_and_nothing_but_files_is_replaced(vg: Program) -> None:
    (vg.local / "aim").write_text("old")
    (vg.local / "link").symlink_to("aim")
    (vg.local / "dangling").symlink_to("nowhere-yet")
    assert vg("put 'my file.txt' /linked", "get -f /linked -o link", "get /linked -o dangling")[0] == 0
    assert (vg.local / "aim").read_text() == (vg.local / "nowhere-yet").read_text() == "hello\n"
    assert (vg.local / "link").is_symlink()
    os.mkfifo(vg.local / "fifo")
    code, _, err = vg("get -f /linked -o fifo")
    assert (code, (vg.local / "fifo").is_fifo()) == (1, True)
    assert "not a regular file" in err


def test_the_longest_names_come_back(vg: Program) -> None:
    name = "日" * 85
    (vg.local / name).write_text("long")
    assert vg(f"put {name} /{name}", f"get -f /{name}")[0] == 0


def test_a_full_or_closed_output_is_an_error_in_words(vg: Program) -> None:
    words = [sys.executable, "-m", "goggles.cli.client", *vg._flags, "-c", "ls /"]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    for redirect in (">/dev/full", ">&-"):
        line = ["/bin/sh", "-c", f"{shlex.join(words)} {redirect}"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        assert not [word for word in ("Traceback", "internal", "unknown reason") if word in done.stderr]


def test_a_tilde_that_is_nobodys_home_is_a_name(vg: Program) -> None:
    assert vg("put ~tilde /x")[0] == 1
    (vg.local / "~tilde").write_text("a name")
    assert vg("put ~tilde /tilde-name", "cat /tilde-name")[1] == "a name"


def test_habits_of_other_shells_work(vg: Program) -> None:
    code, out, err = vg("mkdir /habits", "put 'my file.txt' /habits/x", "ls -1 /habits", "ls -la /habits", "du -h", "?")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "x"
    assert "usage" in out


def test_whoever_waits_for_the_nameserver_is_told_so(tmp_path: Path) -> None:
    with Cluster(tmp_path / "site", ("alice",)) as cluster:
        program = Program(cluster, tmp_path)
        words = [sys.executable, "-m", "goggles.cli.client", *program._flags, "--timeout", "60"]
        environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": "1"}
        errors = tmp_path / "errors"
        with (
            errors.open("wb") as sink,
            subprocess.Popen(words, stdin=-1, stdout=-1, stderr=sink, env=environment) as vg,
        ):
            assert vg.stdin is not None
            assert vg.stdout is not None
            vg.stdin.write(b"pwd\n")
            vg.stdin.flush()
            assert vg.stdout.readline() == b"/\n"
            assert cluster.nameserver is not None
            cluster.nameserver.kill()
            vg.stdin.write(b"ls /\n")
            vg.stdin.close()
            wait_until("told", lambda: b"waiting for the nameserver at localhost" in errors.read_bytes(), 20)
            cluster.start_nameserver()
            assert vg.wait(60) == 0
