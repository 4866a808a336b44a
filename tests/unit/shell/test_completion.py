"""What the Tab key offers, by where the cursor stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from goggles.client.shell.completion import ShellCompleter
from goggles.client.shell.loop import Shell
from goggles.contracts.orders import Kept
from goggles.contracts.records import FILE, Entry, FileInfo


class Tree:
    """A tree that holds /in-tree and nothing else."""

    def scan(self, path: str, prefix: str, limit: int) -> list[Entry]:
        known = {"generation": 1, "copies": 2, "live": 2, "storages": ("alice",), "source": "goggles", "uploader": "me"}
        file = FileInfo(path="/in-tree", type=FILE, size=1, hash="0" * 64, created=0.0, modified=0.0, **known)  # type: ignore[arg-type]
        return [file]

    def quarantine(self, storage: str) -> list[Kept]:
        return [Kept("2026-03-01/in my folder", 1, 0.0, "", "/in my folder")] if storage == "alice" else []

    def exists(self, path: str) -> bool:
        return False


@pytest.fixture
def completer(tmp_path: Path) -> ShellCompleter:
    (tmp_path / "in-folder").write_text("x")
    (tmp_path / "back\\slash").write_text("x")
    shell = Shell(Tree(), tmp_path, interactive=True, as_json=False)  # type: ignore[arg-type]
    return ShellCompleter(shell)


def offered(completer: ShellCompleter, line: str) -> set[str]:
    return {
        one.text.strip() for one in completer.get_completions(Document(line), CompleteEvent(completion_requested=True))
    }


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("put in", {"in-folder"}),
        ("put a in", {"in-folder", "in-tree"}),
        ("put a b in", {"in-folder", "in-tree"}),
        ("put -r in", {"in-folder"}),
        ("put -o /x in", {"in-folder"}),
        ("put -o in", {"in-tree"}),
        ("get in", {"in-tree"}),
        ("get a in", {"in-folder", "in-tree"}),
        ("get -o x in", {"in-tree"}),
        ("get -o in", {"in-folder"}),
        ("rm a in", {"in-tree"}),
        ("put ba", {"back\\\\slash"}),
        ("put 'ba", {"'back\\slash'"}),
        ('put "ba', {"back\\\\slash"}),
        ("pw", {"pwd"}),
        ("quarantine ", {"ls", "get", "restore"}),
        ("quarantine get alice 2", {"2026-03-01/in\\ my\\ folder"}),
        ("quarantine get bob 2", set()),
        ("quarantine get alice x in", {"in-folder"}),
        ("quarantine restore alice x in", {"in-tree"}),
        ("nonsense in", set()),
    ],
)
def test_what_fits_there_is_offered(completer: ShellCompleter, line: str, names: set[str]) -> None:
    assert offered(completer, line) == names
