"""The commands of `librarian` about accounts.

Law: see `librarian_grammar`.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace

from goggles.authlevel import AuthLevel
from goggles.cli.librarian_commands import SECRET, grid, secret
from goggles.cli.librarian_grammar import Reply, command, option
from goggles.client.librarian.admin import AdminClient
from goggles.client.shell.words import safe
from goggles.errors import SettingsError

LEVELS = "NONE, READONLY, CALLBACK, READAPPEND, READWRITE or ADMIN"
USER = option("--username", required=True, help="The name of the account.")


def _level(text: str) -> str:
    if text.upper() not in AuthLevel.__members__:
        raise ArgumentTypeError(f"{text!r} is not one of {' '.join(AuthLevel.__members__)}")
    return text.upper()


@command(
    "create-user",
    "Create an account.",
    "create-user my-site --username=source_librarian --password=- --auth-level=ReadAppend",
    option("--username", required=True, help="The name of the account: that of the librarian that will log in."),
    option("--password", required=True, help=f"Its password{SECRET}."),
    option("--auth-level", required=True, type=_level, metavar="LEVEL", help=f"{LEVELS}."),
)
def create_user(client: AdminClient, options: Namespace) -> Reply:
    password = secret(options.password, f"password for {options.username}")
    client.create_user(options.username, password, options.auth_level)
    return Reply({"username": options.username}, f"user {options.username} created")


@command(
    "delete-user",
    "Delete an account.",
    "delete-user my-site --username=source_librarian",
    USER,
)
def delete_user(client: AdminClient, options: Namespace) -> Reply:
    client.delete_user(options.username)
    return Reply({"username": options.username}, f"user {options.username} deleted")


@command(
    "update-user",
    "Change the password of an account, its level, or both.",
    "update-user my-site --username=source_librarian --auth-level=ReadAppend",
    USER,
    option("--password", help=f"Its password from now on{SECRET}."),
    option("--auth-level", type=_level, metavar="LEVEL", help=f"{LEVELS}."),
)
def update_user(client: AdminClient, options: Namespace) -> Reply:
    if options.password is None and options.auth_level is None:
        raise SettingsError("give --password, --auth-level, or both", "librarian update-user --help tells more")
    password = None if options.password is None else secret(options.password, f"password for {options.username}")
    client.update_user(options.username, password, options.auth_level)
    return Reply({"username": options.username}, f"user {safe(options.username)} changed")


@command("get-user-list", "Get a list of the accounts.", "get-user-list my-site")
def get_user_list(client: AdminClient, _: Namespace) -> Reply:
    users = client.get_user_list()
    return Reply(users, grid(users, username="user", auth_level="level"))
