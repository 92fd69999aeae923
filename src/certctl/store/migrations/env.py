"""Alembic's entry: runs inside the connection that store.migrate opened, or prints SQL for PostgreSQL without one."""

from __future__ import annotations

from alembic import context

from certctl.store.schema import metadata

connection = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        transaction_per_migration=False,
    )
elif connection is None:
    raise RuntimeError("migrations run through certctl.store.migrate, which brings the connection")
else:
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
    )
with context.begin_transaction():
    context.run_migrations()
