"""Pages and pictures that are drawn from the tables of the code.

Law: each page of PAGES is what its function returns, and docs/wire.md holds what `methods` returns for each service
between its marks (tests/unit/test_docs.py compares them).  `python -m goggles.testing.diagrams` writes all of them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from goggles.client.shell.grammar import grammars
from goggles.client.shell.loop import Shell
from goggles.contracts.peering import State
from goggles.librarian import states as transfers
from goggles.librarian.figures import Figures
from goggles.librarian.metrics import families
from goggles.nameserver.service import NameserverService
from goggles.nameserver.states import CONNECTED, READABLE, TRANSITIONS, NodeState
from goggles.storage.service import StorageService
from goggles.wire.service import Method, Service

WIRE = Path("docs", "wire.md")
MADE = "<!-- made by `python -m goggles.testing.diagrams`: do not edit -->"
SERVICES: dict[str, type[Service]] = {"nameserver": NameserverService, "storage": StorageService}
MEANING = {
    NodeState.DOWN: "not connected; its copies do not count",
    NodeState.CHECKING: "connected; its disk is being compared with the tree",
    NodeState.ACTIVE: "its disk agrees with the tree, and it answers heartbeats",
    NodeState.HELD: "safe mode: it can be read, and waits for an administrator",
    NodeState.GRACE: "lost a moment ago; its copies still count for a while",
}
TRANSFER_MEANING = {
    State.INITIATED: "written down; the destination has a place for it, or not yet",
    State.ONGOING: "a transfer manager has it",
    State.STAGED: "all bytes are at the destination, and are being verified there",
    State.COMPLETED: "a file of the destination's tree, and the source knows it",
    State.FAILED: "given up; the bytes of the source are as they were, and it may be sent anew",
    State.CANCELLED: "called off by either side",
}


def commands() -> str:
    """The reference of all commands of the shell, as Markdown."""
    lines = ["# Commands of the shell", "", MADE, ""]
    lines += [
        "`help COMMAND` and `COMMAND --help` say the same. Every command takes `--json`;",
        "names that start with `-` go after `--`.",
        "",
    ]
    for name, grammar in sorted(grammars(Shell).items(), key=lambda item: item[0].lower()):
        lines += [f"## {name}", "", "```", grammar.help().rstrip(), "```", ""]
    return "\n".join(lines)


def storage_states() -> str:
    """The page on the life of a storage, as Markdown with a mermaid diagram."""
    head = [
        *("# The life of a storage", "", MADE, ""),
        "This is how the nameserver sees a storage. The table is `TRANSITIONS` in `goggles.nameserver.states`;",
        *("a move that is not in it is refused and changes nothing.", ""),
    ]
    rows = [f"| {s} | {MEANING[s]} | {_yes(s in CONNECTED)} | {_yes(s in READABLE)} |" for s in NodeState]
    states = ["| state | what it means | connected | can be read |", "|---|---|---|---|", *rows]
    return "\n".join([*head, *states, "", *_moves(TRANSITIONS)])


def transfer_states() -> str:
    """The page on the life of a transfer between librarians, as Markdown with a mermaid diagram."""
    head = [
        *("# The life of a transfer", "", MADE, ""),
        "Each file that is pushed has a row at its source (outgoing) and a row at its destination (incoming); each",
        "side moves its own row only. The table is `TRANSITIONS` in `goggles.librarian.states`; a move that is not in",
        "it is refused and changes nothing. So an answer that is lost, comes twice or comes late does no harm; what",
        "the two rows do not agree about is settled by the hypervisors ([0009](decisions/0009-librarians.md)).",
        "",
    ]
    rows = [f"| {s.name.lower()} | {s.value} | {text} |" for s, text in TRANSFER_MEANING.items()]
    states = ["| state | number | what it means |", "|---|---|---|", *rows]
    return "\n".join([*head, *states, "", *_moves(transfers.TRANSITIONS)])


def _moves(table: Mapping[Any, Mapping[Any, Any]]) -> list[str]:
    """A table of moves as a diagram and as a table; its first state is where things begin."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for here, moves in table.items():
        for event, there in moves.items():
            arrows.setdefault((_name(here), _name(there)), []).append(_name(event))
    lines = [f"    {here} --> {there}: {', '.join(events)}" for (here, there), events in arrows.items()]
    rows = [f"| {here} | {' or '.join(events)} | {there} |" for (here, there), events in arrows.items()]
    begin = f"    [*] --> {_name(next(iter(table)))}"
    diagram = ["```mermaid", "stateDiagram-v2", begin, *lines, "```", ""]
    return [*diagram, "| from | event | to |", "|---|---|---|", *rows, ""]


def _name(state: Enum) -> str:
    return state.name.lower()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- figures ---------------------------------------------------------------------------------


def metrics() -> str:
    """The reference of all figures for monitoring, as Markdown."""
    head = [
        *("# Metrics", "", MADE, ""),
        "`vg-nameserver --metrics_port 9100` serves these at `http://localhost:9100/metrics`, in the format of",
        *("Prometheus. They are all gauges: what is true at that moment.", ""),
        *("| metric | labels | what it is |", "|---|---|---|"),
    ]
    rows = [
        f"| `{family.name}` | {', '.join(f'`{label}`' for label in family._labelnames)} | {family.documentation} |"
        for family in families(Figures(since_upload=0.0), "")
    ]
    return "\n".join([*head, *rows, ""])


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


PAGES: dict[Path, Callable[[], str]] = {
    Path("docs", "storage-states.md"): storage_states,
    Path("docs", "transfer-states.md"): transfer_states,
    Path("docs", "reference", "commands.md"): commands,
    Path("docs", "reference", "metrics.md"): metrics,
}


if __name__ == "__main__":
    for path, page in PAGES.items():
        path.write_text(page(), "utf-8")
    WIRE.write_text(with_methods(WIRE.read_text("utf-8")), "utf-8")
