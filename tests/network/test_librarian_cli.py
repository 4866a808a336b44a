"""The program librarian: the commands as people who know librarians type them, against sites of real processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from goggles import AdminClient, LibrarianClient
from goggles.cli import librarian  # noqa: F401 - it declares the commands
from goggles.cli.librarian_grammar import COMMANDS, parser
from goggles.exceptions import LibrarianHTTPError, LibrarianPartialError, LibrarianTimeoutError
from goggles.roles import Role
from goggles.testing.cluster import SOURCE, Cluster, free_port, wait_until
from goggles.testing.descriptors import descriptors
from goggles.testing.network import Network

HERE, THERE = "source_librarian", "destination_librarian"
ROOT = "root"
SECRET = "a password: with colons:"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("cli"), {HERE: ("alice",), THERE: ("carol",)}) as made:
        for site in (HERE, THERE):
            made.admin(site, "create_user", ROOT, SECRET, "ADMIN")
        yield made


def connection(site: Cluster, **more: Any) -> dict[str, Any]:
    certificate, key = site.certificates.files("admin", Role.ADMIN)
    files = {"ca_cert": str(site.certificates.ca), "certfile": str(certificate), "keyfile": str(key)}
    return {"url": f"http://localhost:{site.port}/", "authenticator": f"{ROOT}:{SECRET}", **files, **more}


@pytest.fixture(scope="module")
def environment(network: Network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    known = {name: connection(network[name]) for name in (HERE, THERE)}
    file = home / ".hl_client.cfg"
    file.write_text(json.dumps({"connections": known}))
    file.chmod(0o600)
    return {**os.environ, "HOME": str(home), "PYTHONPATH": SOURCE}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Type a line; `stdin` and the working directory are empty ones."""

    def run(line: str, program: str = "librarian", stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"goggles.cli.{program}", *shlex.split(line)]
        done = subprocess.run(
            command,
            check=False,
            env={**environment, **more},
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def client(network: Network) -> Iterator[AdminClient]:
    info = connection(network[HERE])
    files = {key: info[key] for key in ("ca_cert", "certfile", "keyfile")}
    with AdminClient(host=info["url"], user=ROOT, password=SECRET, **files) as made:
        yield made


def ok(run: Run, line: str, **more: str) -> Any:
    done = run(f"{line} --json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_librarians_are_linked_as_the_guide_says_and_files_flow(run: Run, network: Network) -> None:
    ok(run, f"create-user {HERE} --username={THERE} --password=back:and:forth --auth-level=callback")
    ok(run, f"create-user {THERE} --username={HERE} --password=- --auth-level=ReadAppend", stdin="there and back\n")
    add = "add-librarian {} --name={} --url=http://localhost --port={} --authenticator={!r}"
    ok(run, add.format(HERE, THERE, network[THERE].port, f"{HERE}:there and back"))
    ok(run, add.format(THERE, HERE, network[HERE].port, f"{THERE}:back:and:forth"))
    (known,) = ok(run, f"get-librarian-list {HERE} --ping")
    assert (known["name"], known["available"], known["enabled"]) == (THERE, True, True)
    assert f"{THERE}  http://localhost" in run(f"get-librarian-list {HERE}").stdout
    Path(network[HERE].folder / "raw").write_bytes(b"raw bytes")
    upload = f"upload {HERE} {network[HERE].folder / 'raw'} 2026/07/raw --null-obsid --meta infer"
    assert ok(run, upload)["path"] == "/2026/07/raw"
    ok(run, f"set-librarian-transfer {HERE} --name={THERE} --disabled")
    assert ok(run, f"run-task {HERE} send_clone")["count"] == 0
    ok(run, f"set-librarian-transfer {HERE} --name={THERE} --enabled")
    assert ok(run, f"run-task {HERE} send_clone")["count"] == 1
    network.wait_arrived(THERE, ["/2026/07/raw"])
    by_hand = f"--librarian {THERE} --{{}} --database {network[HERE].database}"
    ok(run, f"upload {HERE} {network[HERE].folder / 'raw'} 2026/07/raw2")
    assert run(by_hand.format("disable"), "transfer_status").returncode == 0
    assert ok(run, f"run-task {HERE} send_clone")["count"] == 0
    assert run(by_hand.format("enable"), "transfer_status").returncode == 0
    assert ok(run, f"run-task {HERE} send_clone")["count"] == 1


def test_who_works_on_the_database_is_noticed_by_the_running_nameserver(run: Run, network: Network) -> None:
    add_dead(network)
    where = f"--database {network[HERE].database}"
    change = "transfer_status"
    assert run(f"--librarian dead --disable {where}", change).stdout == "transfers to dead are disabled\n"
    assert states(network)["dead"] is False
    assert ok(run, f"--librarian dead --disable {where}", program=change) == {"librarian": "dead", "enabled": False}
    done = run("--librarian dead --enable", change, GOGGLES_DATABASE=network[HERE].database)
    assert done.returncode == 0, done.stderr
    assert states(network)["dead"] is True
    network.admin(HERE, "remove_librarian", "dead", True)


def add_dead(network: Network) -> None:
    network.admin(HERE, "add_librarian", "dead", "localhost", free_port(), "a:b", check_connection=False)


def states(network: Network) -> dict[str, bool]:
    return {dict(peer)["name"]: dict(peer)["enabled"] for peer in network.admin(HERE, "get_librarian_list")}


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--librarian nobody --disable --database {db}", 1, "no librarian 'nobody' is known here"),
        ("--librarian dead --disable --database {db}.not", 1, "there is no database"),
        ("--librarian dead --disable", 1, "there is no database"),
        ("--librarian dead --disable --database {empty}", 1, "is not that of a librarian"),
        ("--librarian dead --disable --database {text}", 1, "is damaged"),
        ("--librarian dead", 2, "--enable and --disable"),
        ("--librarian dead --enable --disable", 2, "--enable and --disable"),
        ("--enable", 2, "--librarian"),
    ],
)
def test_on_the_database_what_is_wrong_is_said(
    run: Run, network: Network, tmp_path: Path, line: str, code: int, words: str
) -> None:
    import sqlite3

    empty, text = tmp_path / "empty.db", tmp_path / "text.db"
    sqlite3.connect(empty).close()
    with sqlite3.connect(empty) as made:
        made.execute("CREATE TABLE other (id INTEGER)")
    made.close()
    text.write_text("this is no database\n" * 100)
    done = run(line.format(db=network[HERE].database, empty=empty, text=text), "transfer_status")
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert not (tmp_path / "goggles.db").exists()


# --- accounts --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["READAPPEND", "ReadAppend", "callback", "readonly", "ReadWrite", "admin"])
def test_accounts_come_and_go(run: Run, client: AdminClient, level: str) -> None:
    ok(run, f"create-user {HERE} --username=ann --password='long enough' --auth-level={level}")
    assert client.get_user("ann").auth_level.name == level.upper()
    ok(run, f"delete-user {HERE} --username=ann")
    with pytest.raises(LibrarianHTTPError) as caught:
        client.get_user("ann")
    assert caught.value.status_code == 404


def test_accounts_are_listed_and_changed(run: Run, network: Network) -> None:
    ok(run, f"create-user {HERE} --username=bea --password='long enough' --auth-level=callback")
    assert {"username": "bea", "auth_level": "CALLBACK"} in ok(run, f"get-user-list {HERE}")
    assert "bea" in run(f"get-user-list {HERE}").stdout
    ok(run, f"update-user {HERE} --username=bea --auth-level=ReadAppend")
    assert {"username": "bea", "auth_level": "READAPPEND"} in ok(run, f"get-user-list {HERE}")
    ok(run, f"update-user {HERE} --username=bea --password=-", stdin="another one\n")
    peer = network[HERE].dial("admin", Role.ADMIN)
    try:
        assert peer.call("login", "bea", "another one") == "READAPPEND"
    finally:
        peer.close()
    ok(run, f"delete-user {HERE} --username=bea")


def test_a_task_that_does_nothing_says_why(run: Run, network: Network) -> None:
    add_dead(network)
    ok(run, f"set-librarian-transfer {HERE} --name=dead --disabled")
    plan = (("destination_librarian", "dead"),)
    assert network.admin(HERE, "run_plan", "send_clone", plan, "to the dead") == 0
    done = run(f"run-task {HERE} 'to the dead'")
    assert (done.returncode, done.stdout) == (0, "to the dead: 0 done\n")
    assert "to the dead: transfers to librarian dead are disabled" in done.stderr
    network.admin(HERE, "remove_librarian", "dead", True)
    done = run(f"run-task {HERE} send_clone")
    assert done.returncode == 1, "one of the tasks of this kind failed"
    assert "no librarian 'dead' is known here" in done.stderr


def test_a_user_changes_the_own_password_and_goes_on(client: AdminClient, network: Network) -> None:
    client.create_user("carl", "the first password", "READWRITE")
    info = connection(network[HERE])
    files = {key: info[key] for key in ("ca_cert", "certfile", "keyfile")}
    with LibrarianClient(host=info["url"], user="carl", password="the first password", **files) as carl:
        with pytest.raises(LibrarianHTTPError, match="wrong"):
            carl.change_password("not the first", "the second password")
        carl.change_password("the first password", "the second password")
        assert carl.ping(require_login=True).name == HERE
        carl.session.mkdir("/carl")
    client.update_user("carl", auth_level="READONLY")
    assert client.get_user("carl").auth_level.name == "READONLY"
    client.delete_user("carl")


# --- files -----------------------------------------------------------------------------------


def test_what_is_there_is_not_replaced(run: Run, network: Network, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"first")
    ok(run, f"upload {HERE} one /kept/one")
    (tmp_path / "one").write_bytes(b"second")
    done = run(f"upload {HERE} one /kept/one")
    assert (done.returncode, done.stdout) == (1, "")
    assert "exists already" in done.stderr
    with network[HERE].connect() as fs:
        assert b"".join(fs.read("/kept/one")) == b"first"


def test_a_folder_is_uploaded_and_what_was_missing_is_added(run: Run, network: Network, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    for number in range(5):
        (folder / "deep" / f"{number}").write_bytes(os.urandom(1000 + number))
    first = ok(run, f"upload {HERE} run /runs/7")
    assert (first["files"], first["already_there"]) == (5, 0)
    found = ok(run, f"search-files {HERE} --name=/runs/7/deep/* --uploader={ROOT}")
    assert len(found) == 5, "the uploader is the account, not the certificate that it was used with"
    (folder / "new").write_bytes(b"new")
    second = ok(run, f"upload {HERE} run /runs/7")
    assert (second["files"], second["already_there"]) == (1, 5)
    (folder / "new").write_bytes(b"NEW")
    (folder / "newer").write_bytes(b"newer")
    done = run(f"upload {HERE} run /runs/7")
    assert done.returncode == 1
    assert "/runs/7/new: /runs/7/new exists already, with other content" in done.stderr
    assert "1 of 7 files were not uploaded as they should" in done.stderr
    with network[HERE].connect() as fs:
        assert b"".join(fs.read("/runs/7/new")) == b"new"
        assert b"".join(fs.read("/runs/7/newer")) == b"newer"


# --- what is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "COMMAND"),
        ("no-such-command site", 2, "invalid choice"),
        ("get-librarian-list", 2, "CONNECTION-NAME"),
        ("get-librarian-list nowhere", 2, "there is no connection 'nowhere'"),
        (f"get-librarian-list {HERE[:-1]}", 2, f"did you mean {HERE}?"),
        (f"get-librarian-list {HERE} --pong", 2, "unrecognized arguments: --pong"),
        (f"set-librarian-transfer {HERE} --name=x", 2, "--enabled and --disabled"),
        (f"set-librarian-transfer {HERE} --name=x --enabled --disabled", 2, "--enabled and --disabled"),
        (f"set-librarian-transfer {HERE} --name=nobody --enabled", 1, "no librarian 'nobody' is known"),
        (f"remove-librarian {HERE} --name=nobody", 1, "no librarian 'nobody' is known"),
        (f"create-user {HERE} --username=x --password=y --auth-level=EVERYTHING", 2, "is not one of"),
        (f"create-user {HERE} --username=x --password=- --auth-level=ADMIN", 2, "no password for x was given"),
        (f"create-user {HERE} --username=x --password=short --auth-level=ADMIN", 1, "a password has"),
        (f"update-user {HERE} --username=nobody --auth-level=NONE", 1, "get-user-list shows those there are"),
        (f"update-user {HERE} --username={ROOT}", 2, "give --password, --auth-level, or both"),
        (f"delete-user {HERE} --username=nobody", 1, "there is no account 'nobody'"),
        (f"add-librarian {HERE} --name=x --url=localhost --port=1 --authenticator=a:b", 1, "nobody answers"),
        (f"add-librarian {HERE} --name=x --url=localhost --port=1 --authenticator=ab", 1, "user:password"),
        (f"upload {HERE} not-here /x", 1, "not-here' is not there"),
        (f"upload {HERE} . /x --deletion=perhaps", 2, "invalid choice"),
        (f"upload {HERE} . '/a/../b'", 1, "is not a name"),
        (f"search-files {HERE} --create-time-start=yesterday", 2, "is not a time"),
        (f"run-task {HERE} nothing", 1, "nothing"),
        (f"ingest-manifest {HERE} --manifest=none.json --store-root=.", 1, "none.json can not be read"),
        (f"get-store-manifest {HERE} --store=alice --output=no/where.json", 1, "no/where.json can not be written"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run: Run, line: str, code: int, words: str) -> None:
    done = run(line)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("librarian: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_with_json_errors_are_json(run: Run) -> None:
    done = run(f"delete-user {HERE} --username=nobody --json")
    assert json.loads(done.stderr)["code"] == "not_found"
    assert done.returncode == 1


def test_connections_are_checked(run: Run, environment: dict[str, str], network: Network) -> None:
    assert [row["name"] for row in ok(run, "check-connections")] == [THERE, HERE]
    more = {
        "dead": connection(network[HERE], url=f"http://localhost:{free_port()}"),
        "wrong": connection(network[THERE], authenticator="nobody:nothing"),
        "old": connection(network[THERE], authenticator="sampleauth"),
    }
    done = run("check-connections --json", LIBRARIAN_CLIENT_CONNECTIONS=json.dumps(more))
    why = {row["connection"]: row["why_not"] for row in json.loads(done.stdout)}
    assert done.returncode == 1
    assert why[HERE] == why[THERE] == ""
    assert "nobody answers" in why["dead"]
    assert "does not let nobody in" in why["wrong"]
    assert "authenticator is not user:password" in why["old"]


def test_where_connections_are_written_is_said(run: Run, tmp_path: Path) -> None:
    done = run("check-connections", HOME=str(tmp_path / "newcomer"))
    assert done.returncode == 1
    assert "~/.hl_client.cfg" in done.stderr and '"authenticator"' in done.stderr


def test_a_file_that_others_can_read_is_warned_of(run: Run, environment: dict[str, str]) -> None:
    file = Path(environment["HOME"]) / ".hl_client.cfg"
    assert run(f"get-librarian-list {HERE}").stderr == ""
    file.chmod(0o640)
    try:
        done = run(f"get-librarian-list {HERE}")
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert f"chmod 600 {file}" in done.stderr
    finally:
        file.chmod(0o600)


def test_through_a_tunnel_the_name_in_the_certificate_is_said(run: Run, network: Network) -> None:
    tunnel = connection(network[HERE], certificate_name=HERE)
    done = run("get-librarian-list t", LIBRARIAN_CLIENT_CONNECTIONS=json.dumps({"t": tunnel}))
    assert done.returncode == 1
    assert f"not valid for '{HERE}'" in done.stderr
    tunnel["certificate_name"] = "nameserver"
    assert run("get-librarian-list t", LIBRARIAN_CLIENT_CONNECTIONS=json.dumps({"t": tunnel})).returncode == 0


@pytest.mark.parametrize("name", sorted(COMMANDS) or ["none"])
def test_every_command_has_help_with_an_example_that_can_be_read(run: Run, name: str) -> None:
    done = run(f"{name} --help")
    assert done.returncode == 0
    assert f"librarian {COMMANDS[name].example}" in done.stdout
    assert "--json" in done.stdout
    parser().parse_args(shlex.split(COMMANDS[name].example))


def test_ctrl_c_ends_it_quietly(environment: dict[str, str], network: Network) -> None:
    assert network[HERE].nameserver is not None
    nameserver = network[HERE].nameserver
    nameserver.signal(signal.SIGSTOP)
    try:
        # What runs in the background of a shell has SIGINT ignored, and so have its children.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "goggles.cli.librarian"]
        command += ["get-librarian-list", HERE]
        with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as process:
            try:
                wait_until("it has connected", lambda: is_connected(process.pid), 20)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
            finally:
                process.kill()
    finally:
        nameserver.signal(signal.SIGCONT)
    assert (process.returncode, out, err) == (130, "", "")


def is_connected(pid: int) -> bool:
    return any(found.startswith("socket:") for found in descriptors(pid))


# --- the classes -----------------------------------------------------------------------------


def test_who_is_there_is_the_librarian_by_its_name(client: AdminClient) -> None:
    assert client.ping().name == HERE
    assert "ADMIN" in client.ping().description


def test_refusals_have_the_numbers_that_scripts_know(client: AdminClient, network: Network) -> None:
    cases: list[tuple[int, Callable[[], object]]] = [
        (400, lambda: client.create_user("no name!", "long enough", "ADMIN")),
        (404, lambda: client.delete_user("nobody")),
        (409, lambda: client.create_user(ROOT, "long enough", "ADMIN")),
        (503, lambda: client.add_librarian("x", host="localhost", port=free_port(), authenticator="a:b")),
    ]
    for status, call in cases:
        with pytest.raises(LibrarianHTTPError) as caught:
            call()
        assert caught.value.status_code == status
        assert caught.value.url.startswith(f"rpyc://localhost:{network[HERE].port}/")


def test_a_user_may_not_administer(client: AdminClient, network: Network) -> None:
    client.create_user("dora", "long enough", "READWRITE")
    info = connection(network[HERE])
    files = {key: info[key] for key in ("ca_cert", "certfile", "keyfile")}
    with AdminClient(host=info["url"], user="dora", password="long enough", **files) as dora:
        with pytest.raises(LibrarianHTTPError, match="ADMIN") as caught:
            dora.create_user("x", "long enough", "ADMIN")
        assert caught.value.status_code == 401
    client.delete_user("dora")


def test_a_lost_connection_is_made_and_logged_in_again(client: AdminClient, network: Network) -> None:
    client.create_user("before", "long enough", "READONLY")
    site = network[HERE]
    assert site.nameserver is not None
    site.nameserver.kill()
    began = time.monotonic()
    site.start_nameserver()
    client.create_user("after", "long enough", "READONLY")
    assert client.get_user("before").auth_level.name == "READONLY"
    assert time.monotonic() - began < 30
    site.wait_active(("alice",))
    for name in ("before", "after"):
        client.delete_user(name)


def test_where_nobody_answers_it_is_said_at_once(network: Network) -> None:
    info = connection(network[HERE])
    files = {key: info[key] for key in ("ca_cert", "certfile", "keyfile")}
    began = time.monotonic()
    with pytest.raises(LibrarianTimeoutError, match="nobody answers"):
        AdminClient(host="localhost", port=free_port(), user="a", password="b", **files)
    assert time.monotonic() - began < 5


def test_files_that_failed_come_with_the_error(client: AdminClient, tmp_path: Path) -> None:
    (tmp_path / "bad\nname").write_bytes(b"1")
    (tmp_path / "good").write_bytes(b"1")
    with pytest.raises(LibrarianPartialError) as caught:
        client.upload(tmp_path, "partly")
    assert len(caught.value.failed) == 1
    assert caught.value.summary.files == 1


# --- where the server has the doors already --------------------------------------------------


@pytest.fixture
def known(client: AdminClient) -> Callable[..., Any]:
    """Call a method of the client; skips where the server has no such door (yet)."""

    def known(method: str, *args: Any) -> Any:
        try:
            return getattr(client, method)(*args)
        except LibrarianHTTPError as error:
            if error.status_code == 501:
                pytest.skip(str(error))
            raise

    return known


def test_a_file_is_found_with_its_copies(client: AdminClient, known: Callable[..., Any]) -> None:
    client.session.mkdir("/looked", exist_ok=True)
    client.session.write("/looked/for", b"here I am")
    (found,) = known("search_files", "looked/for")
    assert (found.name, found.size, found.instances[0].storage) == ("/looked/for", 9, "alice")
    assert known("search_files", "looked/for-in-vain") == []


def test_every_copy_is_read_again(client: AdminClient, known: Callable[..., Any]) -> None:
    client.session.write("/read-again", b"good bytes")
    copies = known("validate_file", "/read-again")
    assert [(copy.librarian, copy.computed_same_checksum) for copy in copies] == [(HERE, True)]


@pytest.mark.parametrize("method", ["get_store_list", "get_tasks", "search_errors"])
def test_what_is_listed_can_be_shown(run: Run, known: Callable[..., Any], method: str) -> None:
    rows = known(method)
    command = {"get_tasks": "tasks"}.get(method, method.replace("_", "-"))
    done = run(f"{command} {HERE}")
    assert done.returncode == 0, done.stderr
    assert all(str(row.get("name", "")) in done.stdout for row in rows)


def test_a_store_travels_by_its_manifest_and_its_source_hears_of_it(
    client: AdminClient, known: Callable[..., Any], network: Network, run: Run, tmp_path: Path
) -> None:
    if not states(network):
        network.link(HERE, THERE)
    carried = {"/carried": b"on a drive", "/half": b"brought before, and not completed"}
    for path, content in carried.items():
        client.session.write(path, content)
    manifest = known("get_store_manifest", "alice", THERE)
    manifest["store_files"] = [entry for entry in manifest["store_files"] if entry["name"] in carried]
    (tmp_path / "alice.json").write_text(json.dumps(manifest))
    with network[THERE].connect() as there:
        there.write("/half", carried["/half"])
    line = f"ingest-manifest {THERE} --manifest alice.json --store-root {network[HERE].root('alice')}"
    assert ok(run, line) == {"files": 1, "bytes": 10, "already_there": 1, "remarks": []}
    assert ok(run, line) == {"files": 0, "bytes": 0, "already_there": 2, "remarks": []}
    for path in carried:
        wait_until(f"the source knows of {path}", lambda path=path: THERE in holders(client, path), 20)


def holders(client: AdminClient, path: str) -> list[str]:
    (found,) = client.search_files(path)
    return [copy.librarian for copy in found.remote_instances]


# --- the guide -------------------------------------------------------------------------------


def guide() -> str:
    return (Path(__file__).parents[2] / "docs" / "librarian.md").read_text()


def test_the_guide_names_every_command_with_its_options() -> None:
    table = guide().partition("## All commands")[2].partition("## In Python")[0]
    told = {word for cell in re.findall(r"`([a-z-]+(?: [^`]*)?)`", table) for word in cell.split()[:1]}
    assert set(COMMANDS) <= told
    written = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", table))
    options = {name for each in COMMANDS.values() for item in each.options for name in item.names if name[0] == "-"}
    short = {"-n", "-u", "-s", "-c", "--uploader", "--source", "--category", "--severity", "--name"}
    assert options - short <= written
    assert written - options <= {"--json", "--help", "--librarian", "--enable", "--disable", "--database"}


def test_the_commands_of_the_guide_can_be_read() -> None:
    lines = [line.strip() for line in guide().replace("\\\n", " ").splitlines() if re.match(r" {4,}librarian ", line)]
    assert len(lines) == 8
    for line in lines:
        parser().parse_args(shlex.split(line)[1:])


@pytest.mark.sqlite
def test_the_database_is_dumped_and_uploaded(run: Run, network: Network) -> None:
    site = network.sites[next(iter(network.sites))]
    done = ok(run, f"backup {HERE} --database={site.database} --upload=/backups")
    with site.connect() as fs:
        dump = b"".join(fs.read(done["path"]))
    assert dump.startswith(b"SQLite format 3")
    assert run(f"backup {HERE} --database={site.database}.nothing").returncode != 0
