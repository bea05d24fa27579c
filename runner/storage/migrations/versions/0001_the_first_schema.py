"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def where(condition: str) -> dict[str, Any]:
    """A partial index, the same on both databases."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "background_jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("payload", sa.JSON().with_variant(sa.Text(), "sqlite"), nullable=False),
        sa.Column("result", sa.JSON().with_variant(sa.Text(), "sqlite"), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("current_step", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("project_id", sa.String(), nullable=True),
        sa.Column("schedule_name", sa.String(), nullable=True),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=False),
        sa.Column("stalls", sa.Integer(), nullable=False),
        sa.Column("claim_token", sa.String(), nullable=True),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("limit_name", sa.String(), nullable=True),
        sa.Column("waiting_for", sa.String(), nullable=True),
        sa.Column("unique_key", sa.String(), nullable=True),
        sa.Column("unique_until", sa.String(), nullable=True),
        sa.Column("unique_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_reason", sa.String(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("parent_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(completed_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))",
            name=op.f("ck_background_jobs_finish"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_background_jobs_status"),
        ),
        sa.CheckConstraint("priority BETWEEN 1 AND 10", name=op.f("ck_background_jobs_priority")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_background_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "jobs_claim",
        "background_jobs",
        ["queue", "type", "priority", "run_at", "id"],
        **where("status = 'pending' AND waiting_for IS NULL"),
    )
    op.create_index("jobs_finished", "background_jobs", ["completed_at", "id"], **where("completed_at IS NOT NULL"))
    op.create_index(
        "jobs_limit", "background_jobs", ["limit_name"], **where("status = 'running' AND limit_name IS NOT NULL")
    )
    op.create_index("jobs_project", "background_jobs", ["project_id", "id"], **where("project_id IS NOT NULL"))
    op.create_index("jobs_schedule", "background_jobs", ["schedule_name", "id"], **where("schedule_name IS NOT NULL"))
    op.create_index(
        "jobs_schedule_open",
        "background_jobs",
        ["schedule_name", "id"],
        **where("schedule_name IS NOT NULL AND completed_at IS NULL"),
    )
    op.create_index("jobs_status", "background_jobs", ["status", "id"], **where("status <> 'pending'"))
    op.create_index("jobs_unique", "background_jobs", ["unique_key"], unique=True, **where("unique_key IS NOT NULL"))
    op.create_index("jobs_waiting", "background_jobs", ["schedule_name", "id"], **where("waiting_for IS NOT NULL"))
    op.create_index("jobs_worker", "background_jobs", ["worker_id"], **where("status = 'running'"))
    op.create_table(
        "config_revisions",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_config_revisions")),
    )
    op.create_index("revisions_sha256", "config_revisions", ["sha256"])
    op.create_table(
        "cron_schedules",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("job_type", sa.String(), nullable=True),
        sa.Column("workflow", sa.String(), nullable=True),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("spec", sa.JSON().with_variant(sa.Text(), "sqlite"), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.String(), nullable=True),
        sa.Column("pause_reason", sa.String(), nullable=True),
        sa.Column("last_run", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_run", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cron_schedules")),
    )
    op.create_index(
        "schedules_due", "cron_schedules", ["next_run"], **where("next_run IS NOT NULL AND retired_at IS NULL")
    )
    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("claim_token", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "run_number", name=op.f("pk_job_attempts")),
    )
    op.create_table(
        "job_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_logs")),
        sqlite_autoincrement=True,
    )
    op.create_index("job_logs_job", "job_logs", ["job_id", "id"])
    op.create_table(
        "job_outputs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_outputs")),
        sqlite_autoincrement=True,
    )
    op.create_index("job_outputs_job", "job_outputs", ["job_id", "name", "id"])
    op.create_table(
        "limits",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("max", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_limits")),
    )
    op.create_table(
        "schedule_slots",
        sa.Column("schedule_name", sa.String(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("blocker_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("first_slot", sa.DateTime(timezone=True), nullable=True),
        sa.Column("slot_count", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("schedule_name", "slot", name=op.f("pk_schedule_slots")),
    )
    op.create_index("slots_decided", "schedule_slots", ["decided_at"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_heartbeat", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("stalled_after", sa.Float(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("queues", sa.JSON().with_variant(sa.Text(), "sqlite"), nullable=True),
        sa.Column("lock_file", sa.String(), nullable=True),
        sa.Column("config_sha256", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_table("schedule_slots")
    op.drop_table("limits")
    op.drop_table("job_outputs")
    op.drop_table("job_logs")
    op.drop_table("job_attempts")
    op.drop_table("cron_schedules")
    op.drop_table("config_revisions")
    op.drop_table("background_jobs")
