"""Alembic's entry: runs inside the connection that store.migrate opened."""

from __future__ import annotations

from alembic import context

from certctl.store.schema import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("migrations run through certctl.store.migrate, which brings the connection")
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
)
with context.begin_transaction():
    context.run_migrations()
