"""How background tasks went the last time, over restarts of the nameserver.

Law: a restart forgets at most the runs of the last minute of a task that goes on as before; what changed is written at
once.  A task that is due every second does not cost a transaction every second.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from sqlalchemy import delete, insert, select

from goggles.errors import GogglesError
from goggles.meta.peering import task_runs
from goggles.nameserver.decisions import Transaction
from goggles.nameserver.site import Site

log = logging.getLogger(__name__)
REST = 60.0  # seconds between two notes of a task that goes as it did
MOST = 1_000  # runs that are remembered, the latest


@dataclass(slots=True)
class Run:
    """How a task went the last time; times are seconds since 1970, UTC, 0 for never.  `count` is not kept."""

    began: float = 0.0
    ended: float = 0.0
    result: str = ""  # done, failed, late
    message: str = ""
    count: int = 0


class Runs:
    """The table of last runs."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._written: dict[str, Run] = {}

    def load(self) -> dict[str, Run]:
        """The last run of each task that ever ran."""
        with self._site.database.read() as connection:
            query = select(task_runs).order_by(task_runs.c.ended_at.desc()).limit(MOST)
            rows = connection.execute(query).all()
        self._written = {row.name: Run(row.began_at, row.ended_at, row.result, row.message) for row in rows}
        return {name: replace(run) for name, run in self._written.items()}

    def note(self, name: str, run: Run) -> None:
        """A task has run; it is written down where that says something new."""
        last = self._written.get(name, Run())
        if (last.result, last.message) != (run.result, run.message) or run.ended - last.ended >= REST:
            self.write({name: run})

    def write(self, runs: dict[str, Run]) -> None:
        """Write these down now, but for those that stand there already."""
        fresh = {
            name[:128]: replace(run) for name, run in runs.items() if run.ended and _news(self._written.get(name), run)
        }

        def decide(tx: Transaction) -> None:
            for name, run in fresh.items():
                tx.tree.tx.execute(delete(task_runs).where(task_runs.c.name == name))
                row = {"name": name, "began_at": run.began, "ended_at": run.ended, "result": run.result}
                tx.tree.tx.execute(insert(task_runs).values({**row, "message": run.message}))
            tx.on_commit(lambda: self._written.update(fresh))

        try:
            if fresh:
                self._site.decisions.run(decide, changes=False)
        except GogglesError as error:
            log.warning("how tasks went could not be written down: %s", error)


def _news(last: Run | None, run: Run) -> bool:
    return last is None or last.ended != run.ended
