"""Where alembic finds the connection: the one that the nameserver holds under its lease."""

from __future__ import annotations

from alembic import context

from goggles import failpoints
from goggles.meta import peering

connection = context.config.attributes["connection"]


def applied(*_: object, **__: object) -> None:
    failpoints.hit("nameserver.migrate.after_revision")


context.configure(
    connection=connection,
    target_metadata=peering.peers.metadata,
    render_as_batch=True,
    on_version_apply=applied,
)
context.run_migrations()
