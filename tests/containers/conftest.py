"""The compose files of this checkout, run for real; skipped with one line where no engine can be had."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import engine as engines
import pytest
from composition import SOMEBODY, Composition


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One line for all of them where no engine can be had."""
    ours = [item for item in items if item.get_closest_marker("containers")]
    if ours and (reason := engines.why_not()):
        ours[0].add_marker(pytest.mark.skip(reason=f"all {len(ours)} tests of the containers: {reason}"))
        config.hook.pytest_deselected(items=ours[1:])
        items[:] = [item for item in items if item not in ours[1:]]


@pytest.fixture(scope="session")
def engine() -> Iterator[dict[str, str]]:
    """The environment in which docker and docker-compose reach an engine."""
    try:
        yield engines.up()
    finally:
        engines.down()


@pytest.fixture(scope="session")
def compose(engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Composition]]:
    """Makes compositions from files of the checkout; they are gone at the end."""
    made: list[Composition] = []

    def make(file: str) -> Composition:
        local = tmp_path_factory.mktemp("local")
        os.chmod(local, 0o755)
        if os.geteuid() == 0:
            os.chown(local, SOMEBODY, SOMEBODY)
        made.append(Composition(file, f"goggles{os.getpid()}{len(made)}", engine, local))
        return made[-1]

    try:
        yield make
    finally:
        for composition in made:
            composition("down", "-v", "-t", "5", check=False)
