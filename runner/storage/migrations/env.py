"""Alembic's entry: it is always given a connection, and never reads a file of settings."""

from __future__ import annotations

from alembic import context

from runner.storage.migrations import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=METADATA, render_as_batch=True, transactional_ddl=False, compare_type=False
)
context.run_migrations()
