"""The socket of a worker, by which it is told of work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("wake_socket", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "wake_socket")
