"""What a worker says of its file: why the file as it is now is not in force, and which revision it has taken over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("config_revision", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("config_problem", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("config_problem_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in ("config_problem_at", "config_problem", "config_revision"):
        op.drop_column("workers", name)
