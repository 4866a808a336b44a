"""Every method of every service, called by every role at every level, with real certificates.

Law: the table here is written by hand, from what a caller should be able to do; a method that is not in it fails.
Whoever may not call is refused as denied before the arguments are looked at, and nothing changes.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from tests.attacks.conftest import calls
from tests.attacks.hostile import Calls, Refused, box

from goggles.client.session import Session
from goggles.librarian.librarian import LibrarianService
from goggles.roles import Role
from goggles.storage.service import StorageService
from goggles.testing.cluster import Cluster
from goggles.wire.service import Service

LEVELS = ("NONE", "READONLY", "CALLBACK", "READAPPEND", "READWRITE", "ADMIN")
C, A, S, N, L = Role.CLIENT, Role.ADMIN, Role.STORAGE, Role.NAMESERVER, Role.LIBRARIAN
Rule = tuple[set[Role], str]


def rules(roles: set[Role], level: str, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), (roles, level))


NAMESERVER: dict[str, Rule] = {
    **rules({C, A, S}, "NONE", "hello"),
    **rules({C, A, S, N}, "NONE", "health"),
    **rules({C, A, L}, "NONE", "login"),
    **rules({C, A, L}, "READONLY", "change_password"),
    **rules({C, A}, "READONLY", "ls scan stat stat_many isdir isfile listdir locations du site_info availableStorages"),
    **rules(
        {C, A},
        "READONLY",
        "open_read open_read_many report_bad verify verify_many search_files validate_file get_store_list",
    ),
    **rules(
        {C, A}, "READAPPEND", "mkdir mkdir_many open_write open_write_many commit commit_many abandon set_deletion"
    ),
    **rules({C, A}, "READWRITE", "rmdir rm mv setrep evict recall"),
    **rules({A}, "ADMIN", "accept restoretree drain export_tree set_store_state get_store_manifest"),
    **rules({A}, "ADMIN", "forget balance balance_state quarantine open_quarantined"),
    **rules({A}, "ADMIN", "accounts get_user create_user update_user delete_user set_account"),
    **rules({A}, "ADMIN", "stage_manifest_entries complete_manifest_entries search_errors clear_error"),
    **rules({A}, "ADMIN", "get_librarian_list add_librarian remove_librarian set_librarian_transfer"),
    **rules({A}, "ADMIN", "run_task get_tasks get_transfers run_plan"),
    **rules({S}, "NONE", "upgrade inventory walk_tree verdict condemned activate heartbeat pull_failed check_done"),
    **rules({S}, "NONE", "scrubbed"),
    **rules({S}, "NONE", "write_notification write_notifications pushed ingested"),
    **rules({S}, "NONE", "open_read_for open_write_for commit_for abandon_for"),
    **rules({L}, "READONLY", "peer_hello whereabouts validate_for"),
    **rules({L}, "CALLBACK", "checkin_status outgoing_status clone_complete please_send"),
    **rules({L}, "READAPPEND", "batch_stage open_push checkin_update"),
}
STORAGE: dict[str, Rule] = {
    **rules({C, A, S, N}, "NONE", "health"),
    **rules({N}, "NONE", "carry_out quarantined"),
    **rules({C, A}, "NONE", "open write_fileobj"),
}
# name of the certificate, its role, what its account says, and the level that comes of it
CALLERS = [
    ("plain", C, "", "READWRITE"),
    *((f"client-{level}", C, level, level) for level in LEVELS[:-1]),
    ("client-ADMIN", C, "ADMIN", "READWRITE"),
    ("ruler", A, "", "ADMIN"),
    *((f"admin-{level}", A, level, level) for level in LEVELS),
    ("alice", S, "", "NONE"),
    ("stranger", S, "ADMIN", "NONE"),
    ("nameserver", N, "", "NONE"),
    ("second", N, "ADMIN", "NONE"),
    ("librarian", L, "", "NONE"),
]
LOGGED_IN = [(level, "READAPPEND" if level in ("READWRITE", "ADMIN") else level) for level in LEVELS]
PASSWORD = "a long password, of a test"


@pytest.mark.parametrize(("service", "table"), [(LibrarianService, NAMESERVER), (StorageService, STORAGE)])
def test_every_method_stands_in_the_table(service: type[Service], table: dict[str, Rule]) -> None:
    assert set(service.exposed_methods) == set(table)


@pytest.fixture(scope="module")
def accounts(site: Cluster) -> None:
    with site.connect() as fs:
        for name, _, level, _ in CALLERS:
            if level:
                fs._calls("set_account", name, level)
        for level, _ in LOGGED_IN:
            fs._calls("create_user", f"user-{level}", PASSWORD, level)


@pytest.fixture(autouse=True)
def _nothing_changes(site: Cluster, accounts: None, fs: Session) -> Iterator[None]:
    def look() -> Any:
        known = [fs._calls(name) for name in ("accounts", "get_librarian_list")]
        stores = [dict(store) for store in fs._calls("get_store_list")]
        return *known, [(store["name"], store["state"], store["enabled"]) for store in stores], fs.du()[0].uploads

    before = look()
    yield
    assert look() == before


def plausible(service: type[Service], name: str) -> tuple[Any, ...]:
    """Arguments that would do harm where they were not refused."""
    method = service.exposed_methods[name]
    hints = typing.get_type_hints(method.function)
    made = {str: "/kept", int: 1, bool: True, float: 1.0, bytes: b"x"}
    parameters = list(inspect.signature(method.function).parameters.values())[1:]
    return tuple(made.get(hints[one.name], ()) for one in parameters)


def outcome(line: Calls, method: str, *args: Any, **named: Any) -> str:
    try:
        line.call(method, *args, **named)
    except Refused as error:
        return error.code
    return "done"


def wrong(line: Calls, service: type[Service], table: dict[str, Rule], role: Role, level: str) -> list[str]:
    """The methods that were refused where they should not be, or not refused."""
    found = []
    for name, (roles, least) in table.items():
        if role in roles and LEVELS.index(level) >= LEVELS.index(least):
            said, due = outcome(line, name, no_such_argument=1), "bad_request"
        else:
            said, due = outcome(line, name, *plausible(service, name)), "denied"
        if said != due:
            found.append(f"{name}: {said}, not {due}")
    return found


@pytest.mark.parametrize(("name", "role", "account", "level"), CALLERS, ids=[row[0] for row in CALLERS])
def test_a_nameserver_answers_only_those_who_may_ask(
    site: Cluster, name: str, role: Role, account: str, level: str
) -> None:
    with calls(site, name, role) as line:
        assert wrong(line, LibrarianService, NAMESERVER, role, level) == []


@pytest.mark.parametrize(("account", "level"), LOGGED_IN)
@pytest.mark.parametrize("role", [C, A, L])
def test_to_log_in_gives_no_more_than_the_role_allows(site: Cluster, account: str, level: str, role: Role) -> None:
    names = {C: "plain", A: "ruler", L: "librarian"}
    most = {C: "READWRITE", A: "ADMIN", L: "READAPPEND"}[role]
    due = min(account, most, key=LEVELS.index)
    with calls(site, names[role], role) as line:
        assert line.value("login", f"user-{account}", PASSWORD) == due
        assert wrong(line, LibrarianService, NAMESERVER, role, due) == []


@pytest.mark.parametrize("name", ["plain", "client-NONE", "ruler", "admin-NONE", "bob", "nameserver", "librarian"])
def test_a_storage_answers_only_those_who_may_ask(site: Cluster, name: str) -> None:
    role = {"plain": C, "client-NONE": C, "ruler": A, "admin-NONE": A, "bob": S, "nameserver": N, "librarian": L}[name]
    with calls(site, name, role, at="alice") as line:
        assert wrong(line, StorageService, STORAGE, role, "NONE") == []


def test_a_client_of_no_level_gets_nothing_from_a_storage_either(site: Cluster) -> None:
    """The methods are open to users of all levels: the nameserver is asked."""
    with calls(site, "client-NONE", C, at="alice") as line:
        assert outcome(line, "open", "/kept") == "denied"
    with calls(site, "client-READONLY", C, at="alice") as line:
        assert outcome(line, "open", "/kept") in ("done", "not_found")


def test_a_level_that_is_lowered_counts_for_those_who_are_here(site: Cluster) -> None:
    with calls(site, "falling", C) as line, site.connect() as fs:
        assert outcome(line, "stat", "/kept") == "done"
        fs._calls("set_account", "falling", "NONE")
        assert outcome(line, "stat", "/kept") == "denied"
        fs._calls("set_account", "falling", "")
        assert outcome(line, "stat", "/kept") == "done"


@pytest.mark.parametrize(
    "method", ["", "undeclared", "_owners", "__init__", "exposed_", "exposed_exposed_stat", "stat\0"]
)
def test_what_is_no_method_is_refused_to_everybody(site: Cluster, method: str) -> None:
    for name, role in (("plain", C), ("ruler", A), ("alice", S), ("nameserver", N), ("librarian", L)):
        with calls(site, name, role) as line:
            assert outcome(line, method) == "denied"
            line.ask(1, box("a ping is answered, and the line is as it was"))
