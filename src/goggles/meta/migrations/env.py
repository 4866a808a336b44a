"""Where alembic finds the connection: the one that the nameserver holds under its lease."""

from __future__ import annotations

from alembic import context

from goggles.meta import peering

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=peering.peers.metadata, render_as_batch=True)
context.run_migrations()
