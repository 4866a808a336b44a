from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from goggles.errors import SettingsError
from goggles.kinds import size
from goggles.settings import (
    PROGRAMS,
    BackgroundSettings,
    ClientSettings,
    NameserverSettings,
    Settings,
    StorageSettings,
    options,
    resolve,
)

NEEDED = {"ca_cert": "ca", "certfile": "crt", "keyfile": "key"}
STORAGE = {**NEEDED, "name": "alice", "capacity": "1MiB"}


def refused(cls, flags, environ=None, file=None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        resolve(cls, flags, environ or {}, file)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    return caught.value


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("goggles.settings.CHECKOUT", tmp_path / "checkout")


# --- which place wins ------------------------------------------------------------------------


def test_flag_before_environment_before_file_before_default(tmp_path):
    file = tmp_path / "site.toml"
    file.write_text("grace = 3\nlease = 3\nheartbeat = 3\n")
    environ = {"GOGGLES_GRACE": "2", "GOGGLES_LEASE": "2"}
    made = resolve(NameserverSettings, {**NEEDED, "grace": "1"}, environ, file)
    assert (made.grace, made.lease, made.heartbeat, made.copies) == (1.0, 2.0, 3.0, 2)


def test_the_environment_of_the_seed_sets_a_storage():
    environ = {
        "name": "bob", "hostname": "bob.lab", "port": "8001", "capacity": "1048576", "ns_hostname": "nameserver",
        "ns_port": "9000", "rootpath": "/data", "ca_cert": "ca", "certfile": "crt", "keyfile": "key",
    }  # fmt: skip
    made = resolve(StorageSettings, {}, environ)
    assert (made.name, made.hostname, made.port, made.capacity) == ("bob", "bob.lab", 8001, 1 << 20)
    assert (made.ns_hostname, made.ns_port, made.rootpath) == ("nameserver", 9000, Path("/data"))


def test_the_variable_with_our_name_wins_over_the_bare_one():
    made = resolve(StorageSettings, STORAGE, {"GOGGLES_ZONE": "cellar", "GOGGLES_PORT": "1", "port": "2"})
    assert (made.zone, made.port) == ("cellar", 1)


def test_bare_variables_mean_a_storage_and_nobody_else():
    made = resolve(NameserverSettings, NEEDED, {"port": "1", "hostname": "x"})
    assert (made.port, made.hostname) == (8000, "localhost")


def test_existing_librarians_name_their_schedule_in_a_variable():
    environ = {"LIBRARIAN_BACKGROUND_CONFIG": "old.json"}
    assert resolve(NameserverSettings, NEEDED, environ).background == Path("old.json")
    assert resolve(BackgroundSettings, NEEDED, environ).background == Path("old.json")
    environ["GOGGLES_BACKGROUND"] = "new.json"
    assert resolve(NameserverSettings, NEEDED, environ).background == Path("new.json")


def test_an_empty_variable_is_none():
    assert resolve(NameserverSettings, NEEDED, {"GOGGLES_GRACE": ""}).grace == 30.0


# --- files -----------------------------------------------------------------------------------


def test_a_table_for_a_program_is_for_it_alone_and_stronger(tmp_path):
    file = tmp_path / "site.toml"
    file.write_text('loglevel = "debug"\n[storage]\nname = "alice"\ncapacity = "2T"\n[client]\nloglevel = "error"\n')
    assert resolve(ClientSettings, NEEDED, {}, file).loglevel == "error"
    made = resolve(StorageSettings, NEEDED, {}, file)
    assert (made.loglevel, made.capacity) == ("debug", 2 << 40)


def test_json_says_the_same_as_toml(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"standby": True, "port": 1, "grace": 1.5, "database": "x.db"}))
    (tmp_path / "a.toml").write_text('standby = true\nport = 1\ngrace = 1.5\ndatabase = "x.db"\n')
    made = [resolve(NameserverSettings, NEEDED, {}, tmp_path / name) for name in ("a.json", "a.toml")]
    assert made[0] == made[1] and made[0].standby is True


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("capcity = 5\n", "did you mean capacity"),
        ("[nameserver]\nname = 'x'\n", "unknown key 'name' in [nameserver]"),
        ("port = '8001'\n", "not a whole number"),
        ("port = true\n", "not a whole number"),
        ("port = 1.5\n", "not a whole number"),
        ("name = 5\n", "not text"),
        ("capacity = [1]\n", "not a size"),
        ("storage = 5\n", "unknown key 'storage'"),
        ("port = = 1\n", "not TOML"),
    ],
)
def test_a_wrong_settings_file_is_refused(tmp_path, content, said):
    file = tmp_path / "site.toml"
    file.write_text(content)
    error = refused(StorageSettings, STORAGE, file=file)
    assert said in str(error) and "site.toml" in error.message


@pytest.mark.parametrize("content", [b"[1, 2]", b"{", b"\xff\xfe", b""])
def test_a_settings_file_that_holds_no_keys_is_refused(tmp_path, content):
    (tmp_path / "site.json").write_bytes(content)
    assert "site.json" in refused(StorageSettings, STORAGE, file=tmp_path / "site.json").message


def test_a_settings_file_that_is_not_there_is_refused(tmp_path):
    assert "No such file" in refused(StorageSettings, STORAGE, file=tmp_path / "none.toml").message
    assert "can not be read" in refused(StorageSettings, STORAGE, file=tmp_path).message


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0", 0), ("1048576", 1 << 20), ("1MiB", 1 << 20), ("1mib", 1 << 20), ("10G", 10 << 30), ("2T", 2 << 40),
        ("1.5K", 1536), ("5MB", 5_000_000), ("5 GB", 5_000_000_000), ("7B", 7), ("1P", 1 << 50), (" 3k ", 3072),
    ],
)  # fmt: skip
def test_sizes(text, meant):
    assert size(text) == meant


@pytest.mark.parametrize("text", ["", "x", "-1", "1X", "1 M i B", "1e3", "0x10", "1.", ".5G", "٣", "1,5G", "inf"])
def test_what_is_not_a_size(text):
    with pytest.raises(ValueError):
        size(text)


@pytest.mark.parametrize(
    ("cls", "name", "text"),
    [
        (StorageSettings, "capacity", "0"),
        (StorageSettings, "capacity", "-5"),
        (StorageSettings, "capacity", "many"),
        (StorageSettings, "port", "65536"),
        (StorageSettings, "port", "http"),
        (StorageSettings, "ns_port", "0"),
        (StorageSettings, "name", ""),
        (StorageSettings, "name", "a\nb"),
        (StorageSettings, "rootpath", "a\0b"),
        (StorageSettings, "rootpath", "~nobody-of-this-name/x"),
        (NameserverSettings, "copies", "0"),
        (NameserverSettings, "copies", "17"),
        (NameserverSettings, "heartbeat", "0"),
        (NameserverSettings, "grace", "nan"),
        (NameserverSettings, "grace", "inf"),
        (NameserverSettings, "grace", "-1"),
        (NameserverSettings, "standby", "maybe"),
        (NameserverSettings, "loglevel", "loud"),
        (ClientSettings, "timeout", "soon"),
    ],
)
def test_a_wrong_value_names_flag_variable_and_key(cls, name, text):
    error = refused(cls, {**STORAGE, name: text} if cls is StorageSettings else {**NEEDED, name: text})
    assert error.message.startswith(f"--{name}: ")
    assert f"GOGGLES_{name.upper()}" in error.hint and f"key {name}" in error.hint


def test_a_wrong_value_says_which_variable_held_it():
    assert refused(StorageSettings, NEEDED, {"name": "a", "capacity": "x"}).message.startswith(
        "environment variable capacity:"
    )


@pytest.mark.parametrize("name", ["name", "capacity"])
def test_a_missing_setting_names_flag_variable_and_key(name):
    error = refused(StorageSettings, {key: text for key, text in STORAGE.items() if key != name})
    assert error.message == f"{name} is missing"
    assert (
        f"--{name}" in error.hint and f"GOGGLES_{name.upper()} or {name}" in error.hint and f"key {name}" in error.hint
    )


# --- what is found ---------------------------------------------------------------------------


def put_certificates(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file in ("rootCA.crt", f"{name}/{name}.crt", f"{name}/{name}.key"):
        (folder / file).touch()


def test_certificates_are_found_below_the_working_directory_first(tmp_path):
    put_certificates(tmp_path / "checkout" / "certs", "alice")
    flags = {"name": "alice", "capacity": "1"}
    assert resolve(StorageSettings, flags, {}).ca_cert == tmp_path / "checkout/certs/rootCA.crt"
    put_certificates(tmp_path / "certs", "alice")
    made = resolve(StorageSettings, flags, {})
    assert (made.certfile, made.keyfile) == (Path("certs/alice/alice.crt"), Path("certs/alice/alice.key"))
    assert resolve(StorageSettings, {**flags, "keyfile": "other"}, {}).keyfile == Path("other")


def test_the_shell_takes_the_certificate_of_a_client_before_that_of_an_administrator(tmp_path):
    put_certificates(tmp_path / "certs", "admin")
    assert resolve(ClientSettings, {}, {}).certfile == Path("certs/admin/admin.crt")
    put_certificates(tmp_path / "certs", "client")
    assert resolve(ClientSettings, {}, {}).certfile == Path("certs/client/client.crt")


def test_missing_certificates_are_named_with_the_place_looked_at():
    error = refused(StorageSettings, {**STORAGE, "ca_cert": "ca"} | {"certfile": ""} | {})
    assert "--certfile" in error.message
    flags = {key: text for key, text in STORAGE.items() if key != "certfile"}
    assert "certs/alice/alice.crt is not there" in refused(StorageSettings, flags).message
    assert "make certs" in refused(StorageSettings, flags).hint
    assert "make certs" not in refused(StorageSettings, {}).hint  # the name, which nothing can make


def test_a_storage_keeps_its_files_in_a_folder_of_its_name():
    assert resolve(StorageSettings, STORAGE, {}).rootpath == Path("storage-alice")


# --- the table -------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", list(PROGRAMS.values()))
def test_every_default_is_a_value_that_could_be_given(cls):
    for option in options(cls):
        if option.default not in (dataclasses.MISSING, None, "", ()) and not isinstance(option.default, tuple):
            assert option.kind.read(str(option.default)) == option.default, option.name


@pytest.mark.parametrize("cls", list(PROGRAMS.values()))
def test_every_setting_says_what_it_is(cls):
    assert all(option.help and "|" not in option.help for option in options(cls))


def test_settings_can_not_be_changed():
    made = resolve(NameserverSettings, NEEDED, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.port = 1


def test_the_flags_of_the_seed_keep_their_spelling():
    server = {"hostname", "port", "ca_cert", "keyfile", "certfile"}
    seed: dict[type[Settings], set[str]] = {
        NameserverSettings: server | {"treejson"},
        StorageSettings: server | {"name", "capacity", "ns_hostname", "ns_port", "rootpath"},
        ClientSettings: {"local", "logfile", "loglevel", "ns_hostname", "ns_port", "ca_cert", "keyfile", "certfile"},
    }
    for cls, names in seed.items():
        assert names <= {option.name for option in options(cls)}
