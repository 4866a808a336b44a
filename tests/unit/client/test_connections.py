"""The file that names librarians, in all its shapes; where a librarian is; which certificate is shown to it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from goggles.authlevel import AuthLevel
from goggles.client.librarian.answers import Answer, moment, seconds
from goggles.client.librarian.connections import FILE, VARIABLE, ClientInfo, load
from goggles.client.librarian.line import STATUS
from goggles.client.librarian.where import address_of, credentials
from goggles.errors import BY_CODE, BadRequest, GogglesError, SettingsError
from goggles.exceptions import LibrarianError, LibrarianHTTPError, LibrarianPartialError, LibrarianTimeoutError
from goggles.roles import Level

URL = {"url": "http://librarian-b.example.edu:21106/", "authenticator": "sample:au:th"}
PARTS = {"host": "http://librarian-b.example.edu", "port": 21106, "user": "sample", "password": "au:th"}
WANTED = ClientInfo("librarian-b.example.edu", 21106, "sample", "au:th")


def write(file: Path, connections: Any, mode: int = 0o600) -> Path:
    file.write_text(json.dumps({"connections": connections}))
    file.chmod(mode)
    return file


@pytest.mark.parametrize("shape", [URL, PARTS, {**PARTS, "port": "21106"}, {**URL, "url": "librarian-b.example.edu"}])
@pytest.mark.parametrize("name", [".hl_client.cfg", ".hl_client.json"])
def test_both_shapes_from_both_usual_files(tmp_path: Path, shape: dict[str, Any], name: str) -> None:
    write(tmp_path / name, {"librarian-B": shape})
    assert load({}, tmp_path).need("librarian-B") == WANTED


def test_the_first_of_the_usual_files_counts(tmp_path: Path) -> None:
    write(tmp_path / ".hl_client.cfg", {"first": URL})
    write(tmp_path / ".hl_client.json", {"second": URL})
    assert list(load({}, tmp_path).known) == ["first"]


def test_the_file_of_the_variable_counts_alone_and_the_variable_with_connections_besides(tmp_path: Path) -> None:
    write(tmp_path / ".hl_client.cfg", {"usual": URL})
    named = write(tmp_path / "named", {"here": URL, "both": URL})
    inner = {"both": {**URL, "url": "elsewhere"}, "there": PARTS}
    known = load({FILE: str(named), VARIABLE: json.dumps(inner)}, tmp_path).known
    assert sorted(known) == ["both", "here", "there"]
    assert known["both"].host == "elsewhere"


def test_certificates_lie_beside_the_file_or_where_their_path_says(tmp_path: Path) -> None:
    more = {"ca_cert": "ca.crt", "certfile": "/etc/me.crt", "keyfile": "~/me.key", "certificate_name": "b"}
    info = load({FILE: str(write(tmp_path / "file", {"b": {**URL, **more}}))}).need("b")
    assert (info.ca_cert, info.certfile) == (tmp_path / "ca.crt", Path("/etc/me.crt"))
    assert (info.keyfile, info.certificate_name) == (Path.home() / "me.key", "b")


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_who_may_read_the_file(tmp_path: Path, mode: int, warned: bool) -> None:
    file = write(tmp_path / ".hl_client.cfg", {"b": URL}, mode)
    assert load({}, tmp_path).open_to_others == (file if warned else None)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path / ".hl_client.cfg", {"b": URL})
    assert "au:th" not in repr(load({}, tmp_path))


def test_a_connection_that_is_wrong_keeps_nobody_from_another(tmp_path: Path) -> None:
    write(tmp_path / ".hl_client.cfg", {"old": {**URL, "authenticator": "sampleauth"}, "good": URL})
    found = load({}, tmp_path)
    assert found.need("good") == WANTED
    assert list(found.wrong) == ["old"]
    with pytest.raises(SettingsError, match=r"connections\.old\.authenticator is not user:password"):
        found.need("old")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "FILE is not JSON"),
        ("[]", "FILE has no key connections"),
        ('{"connection": {}}', "FILE has no key connections"),
        ('{"connections": []}', "FILE: connections must be an object"),
        ('{"connections": {"b": "url"}}', "FILE: connections.b must be an object"),
        ('{"connections": {"b": {"urls": "x"}}}', "connections.b.urls is no key of a connection (did you mean url?)"),
        ('{"connections": {"b": {"authenticator": "a:b"}}}', "connections.b has neither url nor host"),
        ('{"connections": {"b": {"url": "x", "authenticator": "sampleauth"}}}', "b.authenticator is not user:password"),
        ('{"connections": {"b": {"url": "x", "authenticator": ":x"}}}', "b.authenticator is not user:password"),
        ('{"connections": {"b": {"url": "x", "user": "a"}}}', "connections.b.password is missing"),
        ('{"connections": {"b": {"url": "x", "password": "a"}}}', "connections.b.user is missing"),
        ('{"connections": {"b": {"url": 7, "authenticator": "a:b"}}}', "connections.b.url must be text"),
        ('{"connections": {"b": {"url": "ftp://x", "authenticator": "a:b"}}}', "connections.b.url: 'ftp://x' is not"),
        ('{"connections": {"b": {"host": "x:y", "authenticator": "a:b"}}}', "connections.b.host: 'x:y' is not"),
        ('{"connections": {"b": {"host": "x", "port": 70000, "authenticator": "a:b"}}}', "connections.b.port"),
        ('{"connections": {"b": {"host": "x", "port": true, "authenticator": "a:b"}}}', "connections.b.port"),
    ],
)
def test_what_is_wrong_names_the_file_and_the_key(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / ".hl_client.cfg"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load({}, tmp_path).need("b")
    assert words.replace("FILE", str(file)) in str(caught.value)
    assert str(file) in str(caught.value)


def test_what_is_wrong_in_the_variable_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{VARIABLE}.b.url"):
        load({VARIABLE: '{"b": {"url": "ftp://x", "authenticator": "a:b"}}'}, tmp_path).need("b")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can not be read"):
        load({FILE: str(tmp_path / "none")}, tmp_path)
    with pytest.raises(SettingsError, match=r"neither ~/.hl_client.cfg nor ~/.hl_client.json is there"):
        load({}, tmp_path).need("b")


# --- addresses and certificates --------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["", "http://", "https://", "rpyc://", "HTTPS://"])
@pytest.mark.parametrize(("text", "host"), [("a.example", "a.example"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")])
@pytest.mark.parametrize("path", ["", "/", "/api/v2"])
def test_every_way_to_write_a_host_means_our_own_protocol(scheme: str, text: str, host: str, path: str) -> None:
    for written, port, number in ((text, 0, 21106), (text, 8000, 8000), (f"{text}:443", 0, 443), (f"{text}:1", 2, 2)):
        address = address_of(f"{scheme}{written}{path}", port)
        assert (address.host, address.port) == (host, number)


@pytest.mark.parametrize("text", ["", "http://", "ftp://x", "x:y", "a:b@host", "http://user:pw@host", "[::1"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(BadRequest):
        address_of(text)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(BadRequest):
        address_of("host", port)


def peers(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "certs" / name).mkdir(parents=True)
        for kind in ("crt", "key"):
            (folder / "certs" / name / f"{name}.{kind}").touch()
    (folder / "certs" / "rootCA.crt").touch()


def test_the_certificate_of_the_administrator_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    peers(tmp_path, "client")
    assert credentials(None, None, None, {}).certfile == Path("certs/client/client.crt")
    peers(tmp_path, "admin")
    found = credentials(None, None, None, {})
    assert (found.ca_cert, found.keyfile) == (Path("certs/rootCA.crt"), Path("certs/admin/admin.key"))


def test_a_certificate_that_is_given_brings_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    peers(tmp_path, "admin")
    assert credentials(None, "mine/ann.crt", None, {}).keyfile == Path("mine/ann.key")
    assert credentials(None, None, None, {"GOGGLES_CERTFILE": "mine/ann.crt"}).keyfile == Path("mine/ann.key")
    environ = {"GOGGLES_CERTFILE": "mine/ann.crt", "GOGGLES_KEYFILE": "other.key", "GOGGLES_CA_CERT": "ca"}
    found = credentials(None, None, None, environ)
    assert (found.ca_cert, found.keyfile) == (Path("ca"), Path("other.key"))
    assert credentials("own", "own.crt", "own.key", environ).keyfile == Path("own.key")


# --- words -----------------------------------------------------------------------------------


def test_levels_are_those_of_the_accounts() -> None:
    assert {level.name: level.value for level in AuthLevel} == {level.name: level.value for level in Level}
    assert f"{AuthLevel.CALLBACK}" == "AuthLevel.CALLBACK"


def test_the_package_alone_loads_no_client() -> None:
    heavy = "{'rpyc', 'sqlalchemy', 'goggles.client', 'rich'}"
    code = f"import sys, goggles; found = {heavy} & set(sys.modules); goggles.AdminClient; sys.exit(str(found or ''))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_one_base_catches_all() -> None:
    raised = [
        LibrarianHTTPError("rpyc://x", 404, "gone", "look", {}),
        LibrarianTimeoutError("rpyc://x"),
        LibrarianPartialError("some", [("a", "b")]),
    ]
    assert all(isinstance(error, LibrarianError) for error in raised)
    assert (str(raised[0]), str(raised[1])) == ("gone (look)", "no answer from rpyc://x")


def test_every_error_of_a_server_has_a_status() -> None:
    local = {"error", "settings", "local_file", "source_changed", "cancelled"}
    broken = {"storage_failure", "database", "internal"}
    ours = {code for code, cls in BY_CODE.items() if cls.__module__ == GogglesError.__module__}
    assert ours - local - broken == set(STATUS)


def test_answers_are_dicts_with_attributes() -> None:
    answer = Answer(name="x")
    assert (answer.name, answer["name"], json.dumps(answer)) == ("x", "x", '{"name": "x"}')
    assert not hasattr(answer, "size")


def test_times_without_a_zone_are_utc() -> None:
    assert seconds(moment("1970-01-02")) == seconds(moment("1970-01-02T01:00+01:00")) == seconds(86_400) == 86_400.0
    assert seconds(None) is None
    with pytest.raises(BadRequest):
        moment("yesterday")
