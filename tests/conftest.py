"""For all tests: reports that can be sent from a worker to the terminal, and PostgreSQL for whole sites.

`pytest --postgresql tests/network` runs the tests between sites with PostgreSQL at each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import nullcontext

import pytest

from goggles.testing.network import Network
from goggles.testing.postgres import Postgres, running, why_not


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgresql", action="store_true", help="sites that are linked have PostgreSQL, not SQLite")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("--postgresql") and item.get_closest_marker("sqlite"):
        pytest.skip("this is about a database that is a file")


@pytest.fixture(scope="session", autouse=True)
def _databases(request: pytest.FixtureRequest) -> Iterator[None]:
    wanted = request.config.getoption("--postgresql")
    with running() if wanted else nullcontext() as server, pytest.MonkeyPatch.context() as patch:
        if server is not None:
            patch.setattr(Network, "new_database", staticmethod(server.new_database))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests; each takes databases of its own from it, and leaves it as it is."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if why_not():
        pytest.skip(why_not())
    with running() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lone surrogates are written out: pytest-xdist sends UTF-8, and file names are not always that."""
    report = yield
    report.sections = [(title, plain(text)) for title, text in report.sections]
    if isinstance(report.longrepr, str):
        report.longrepr = plain(report.longrepr)
    return report


def plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
