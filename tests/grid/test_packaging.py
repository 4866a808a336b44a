"""The wheel, installed where there is no checkout: programs, types, and the database's migrations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from goggles.testing.cluster import Cluster
from goggles.version import __version__

HOME = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]
LEFT_OUT = shutil.ignore_patterns(".git", "venv", "tmp", "site", "build", "*.egg-info", "__pycache__", "tests")


def pip(*words: str) -> None:
    quiet = ["--disable-pip-version-check", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", words[0], *quiet, *words[1:]], check=True, timeout=100)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package alone."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(HOME, folder / "source", ignore=LEFT_OUT)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source"))
    shutil.rmtree(folder / "source")
    (wheel,) = folder.glob("*.whl")
    pip("install", "--target", str(folder / "installed"), str(wheel))
    return folder / "installed"


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    ran = subprocess.run(words, cwd=installed, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.mark.parametrize("program", sorted(PROJECT["scripts"]))
def test_each_program_says_its_version(installed: Path, program: str) -> None:
    shown = run(installed, sys.executable, str(installed / "bin" / program), "--version").stdout
    assert shown == f"{program} {__version__}\n"


def test_it_is_the_installed_package_that_runs_and_it_has_types(installed: Path) -> None:
    where = run(installed, sys.executable, "-c", "import goggles; print(goggles.__file__)").stdout.strip()
    assert Path(where) == installed / "goggles" / "__init__.py"
    assert (installed / "goggles" / "py.typed").exists()


def test_a_site_runs_from_it(installed: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(installed)}
    with Cluster(tmp_path, ["alice", "bob"], environment=environment) as site, site.connect() as session:
        session.write("/here", b"without a checkout")
        assert b"".join(session.read("/here")) == b"without a checkout"
