"""Of the ended jobs, those that failed or were cancelled are looked for: the others need no entry at each change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ENDED_BADLY = sa.text("status IN ('failed', 'cancelled')")
NOT_PENDING = sa.text("status <> 'pending'")


def upgrade() -> None:
    op.drop_index("jobs_status", "background_jobs")
    _create("jobs_failed", ENDED_BADLY)


def downgrade() -> None:
    op.drop_index("jobs_failed", "background_jobs")
    _create("jobs_status", NOT_PENDING)


def _create(name: str, condition: sa.TextClause) -> None:
    columns = ["status", "id"]
    op.create_index(name, "background_jobs", columns, sqlite_where=condition, postgresql_where=condition)
