"""PostgreSQL: room on the pages for what a job says while it runs, and a vacuum well before a fifth of a table is dead.

Nothing on SQLite. The tables can be read and written meanwhile; pages that are full stay so until their rows go.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SOON = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.02"}
SETTINGS = {
    "background_jobs": {"fillfactor": "70", **SOON},
    "job_attempts": SOON,
    "job_logs": SOON,
    "job_outputs": SOON,
    "schedule_slots": SOON,
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, settings in SETTINGS.items():
            op.execute(
                f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in settings.items())})"
            )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, settings in SETTINGS.items():
            op.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")
