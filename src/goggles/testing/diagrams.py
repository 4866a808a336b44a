"""Pages and pictures that are drawn from the tables of the code.

Law: docs/storage-states.md is what `storage_states` returns, docs/reference/commands.md what `commands` returns, and
docs/wire.md holds what `methods` returns for each
service between its marks (tests/unit/test_docs.py compares them).  `python -m goggles.testing.diagrams` writes both.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from goggles.client.shell.grammar import grammars
from goggles.client.shell.loop import Shell
from goggles.nameserver.service import NameserverService
from goggles.nameserver.states import CONNECTED, READABLE, TRANSITIONS, NodeState
from goggles.storage.service import StorageService
from goggles.wire.service import Method, Service

PAGE = Path("docs", "storage-states.md")
WIRE = Path("docs", "wire.md")
COMMANDS = Path("docs", "reference", "commands.md")
SERVICES: dict[str, type[Service]] = {"nameserver": NameserverService, "storage": StorageService}
MEANING = {
    NodeState.DOWN: "not connected; its copies do not count",
    NodeState.CHECKING: "connected; its disk is being compared with the tree",
    NodeState.ACTIVE: "its disk agrees with the tree, and it answers heartbeats",
    NodeState.HELD: "safe mode: it can be read, and waits for an administrator",
    NodeState.GRACE: "lost a moment ago; its copies still count for a while",
}


def commands() -> str:
    """The reference of all commands of the shell, as Markdown."""
    lines = ["# Commands of the shell", "", "<!-- made by `python -m goggles.testing.diagrams`: do not edit -->", ""]
    lines += [
        "`help COMMAND` says the same. Every command takes `--json`; names that start with `-` go after `--`.",
        "",
    ]
    for name, grammar in sorted(grammars(Shell).items(), key=lambda item: item[0].lower()):
        lines += [f"## {name}", "", "```", grammar.help().rstrip(), "```", ""]
    return "\n".join(lines)


def storage_states() -> str:
    """The page on the life of a storage, as Markdown with a mermaid diagram."""
    return "\n".join([*_HEAD, *_states(), "", *_diagram(), "", *_moves(), ""])


_HEAD = [
    "# The life of a storage",
    "",
    "<!-- made by `python -m goggles.testing.diagrams`: do not edit -->",
    "",
    "This is how the nameserver sees a storage. The table is `TRANSITIONS` in `goggles.nameserver.states`;",
    "a move that is not in it is refused and changes nothing.",
    "",
]


def _states() -> list[str]:
    rows = [f"| {s} | {MEANING[s]} | {_yes(s in CONNECTED)} | {_yes(s in READABLE)} |" for s in NodeState]
    return ["| state | what it means | connected | can be read |", "|---|---|---|---|", *rows]


def _diagram() -> list[str]:
    arrows = [f"    {here} --> {there}: {', '.join(events)}" for here, there, events in _arrows()]
    return ["```mermaid", "stateDiagram-v2", "    [*] --> down", *arrows, "```"]


def _moves() -> list[str]:
    rows = [f"| {here} | {' or '.join(events)} | {there} |" for here, there, events in _arrows()]
    return ["| from | event | to |", "|---|---|---|", *rows]


def _arrows() -> list[tuple[str, str, list[str]]]:
    arrows: dict[tuple[str, str], list[str]] = {}
    for here, moves in TRANSITIONS.items():
        for event, there in moves.items():
            arrows.setdefault((str(here), str(there)), []).append(str(event))
    return [(here, there, events) for (here, there), events in arrows.items()]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- the methods that a service exposes ------------------------------------------------------


def methods(service: type[Service]) -> str:
    """Each exposed method with who may call it, as a Markdown table, in the order of the code."""
    rows = [_method(method) for method in service.exposed_methods.values()]
    return "\n".join(["| method | for | level | what it does |", "|---|---|---|---|", *rows])


def _method(method: Method) -> str:
    arguments = ", ".join(str(p) for p in list(method.signature.parameters.values())[1:])
    arguments = re.sub(r": '([^']*)'", r": \1", arguments)
    who, level = ", ".join(sorted(method.declaration.roles)), method.declaration.level
    lines = (inspect.getdoc(method.function) or "").splitlines()
    return f"| `{method.name}({arguments})` | {who} | {level.name if level else ''} | {lines[0] if lines else ''} |"


def with_methods(page: str) -> str:
    """The page with the table of each service, anew, between its marks."""
    for name, service in SERVICES.items():
        begin, end = f"<!-- methods of the {name}: begin -->", f"<!-- methods of the {name}: end -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{methods(service)}\n\n{end}{rest.partition(end)[2]}"
    return page


if __name__ == "__main__":
    COMMANDS.write_text(commands(), encoding="utf-8")
    PAGE.write_text(storage_states(), "utf-8")
    WIRE.write_text(with_methods(WIRE.read_text("utf-8")), "utf-8")
