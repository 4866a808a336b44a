"""The rules of the house that no tool holds: sizes, and pages that may not fall behind the code.

Each test answers the list of what breaks its rule, so that one run shows all of it.
"""

from __future__ import annotations

import ast
import functools
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from goggles import errors
from goggles.cli import reference

HOME = Path(__file__).resolve().parents[1]
SOURCE = HOME / "src" / "goggles"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((HOME / "tests").rglob("*.py"))
MAX_MODULE = 400
MAX_FUNCTION = 45
MEDIAN_FUNCTION = 10
TARGETS = {"help", "venv", "certs", "demo", "shell", "test", "check", "chaos", "bench", "clean"}
TARGETS |= {"client", "run_client", "librarians-demo", "compose-test"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def text(path: Path) -> str:
    return path.read_text("utf-8", "replace")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(text(path))


@functools.cache
def tracked() -> list[Path]:
    """Every file that belongs to the project; in a checkout those that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(command, cwd=HOME, capture_output=True, check=False)
    if found.returncode == 0:
        names = found.stdout.decode().split("\0")
        return [HOME / name for name in names if name and (HOME / name).is_file()]
    roots = ("src", "tests", "docs", "certs", "changelog.d")
    return [path for root in roots for path in (HOME / root).rglob("*") if path.is_file() and path.suffix != ".pyc"]


def show(path: Path) -> str:
    return str(path.relative_to(HOME))


def functions(paths: list[Path]) -> Iterator[tuple[Path, Function, int]]:
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, Function):
                yield path, node, (node.end_lineno or node.lineno) - node.lineno + 1


def lines_with(pattern: str, paths: list[Path]) -> list[str]:
    expression = re.compile(pattern)
    return [
        f"{show(path)}:{number}: {line.strip()}"
        for path in paths
        if expression.search(text(path))
        for number, line in enumerate(text(path).splitlines(), 1)
        if expression.search(line)
    ]


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


# --- sizes -----------------------------------------------------------------------------------


def test_no_module_is_longer_than_400_lines():
    sizes = {show(path): text(path).count("\n") for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > MAX_MODULE} == {}


def test_no_function_is_longer_than_45_lines():
    long = [f"{show(path)}:{node.lineno} {node.name}: {size}" for path, node, size in functions(MODULES)]
    assert [line for line in long if int(line.rpartition(" ")[2]) > MAX_FUNCTION] == []


def test_the_median_function_is_short():
    sizes = sorted(size for _, _, size in functions(MODULES))
    median, p90 = statistics.median(sizes), sizes[len(sizes) * 9 // 10]
    print(f"{len(MODULES)} modules, {len(sizes)} functions: median {median}, p90 {p90}, longest {sizes[-1]} lines")
    assert median <= MEDIAN_FUNCTION


def test_the_programs_at_the_top_are_a_dozen_lines_or_so():
    assert {show(path) for path in HOME.glob("vg_*.py") if text(path).count("\n") > 20} == set()


# --- form ------------------------------------------------------------------------------------


def test_every_module_says_what_it_is_for():
    assert [show(path) for path in MODULES if text(path).strip() and not ast.get_docstring(parsed(path))] == []


def test_every_module_has_lazy_annotations():
    annotated = (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)
    with_types = [path for path in MODULES if any(isinstance(node, annotated) for node in parsed(path).body)]
    assert [show(p) for p in with_types if "from __future__ import annotations" not in text(p)] == []


def test_the_library_does_not_print():
    library = [path for path in MODULES if path.parent.name != "cli"]
    assert [f"{show(path)}:{line}" for path in library for line, name in calls(path) if name == "print"] == []


def test_nothing_is_left_to_be_done_later():
    words = "TO" + "DO|FIX" + "ME|XX" + "X"
    assert lines_with(rf"\b({words})\b", [*MODULES, *TESTS, *HOME.glob("docs/**/*.md")]) == []


def test_a_check_that_is_turned_off_says_which():
    bare = lines_with(r"#\s*(type: ignore(?!\[)|noqa(?!: [A-Z]+\d))", [*MODULES, *TESTS])
    blind = lines_with(r"# noqa: BLE001\s*$", MODULES)
    assert bare + blind == [], "name the rule; and where all exceptions are caught, say why after ` - `"


def test_unit_tests_do_not_sleep_and_patch_nothing():
    unit = [path for path in TESTS if "unit" in path.parts]
    sleeps = [f"{show(path)}:{line} {name}" for path in unit for line, name in calls(path) if name == "time.sleep"]
    patches = lines_with(r"^\s*(from|import) (unittest )?(unittest\.)?mock\b", TESTS)
    assert sleeps + patches == []


# --- what may not be in the repository -------------------------------------------------------


def test_no_private_key_is_kept():
    mark = re.compile("-----BEGIN [A-Z ]*PRIV" + "ATE KEY-----\n[A-Za-z0-9+/]")
    assert [show(path) for path in tracked() if path.suffix == ".key" or mark.search(text(path))] == []


def test_no_path_of_somebodys_machine_is_kept():
    places = "/wo" + "rk/|/ro" + "ot/|/ho" + "me/[a-z]+/"
    code = [p for p in tracked() if p.suffix in (".py", ".toml", ".md", ".ini", ".lock", "") and p.name != "LICENSE"]
    assert lines_with(rf"(?<![\w.~])({places})", code) == []


def test_the_lock_names_no_place_to_download_from():
    assert lines_with(r"https?://|--(extra-)?index-url|--find-links", [HOME / "requirements.lock"]) == []


# --- pages that may not fall behind ----------------------------------------------------------


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_reference_pages_say_what_the_code_says(name):
    there = HOME / "docs" / "reference" / name
    assert text(there) == reference.PAGES[name](), "run: venv/bin/python -m goggles.cli.reference"


def test_every_error_has_its_own_code_and_says_when_it_happens():
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.GogglesError)]
    assert sorted(errors.BY_CODE) == sorted(cls.code for cls in classes), "two errors share a code"
    assert [cls.__name__ for cls in classes if not cls.__doc__ or cls.exit_code == 0] == []


@functools.cache
def project() -> dict:
    return tomllib.loads(text(HOME / "pyproject.toml"))["project"]


def libraries() -> set[str]:
    wanted = [
        *project()["dependencies"],
        *(name for extra in project()["optional-dependencies"].values() for name in extra),
    ]
    return {re.split(r"[\[<>=~! ]", name)[0] for name in wanted}


def test_every_library_is_locked_and_its_reason_is_written_down():
    reasons = text(HOME / "docs/decisions/0001-libraries.md").lower()
    locks = "\n".join(text(HOME / name) for name in ("requirements.lock", "requirements-docs.lock"))
    locked = set(re.findall(r"^([a-z0-9-]+)==", locks, re.MULTILINE))
    assert {name for name in libraries() if not re.search(rf"^\|.*\b{name}\b.*\|", reasons, re.MULTILINE)} == set()
    assert {name for name in libraries() if name.lower().replace("_", "-") not in locked} == set()


def test_every_installed_program_exists():
    targets = [target.partition(":")[0] for target in project()["scripts"].values()]
    assert [name for name in targets if not (HOME / "src" / (name.replace(".", "/") + ".py")).exists()] == []


def test_make_help_lists_every_target():
    targets = re.findall(r"^([a-z_-]+):", text(HOME / "Makefile"), re.MULTILINE)
    listed = re.findall(r"^([a-z_-]+):.*  ## ", text(HOME / "Makefile"), re.MULTILINE)
    assert set(targets) == set(listed) >= TARGETS


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in (path for path in tracked() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(page)):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{show(page)}: {target}")
    assert broken == []
