"""What can be set, for each program: one table, from which flags, environment, files and reference are made.

Law: a setting is declared once, as a field of one of the classes below.  Its value is the flag, else the environment
variable, else the key in the settings file, else the default.  Whatever is wrong is a SettingsError that names all
three places.  A settings file is TOML (or JSON, by its suffix): keys at the top are for the program that reads it,
a table named after a program ([nameserver], [storage], [client]) is for that program and stronger.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from goggles.errors import SettingsError
from goggles.kinds import (
    LINES,
    MANAGERS,
    PATH,
    PATHS,
    PORT,
    RATE,
    SIZE,
    SWITCH,
    TEXT,
    UUID,
    WEB,
    Kind,
    choice,
    count,
    seconds,
)

CHECKOUT = Path(__file__).resolve().parents[2]
LEVELS = ("debug", "info", "warning", "error", "critical")
OFF = Path("off")
_NO_FILES: Mapping[str, object] = {}


# --- the table -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of one program.  `default` is MISSING where it must be given, or is found (`found` says how)."""

    name: str
    kind: Kind
    help: str
    default: Any = MISSING
    found: str = ""
    bare: bool = False  # the environment variable of the seed's docker files, without GOGGLES_
    short: str = ""
    also: str = ""  # the environment variable that existing librarians have for it

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables, the stronger first."""
        more = ([self.name] if self.bare else []) + ([self.also] if self.also else [])
        return (f"GOGGLES_{self.name.upper()}", *more)

    @property
    def places(self) -> str:
        """Where it can be set, for a hint."""
        return f"{self.flag}, environment {' or '.join(self.variables)}, or the key {self.name} in the settings file"


def _setting(text: str, kind: Kind, default: Any = MISSING, **more: Any) -> Any:
    """Declare a setting; `more` as in Option."""
    return dataclasses.field(default=default, metadata={"help": text, "kind": kind, **more})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all programs have in common."""

    program: ClassVar[str]
    prog: ClassVar[str]  # what it is called on the command line
    bare: ClassVar[frozenset[str]] = frozenset()

    ca_cert: Path = _setting("CA certificate(s) that other programs are checked with", PATH, found="certs/rootCA.crt")
    certfile: Path = _setting("certificate of this program", PATH, found="certs/NAME/NAME.crt")
    keyfile: Path = _setting("private key of this program", PATH, found="certs/NAME/NAME.key")
    logfile: Path | None = _setting("file for the log, instead of standard error", PATH, None)
    loglevel: str = _setting("how much is logged: " + ", ".join(LEVELS), choice(*LEVELS), "info")
    logformat: str = _setting("form of a log line: text, json", choice("text", "json"), "text")

    @classmethod
    def peers(cls, known: Mapping[str, Any]) -> tuple[str, ...]:
        """Names under which a certificate of this program may stand below certs/, best first."""
        return (cls.program,)

    @classmethod
    def found(cls, known: Mapping[str, Any]) -> dict[str, Path]:
        """Values that stand nowhere but can be found, given those that are `known`."""
        files = {"ca_cert": ["rootCA.crt"]}
        files["certfile"] = [f"{name}/{name}.crt" for name in cls.peers(known)]
        files["keyfile"] = [f"{name}/{name}.key" for name in cls.peers(known)]
        folders = (Path("certs"), CHECKOUT / "certs")
        there = {
            key: [f / name for f in folders for name in names if (f / name).exists()] for key, names in files.items()
        }
        return {key: paths[0] for key, paths in there.items() if paths}


@dataclass(frozen=True, kw_only=True)
class _Server(Settings):
    hostname: str = _setting("name under which others reach this host; its certificate must hold it", TEXT, "localhost")
    port: int = _setting("port to listen on; 0: one that the system chooses", PORT, 0)
    listen: str = _setting("address to listen on; all interfaces where it is not given", TEXT, "")
    peer_ca: Path | None = _setting(
        "CA certificates of other sites, whose librarians and storages may come", PATH, None
    )
    durability: str = _setting(
        "a change is answered when it is on disk, or when the system has it (os: a power cut may lose it)",
        choice("disk", "os"),
        "disk",
    )


@dataclass(frozen=True, kw_only=True)
class _Globus:
    """How a librarian uses Globus; the names are those of the existing librarians."""

    globus_enable: bool = _setting("use Globus as a transfer manager", SWITCH, False)
    globus_client_id: str = _setting("UUID of the application that is registered with Globus", UUID, "")
    globus_client_native_app: bool = _setting(
        "it is a native app (librarian globus-login logs a person in); no: a confidential app with a secret",
        SWITCH,
        False,
    )
    globus_client_secret_file: Path | None = _setting(
        "file with its secret, or with the refresh token that librarian globus-login writes; mode 600", PATH, None
    )
    globus_local_endpoint_id: str = _setting(
        "UUID of the Globus collection for storages that name none with --globus_endpoint", UUID, ""
    )
    globus_max_tasks: int = _setting(
        "tasks of this identity that Globus may have at the same time, whoever submitted them", count(1, 100), 100
    )
    globus_deadline: float = _setting("seconds after which Globus gives up a task", seconds(60), 259_200.0)
    globus_patience: float = _setting(
        "seconds without progress after which a task is cancelled that a file or a right is missing for",
        seconds(),
        1_800.0,
    )


@dataclass(frozen=True, kw_only=True)
class NameserverSettings(_Globus, _Server):
    """Settings of vg-nameserver."""

    program: ClassVar[str] = "nameserver"
    prog: ClassVar[str] = "vg-nameserver"

    port: int = _setting("port to listen on; 0: one that the system chooses", PORT, 8000)
    database: str = _setting("SQLite file, or postgresql+psycopg://USER@HOST/NAME", TEXT, "goggles.db")
    site_name: str = _setting("name of the site, given to a new database", TEXT, "goggles")
    treejson: Path | None = _setting("tree.json: read into an empty database, written at each clean stop", PATH, None)
    standby: bool = _setting("wait for the database where another nameserver has it", SWITCH, False)
    copies: int = _setting("copies of each file, where its directory says nothing else", count(1, 16), 2)
    heartbeat: float = _setting("seconds between heartbeats of a storage", seconds(0.05), 2.0)
    grace: float = _setting("seconds before the copies on a lost storage count as lost", seconds(), 30.0)
    lease: float = _setting("seconds without a sign of life before an upload is given up", seconds(0.1), 60.0)
    resumable: float = _setting(
        "seconds for which a large upload is kept after its lease, to be gone on with", seconds(), 3600.0
    )
    repair_streams: int = _setting("copies that are made on one storage at the same time", count(1, 64), 4)
    repair_rate: int = _setting(
        "bytes a second that one storage fetches copies with, all together (at least 256K); 0: no limit", RATE, 0
    )
    librarian_certfile: Path | None = _setting(
        "certificate of the role librarian, for other sites (else librarian/librarian.crt beside its own)", PATH, None
    )
    librarian_keyfile: Path | None = _setting("its private key", PATH, None)
    encryption_key_file: Path = _setting("key for the passwords of peers; made at first use", PATH, Path("goggles.key"))
    background: Path | None = _setting(
        "schedule of the librarian's background tasks, JSON or TOML; off: vg-background has it",
        PATH,
        None,
        also="LIBRARIAN_BACKGROUND_CONFIG",
    )
    webhook: str = _setting("address that is told of each new error, as JSON", WEB, "")
    metrics_port: int = _setting("port for figures in the format of Prometheus; 0: none", PORT, 0)
    metrics_listen: str = _setting("address that --metrics_port listens on", TEXT, "127.0.0.1")
    report_to_mandc: bool = _setting("report the site's figures to HERA's monitor and control", SWITCH, False)
    offer_again: float = _setting("seconds until another site is offered a file that it refused", seconds(), 600.0)
    push_rate: int = _setting("bytes a second that one file is pushed to another site with; 0: no limit", RATE, 0)
    max_connections: int = _setting("connections that are served at the same time", count(1, 65_536), 2_000)
    max_requests: int = _setting("requests of users that are worked on at the same time", count(1, 65_536), 256)


@dataclass(frozen=True, kw_only=True)
class _Caller(Settings):
    ns_hostname: str = _setting("host name or address of the nameserver", TEXT, "localhost")
    ns_port: int = _setting("port of the nameserver", count(1, 65_535), 8000)


@dataclass(frozen=True, kw_only=True)
class StorageSettings(_Server, _Caller):
    """Settings of vg-storage."""

    program: ClassVar[str] = "storage"
    prog: ClassVar[str] = "vg-storage"
    bare: ClassVar[frozenset[str]] = frozenset(
        ("name", "hostname", "port", "capacity", "rootpath", "ns_hostname", "ns_port", "ca_cert", "certfile", "keyfile")
    )

    name: str = _setting("name of this storage, unique in its site", TEXT)
    capacity: int = _setting("bytes that this storage may hold: 1048576, 1MiB, 10G, 2T", SIZE)
    rootpath: Path = _setting("folder that holds the files", PATH, found="storage-NAME")
    zone: str = _setting("zone (room, rack, host): copies are spread over zones", TEXT, "")
    ingestable: bool = _setting("whether it takes new files; no: a drive that create_local_clone fills", SWITCH, True)
    quarantine_days: float = _setting("days for which quarantined files are kept", seconds(), 7.0)
    scrub_days: float = _setting("days in which all files are read again; 0: they are not", seconds(), 14.0)
    scrub_rate: int = _setting("bytes a second that are read for that at most; 0: no limit", RATE, 50 << 20)
    ssh_host: str = _setting("host name under which other sites reach this storage by ssh, for rsync", TEXT, "")
    ssh_root: str = _setting("where ssh users find the folder --rootpath (as a rule at its own path)", TEXT, "")
    ssh_command: str = _setting("program that rsync reaches other sites with, and its options", TEXT, "ssh")
    shared_root: str = _setting("where other sites see the folder --rootpath in a shared file system", TEXT, "")
    globus_endpoint: str = _setting("UUID of the Globus collection in which --rootpath lies", UUID, "")
    globus_root: str = _setting("where that collection shows --rootpath (as a rule at its own path)", TEXT, "")
    globus_available: bool = _setting("whether other sites may send here with Globus", SWITCH, True)
    asynchronous_transfer_manager_data: dict[str, Any] | None = _setting(
        "the same as JSON or a JSON file, as existing librarians have it; the flags are stronger", MANAGERS, None
    )
    push_local: tuple[Path, ...] = _setting("folders of other sites that files may be copied into, A:B:...", PATHS, ())

    @classmethod
    def peers(cls, known: Mapping[str, Any]) -> tuple[str, ...]:
        return (str(known["name"]),)

    @classmethod
    def found(cls, known: Mapping[str, Any]) -> dict[str, Path]:
        return {**super().found(known), "rootpath": Path(f"storage-{known['name']}")}


@dataclass(frozen=True, kw_only=True)
class ClientSettings(_Caller):
    """Settings of vg, the shell."""

    program: ClassVar[str] = "client"
    prog: ClassVar[str] = "vg"

    loglevel: str = _setting("how much is logged: " + ", ".join(LEVELS), choice(*LEVELS), "warning")
    local: Path = _setting("local directory that get and put start from", PATH, Path("."))
    timeout: float = _setting("seconds for which a lost connection is tried again", seconds(), 30.0)
    keys: str = _setting("keys of the line editor: emacs or vi", choice("emacs", "vi"), "emacs")
    json: bool = _setting("print answers as JSON, one value a line", SWITCH, False)
    command: tuple[str, ...] = _setting(
        "command to run instead of the shell; may be given again", LINES, (), short="-c"
    )
    stop_on_error: bool = _setting("end at the first command that fails (for -c and scripts)", SWITCH, False)

    @classmethod
    def peers(cls, known: Mapping[str, Any]) -> tuple[str, ...]:
        return ("client", "admin")


@dataclass(frozen=True, kw_only=True)
class BackgroundSettings(_Caller):
    """Settings of vg-background."""

    program: ClassVar[str] = "background"
    prog: ClassVar[str] = "vg-background"

    background: Path = _setting(
        "schedule of the background tasks, JSON or TOML", PATH, also="LIBRARIAN_BACKGROUND_CONFIG"
    )
    once: bool = _setting("run each task once, then end: with 0 only if all went well", SWITCH, False)

    @classmethod
    def peers(cls, known: Mapping[str, Any]) -> tuple[str, ...]:
        return ("admin",)


S = TypeVar("S", bound=Settings)
PROGRAMS: dict[str, type[Settings]] = {
    cls.program: cls for cls in (NameserverSettings, StorageSettings, ClientSettings, BackgroundSettings)
}


def options(cls: type[Settings]) -> list[Option]:
    """The settings of a program, those that all programs have last."""
    shared = {f.name for f in dataclasses.fields(Settings)}
    fields = sorted(dataclasses.fields(cls), key=lambda f: f.name in shared)
    return [Option(f.name, default=f.default, bare=f.name in cls.bare, **f.metadata) for f in fields]


# --- from the three places to the values -----------------------------------------------------


def resolve(cls: type[S], flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None = None) -> S:
    """The settings of one program.  `flags`: text by name of setting; an empty environment variable is none."""
    keys = _load(cls, file) if file is not None else _NO_FILES
    known: dict[str, Any] = {}
    for option in options(cls):
        value = _value(option, flags, environ, keys, file)
        if value is not MISSING:
            known[option.name] = value
    _demand(cls, known, [option for option in options(cls) if not option.found])
    known = {**cls.found(known), **known}
    _demand(cls, known, options(cls))
    return cls(**known)


def _demand(cls: type[Settings], known: Mapping[str, Any], wanted: list[Option]) -> None:
    for option in wanted:
        if option.name not in known:
            looked = f"; {option.found.replace('NAME', cls.peers(known)[0])} is not there" if option.found else ""
            made = "make certs, or vg-certs, makes certificates; or " if option.found else ""
            raise SettingsError(f"{option.name} is missing{looked}", f"{made}give {option.places}")


def _value(
    option: Option, flags: Mapping[str, str], environ: Mapping[str, str], keys: Mapping[str, object], file: Path | None
) -> Any:
    if option.name in flags:
        return _read(option, option.flag, flags[option.name], option.kind.read)
    for variable in option.variables:
        if environ.get(variable):
            return _read(option, f"environment variable {variable}", environ[variable], option.kind.read)
    if option.name in keys:
        return _read(option, f"key {option.name} in {file}", keys[option.name], option.kind.from_file)
    return option.default


def _read(option: Option, place: str, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except (ValueError, OverflowError):
        raise SettingsError(f"{place}: {value!r} is not {option.kind.shape}", f"set it with {option.places}") from None


def _load(cls: type[Settings], file: Path) -> dict[str, object]:
    """The keys for one program; every key of the file is checked."""
    try:
        text = file.read_text("utf-8")
        content = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"the settings file {file} can not be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise SettingsError(f"the settings file {file} is not {kind}: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"the settings file {file} holds no keys but a {type(content).__name__}")
    tables = {name: content.pop(name) for name in PROGRAMS if isinstance(content.get(name), dict)}
    for program, table in {**tables, "": content}.items():
        _check_keys(PROGRAMS.get(program, cls), table, f"[{program}] of {file}" if program else str(file))
    return {**content, **tables.get(cls.program, {})}


def _check_keys(cls: type[Settings], table: Mapping[str, object], place: str) -> None:
    known = {option.name: option for option in options(cls)}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else "known keys: " + ", ".join(sorted(known))
            raise SettingsError(f"unknown key {key!r} in {place}: {cls.prog} has no such setting", hint)
        _read(known[key], f"key {key} in {place}", value, known[key].kind.from_file)
