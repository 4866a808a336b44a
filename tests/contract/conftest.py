"""Databases of both kinds, new for each test.

PostgreSQL: the server that GOGGLES_TEST_POSTGRES names (a URL with a database to connect to), else a private cluster.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from goggles.meta.database import Database
from goggles.testing import postgres

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server: of one of its databases."""
    given = os.environ.get("GOGGLES_TEST_POSTGRES")
    if given:
        yield given
        return
    if why := postgres.why_not():
        pytest.skip(why)
    with postgres.running() as cluster:
        yield cluster.new_database()


class Maker:
    """Makes databases of one kind: empty ones, and prepared ones as quick copies of a model."""

    def __init__(self, folder: Path, server: str = "") -> None:
        self._folder = folder
        self._server = server
        self._count = 0
        self._made: list[str] = []
        self.model = self.empty()
        database = Database.open(self.model)
        database.prepare("test", 1_000.0)
        database.close()

    def empty(self) -> str:
        self._count += 1
        return self._create("") if self._server else str(self._folder / f"{self._count}.db")

    def prepared(self) -> str:
        if self._server:
            return self._create(f" TEMPLATE {make_url(self.model).database}")
        where = self.empty()
        shutil.copy(self.model, where)
        return where

    def _create(self, how: str) -> str:
        url = make_url(self._server)
        name = f"{url.database}_{os.getpid()}_{self._count}"
        self._count += 1
        with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}{how}")
        self._made.append(name)
        return url.set(database=name).render_as_string(False)

    def drop(self) -> None:
        if "GOGGLES_TEST_POSTGRES" in os.environ and self._server:  # a private cluster goes as a whole
            url = make_url(self._server).set(drivername="postgresql").render_as_string(False)
            with psycopg.connect(url, autocommit=True) as connection:
                for name in self._made:
                    connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session", params=KINDS)
def maker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """A maker of databases of each kind in turn."""
    server = request.getfixturevalue("server") if request.param == "postgresql" else ""
    made = Maker(tmp_path_factory.mktemp(request.param), server)
    yield made
    made.drop()


@pytest.fixture
def empty(maker: Maker) -> str:
    """Where a database is, or will be, that was never used."""
    return maker.empty()


@pytest.fixture
def where(maker: Maker) -> str:
    """Where a database is that has a tree with nothing in it."""
    return maker.prepared()


@pytest.fixture
def database(where: str) -> Iterator[Database]:
    """The same, open."""
    opened = Database.open(where, timeout=5)
    yield opened
    opened.close()
