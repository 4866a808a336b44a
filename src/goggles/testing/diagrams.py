"""Pictures that are drawn from the tables of the code.

Law: docs/storage-states.md holds what `storage_states` returns (tests/unit/test_docs.py compares them).
`python -m goggles.testing.diagrams` writes the page anew.
"""

from __future__ import annotations

from pathlib import Path

from goggles.nameserver.states import CONNECTED, READABLE, TRANSITIONS, NodeState

PAGE = Path("docs", "storage-states.md")
MEANING = {
    NodeState.DOWN: "not connected; its copies do not count",
    NodeState.CHECKING: "connected; its disk is being compared with the tree",
    NodeState.ACTIVE: "its disk agrees with the tree, and it answers heartbeats",
    NodeState.HELD: "safe mode: it can be read, and waits for an administrator",
    NodeState.GRACE: "lost a moment ago; its copies still count for a while",
}


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


if __name__ == "__main__":
    PAGE.write_text(storage_states(), "utf-8")
