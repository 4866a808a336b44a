"""Write delivery/requirements.lock: those lines of requirements.lock that the programs need to run.

    venv/bin/python delivery/lock.py

What a library needs is asked of what is installed; setuptools is with them, because it builds the package.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).resolve().parents[1]
TARGET = HOME / "delivery" / "requirements.lock"
EXTRAS = ("postgresql", "globus")
HEAD = (
    "# The lines of ../requirements.lock that the programs need to run.  Made with: venv/bin/python delivery/lock.py\n"
)


def wanted() -> set[str]:
    """The libraries that are needed, by their canonical names."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    found = {"setuptools"}
    waiting = [Requirement(text) for text in texts]
    done: set[str] = set()
    while waiting:
        one = waiting.pop()
        found.add(canonicalize_name(one.name))
        if str(one) not in done:
            done.add(str(one))
            waiting += _needs(one)
    return found


def _needs(one: Requirement) -> list[Requirement]:
    try:
        texts = metadata.requires(one.name) or []
    except metadata.PackageNotFoundError:  # for other systems: the lock says so too
        return []
    needs = [Requirement(text) for text in texts]
    return [each for each in needs if each.marker is None or any(_holds(each, extra) for extra in ("", *one.extras))]


def _holds(one: Requirement, extra: str) -> bool:
    """Whether it is needed with this extra, on any system and any Python."""
    marker = str(one.marker)
    return f'extra == "{extra}"' in marker if "extra" in marker else extra == ""


def text() -> str:
    names = wanted()
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (HOME / "requirements.lock").read_text().rstrip("\n"))[1:]
    kept = [block for block in blocks if canonicalize_name(re.split(r"[=\[ ]", block)[0]) in names]
    return HEAD + "\n".join(kept) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
