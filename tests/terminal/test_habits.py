"""The shell in a real terminal (tmux): completion, history, interruption, questions, progress."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goggles.errors import NotFound
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, wait_until

PROMPT = re.compile(r"(\(down\) )?goggles:[^>]*>\Z")
TAB, CTRL_C, CTRL_D, CTRL_L, CTRL_R, ENTER = "Tab", "C-c", "C-d", "C-l", "C-r", "Enter"
MIB = 1 << 20


class Terminal:
    """One run of vg in a terminal of its own."""

    def __init__(self, cluster: Cluster, home: Path, *, columns: int = 100) -> None:
        certificate, key = cluster.certificates.files("ann", Role.CLIENT)
        flags = ["--ns_port", str(cluster.port), "--ca_cert", str(cluster.certificates.ca), "--timeout", "3"]
        flags += ["--certfile", str(certificate), "--keyfile", str(key), "--local", str(home)]
        self._socket = str(home / f"tmux-{os.urandom(4).hex()}")
        command = shlex.join([sys.executable, "-m", "goggles.cli.client", *flags]) + "; echo EXIT $?; sleep 60"
        settings = [f"PYTHONPATH={SOURCE}", f"XDG_STATE_HOME={home / 'state'}", "LANG=C.UTF-8", "LC_ALL=C.UTF-8"]
        environment = [word for setting in settings for word in ("-e", setting)]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", "40", *environment, command)
        self.ready()

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-S", self._socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-J").rstrip()

    def keys(self, *names: str) -> None:
        self._tmux("send-keys", *names)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", "--", text)

    def until(self, what: str, true: Callable[[str], bool], seconds: float = 20.0) -> str:
        """The screen, once this holds for it."""
        seen = [""]

        def look() -> bool:
            seen[0] = self.screen()
            return true(seen[0])

        try:
            wait_until(what, look, seconds)
        except Exception as error:
            raise AssertionError(f"{what} never came; the screen:\n{seen[0]}") from error
        return seen[0]

    def sees(self, pattern: str) -> str:
        return self.until(pattern, lambda screen: re.search(pattern, screen) is not None)

    def ready(self) -> str:
        """Wait for an empty prompt."""
        return self.until("a prompt", lambda screen: PROMPT.search(screen) is not None)

    def run(self, line: str) -> str:
        """Run a line on an empty screen; the screen then."""
        self.keys(CTRL_L)
        self.until("an empty screen", lambda screen: PROMPT.fullmatch(screen) is not None)
        self.type(line)
        self.keys(ENTER)
        shown = line.split()[-1]
        return self.until("the end of it", lambda screen: shown in screen and PROMPT.search(screen) is not None)

    def leave(self) -> None:
        """Ctrl-D; the program ends well."""
        self.keys(CTRL_D)
        self.sees(r"EXIT 0")
        self._tmux("kill-server")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("site"), ("alice", "bob")) as site:
        fs = site.connect()
        fs.mkdir("/mine/größe und maß", parents=True)
        fs.write("/mine/größe und maß/ein file.txt", b"hello\n")
        fs.mkdir("/full")
        fs.write("/full/file", b"x")
        yield site


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    local = tmp_path / "my files"
    local.mkdir()
    (local / "notiz ü.txt").write_text("local\n")
    yield tmp_path
    for socket in tmp_path.glob("tmux-*"):  # what a failed test left open
        subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True, check=False)


def test_a_newcomer_is_told_where_help_is(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    assert "help lists the commands" in shell.screen()
    shell.leave()


def test_paths_of_the_tree_are_completed_with_spaces_and_umlauts(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    shell.type("cat /mi")
    shell.keys(TAB)
    shell.sees(r"cat /mine/")
    shell.type("gr")
    shell.keys(TAB)
    shell.sees(r"größe\\ und\\ maß/")
    shell.type("ein")
    shell.keys(TAB)
    shell.sees(r"file\.txt")
    shell.keys(ENTER)
    shell.sees(r"\nhello")
    shell.leave()


def test_local_paths_commands_and_options_are_completed(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    for typed, seen in (("pu", r"> put$"), ("my", r"my\\ files/"), ("not", r"ü\.txt")):
        shell.type(typed)
        shell.keys(TAB)
        shell.sees(seen)
    shell.type("/mine/put-by-tab")
    shell.keys(ENTER)
    shell.ready()
    assert cluster.connect().isfile("/mine/put-by-tab")
    shell.type("rmd")
    shell.keys(TAB)
    shell.sees(r"> rmdir$")
    shell.type("--js")
    shell.keys(TAB)
    shell.sees("--json")
    shell.keys(CTRL_C)
    shell.ready()
    shell.leave()


def test_a_quoted_path_is_completed_inside_its_quotes(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    shell.type('ls "/mine/gr')
    shell.keys(TAB)
    shell.sees('"/mine/größe und maß/')
    shell.keys(CTRL_C)
    shell.ready()
    shell.leave()


def test_history_outlives_the_run_and_is_searched_with_ctrl_r(cluster: Cluster, home: Path) -> None:
    first = Terminal(cluster, home)
    first.run("stat /mine")
    first.run("pwd")
    first.leave()
    assert stat.S_IMODE((home / "state/goggles/history").stat().st_mode) == 0o600
    second = Terminal(cluster, home)
    second.keys(CTRL_R)
    second.type("stat")
    second.sees("stat /mine")
    second.keys(ENTER)
    second.sees("DIRECTORY") if "DIRECTORY" in second.screen() else (second.keys(ENTER), second.sees("DIRECTORY"))
    second.leave()


def test_ctrl_c_at_the_prompt_clears_the_line(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    shell.type("rm /mine/nothing")
    shell.sees("nothing")
    shell.keys(CTRL_C)
    shell.ready()
    assert "there is nothing" not in shell.run("pwd")
    shell.leave()


def test_ctrl_c_in_a_put_without_resume_leaves_nothing_behind_and_the_shell_alive(cluster: Cluster, home: Path) -> None:
    with open(home / "large", "wb") as file:
        file.truncate(2048 * MIB)
    shell = Terminal(cluster, home)
    shell.type("put --no-resume large /large")
    shell.keys(ENTER)
    shell.sees(r"B/s")
    shell.keys(CTRL_C)
    shell.sees("cancelled")
    shell.ready()
    shell.run("pwd")
    shell.leave()
    fs = cluster.connect()
    with pytest.raises(NotFound):
        fs.stat("/large")
    wait_until("no upload in flight", lambda: fs.du()[0].uploads == 0, 10)
    staging = [cluster.root(name) / ".goggles/staging" for name in cluster.names]
    wait_until("staging empty", lambda: not any(list(folder.iterdir()) for folder in staging), 10)


def test_a_long_transfer_shows_rate_and_time_left(cluster: Cluster, home: Path) -> None:
    with open(home / "large", "wb") as file:
        file.truncate(1024 * MIB)
    shell = Terminal(cluster, home)
    shell.type("put large /shown")
    shell.keys(ENTER)
    shell.sees(r"GiB.*B/s.*\d:\d\d")
    shell.ready()
    cluster.connect().rm("/shown")
    shell.leave()


def test_a_full_directory_is_removed_only_after_a_yes(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    for answer, stays in (("n", True), ("", True), ("y", False)):
        shell.keys(CTRL_L)
        shell.type("rmdir /full")
        shell.keys(ENTER)
        shell.sees(r"remove all\? \[y/N\]\Z")
        shell.type(answer)
        shell.keys(ENTER)
        shell.ready()
        assert cluster.connect().exists("/full") is stays
    shell.leave()


def test_a_local_file_is_overwritten_only_after_a_yes(cluster: Cluster, home: Path) -> None:
    (home / "mine").write_text("precious")
    cluster.connect().write("/theirs", b"new")
    shell = Terminal(cluster, home)
    for answer, text in (("n", "precious"), ("y", "new")):
        shell.keys(CTRL_L)
        shell.type("get /theirs -o mine")
        shell.keys(ENTER)
        shell.sees(r"overwrite\? \[y/N\]\Z")
        shell.type(answer)
        shell.keys(ENTER)
        shell.ready()
        assert (home / "mine").read_text() == text
    shell.run("get -f /theirs -o mine")
    shell.leave()


def test_ctrl_c_at_a_question_is_a_no_and_ends_it_at_once(cluster: Cluster, home: Path) -> None:
    (home / "mine").write_text("precious")
    cluster.connect().write("/asked", b"new")
    shell = Terminal(cluster, home)
    shell.type("get /asked -o mine")
    shell.keys(ENTER)
    shell.sees(r"overwrite\? \[y/N\]\Z")
    shell.keys(CTRL_C)
    shell.sees("cancelled")
    shell.ready()
    assert (home / "mine").read_text() == "precious"
    shell.leave()


def test_one_ctrl_c_ends_a_command_on_many_files(cluster: Cluster, home: Path) -> None:
    large = [home / name for name in ("one", "two", "three")]
    for path in large:
        path.touch()
        os.truncate(path, 1024 * MIB)
    shell = Terminal(cluster, home)
    shell.type("put one two three /mine")
    shell.keys(ENTER)
    shell.sees(r"B/s")
    shell.keys(CTRL_C)
    shell.sees("cancelled")
    screen = shell.ready()
    assert screen.count("cancelled") == 1
    assert "failed" not in screen
    assert not cluster.connect().exists("/mine/three")
    shell.leave()


def test_tables_fit_a_narrow_terminal(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home, columns=60)
    for command in ("du", "ls -l /mine"):
        screen = shell.run(command)
        assert "bob" in screen or "mine" in screen
        assert max(len(line) for line in screen.splitlines()) <= 60, screen
    shell.leave()


def test_a_lost_nameserver_is_said_at_the_prompt_and_found_again(cluster: Cluster, home: Path) -> None:
    shell = Terminal(cluster, home)
    assert cluster.nameserver is not None
    cluster.nameserver.kill()
    said = shell.run("ls /mine")
    assert "nameserver" in said
    assert "Traceback" not in said
    assert screen_ends_down(said)
    cluster.start_nameserver()
    cluster.wait_active(cluster.names)
    assert "dir" in shell.run("ls /mine")
    shell.leave()


def screen_ends_down(screen: str) -> bool:
    return screen.splitlines()[-1].startswith("(down) ")
