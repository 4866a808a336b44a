"""Pages that may not fall behind the code, and links that may not point nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from goggles.testing import diagrams

HOME = Path(__file__).resolve().parents[2]
DOCS = sorted([HOME / "README.md", HOME / "CONTRIBUTING.md", *(HOME / "docs").rglob("*.md")])
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
README = HOME / "README.md"


def page(path: Path) -> str:
    return path.read_text("utf-8")


def name(path: Path) -> str:
    return str(path.relative_to(HOME))


def anchors(path: Path) -> set[str]:
    """The headings of a page, as links name them."""
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in HEADING.findall(page(path))
    }


def broken_links(path: Path) -> list[str]:
    broken = []
    for target, anchor in LINK.findall(re.sub(r"`[^`\n]*`", "", page(path))):
        if "://" in target:
            continue
        other = (path.parent / target).resolve() if target else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(f"{target}#{anchor}")
    return broken


def targets(makefile: Path) -> set[str]:
    return set(re.findall(r"^([a-z_-]+):", page(makefile), re.MULTILINE))


# --- made from the code ----------------------------------------------------------------------


@pytest.mark.parametrize("path", diagrams.PAGES, ids=str)
def test_a_page_that_is_made_from_the_code_is_as_the_code_says(path):
    assert page(HOME / path) == diagrams.PAGES[path](), "run: make pages"


def test_every_state_has_a_meaning_on_its_page():
    assert set(diagrams.MEANING) == set(diagrams.TRANSITIONS)
    assert set(diagrams.TRANSFER_MEANING) == set(diagrams.transfers.TRANSITIONS)


def test_the_page_on_the_wire_has_every_method_with_its_roles_and_level():
    text = page(HOME / diagrams.WIRE)
    assert text == diagrams.with_methods(text), "run: make pages"


@pytest.mark.parametrize("service", diagrams.SERVICES.values(), ids=list(diagrams.SERVICES))
def test_the_table_of_a_service_has_one_row_for_each_exposed_method(service):
    rows = diagrams.methods(service).splitlines()[2:]
    assert [row.split("`")[1].partition("(")[0] for row in rows] == list(service.exposed_methods)


def test_a_table_that_fell_behind_is_noticed():
    text = page(HOME / diagrams.WIRE).replace("| `rm(path", "| `erase(path")
    assert text != diagrams.with_methods(text)


# --- what the pages say ----------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_every_link_between_pages_leads_somewhere(path):
    assert broken_links(path) == []


def test_every_page_can_be_reached_from_the_readme():
    seen, ahead = set(), [README]
    while ahead:
        path = ahead.pop()
        if path in seen or path.suffix != ".md" or not path.is_file():
            continue
        seen.add(path)
        ahead += [(path.parent / target).resolve() for target, _ in LINK.findall(page(path)) if target]
    assert {name(path) for path in DOCS} - {name(path) for path in seen} == set()


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_every_make_command_of_the_pages_exists(path):
    commands = set(re.findall(r"(?:^    (?:\$ )?|`)make ([a-z][a-z_-]*)", FENCE.sub("", page(path)), re.MULTILINE))
    assert commands - targets(HOME / "Makefile") == set()


def test_every_command_for_certificates_in_the_pages_exists():
    wanted = {word for path in DOCS for word in re.findall(r"make -C certs ([a-z]+)", page(path))}
    assert wanted
    assert wanted - targets(HOME / "certs" / "Makefile") == set()


def test_the_readme_names_the_two_commands():
    assert {"make demo", "make test"} <= set(re.findall(r"^    (make \w+)", page(README), re.MULTILINE))


def test_every_command_of_the_cheat_sheet_is_one_of_the_shell():
    sheet = page(README).partition("## The shell")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in sheet.splitlines() if line.startswith("| `")]
    commands = {word for cell in cells for word in re.findall(r"`([a-z]+)", cell)}
    shell = "".join(page(path) for path in (HOME / "src/goggles/client/shell").rglob("*.py"))
    known = set(re.findall(r"def do_(\w+)", shell))
    if not known:
        pytest.skip("there is no shell yet")
    assert commands - known == set()


@pytest.mark.parametrize("path", [path for path in DOCS if FENCE.search(page(path))], ids=name)
def test_every_python_example_compiles(path):
    for number, block in enumerate(FENCE.findall(page(path))):
        compile(block, f"{name(path)} example {number}", "exec")


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_no_page_names_a_folder_of_one_machine(path):
    assert re.findall(r"/(?:home|root|work|Users)/\S*", page(path)) == []


# --- promises --------------------------------------------------------------------------------


TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_the_promises_name_is_there():
    named = TEST_NAME.findall(page(HOME / "docs" / "promises.md"))
    assert len(named) > 20
    missing = [f"{file}::{test}" for file, test in named if f"\ndef {test}(" not in page(HOME / file)]
    assert not missing


def test_every_promise_and_every_fault_names_its_test():
    rows = [line for line in page(HOME / "docs" / "promises.md").splitlines() if line.startswith("| ")]
    without = [row for row in rows if not row.endswith("| shown by |") and not TEST_NAME.search(row)]
    assert not without
