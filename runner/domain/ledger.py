"""What happened to schedules: one row for each schedule, one for each slot."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from runner.domain.rows import BIG, JSON_VALUE, SOON, Row, partial_index


class SlotOutcome(StrEnum):
    """What became of one nominal fire time."""

    ENQUEUED = "enqueued"
    SKIPPED_OVERLAP = "skipped_overlap"
    SKIPPED_MISSED = "skipped_missed"
    SKIPPED_PAUSED = "skipped_paused"


class ScheduleStatus(Row, table=True):
    """A row of `cron_schedules`. The file owns the definition, the database owns pause, cursor and times.

    `cursor` is the last slot that was decided, or the moment of applying; `next_run` is computed from it.
    `spec` is the schedule as JSON, as it was applied.
    """

    __tablename__ = "cron_schedules"
    __table_args__ = (partial_index("schedules_due", "next_run", where="next_run IS NOT NULL AND retired_at IS NULL"),)

    name: str = Field(primary_key=True)
    job_type: str | None = None
    workflow: str | None = None
    expression: str = Field(default="", sa_column=Column(Text, nullable=False))
    timezone: str = "UTC"
    enabled: bool = True
    spec: Any = Field(default_factory=dict, sa_column=Column(JSON_VALUE, nullable=False))
    paused_at: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    last_run: datetime | None = None
    next_run: datetime | None = None
    cursor: datetime
    retired_at: datetime | None = None
    revision: int | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def state(self) -> str:
        """In a word."""
        if self.retired_at is not None:
            return "retired"
        if self.paused_at is not None:
            return "paused"
        return "active" if self.enabled else "disabled"

    @property
    def data(self) -> dict[str, Any]:
        """As `runner schedules list -o json` gives it, and the API."""
        return self.model_dump(exclude={"spec"}) | {"state": self.state}


class ScheduleSlot(Row, table=True):
    """One line of the ledger. A long run of skipped slots is one line: `slot` the last, `first_slot` the first."""

    __tablename__ = "schedule_slots"
    __table_args__ = (Index("slots_decided", "decided_at"), {"postgresql_with": SOON})

    schedule_name: str = Field(primary_key=True)
    slot: datetime = Field(primary_key=True)
    outcome: str
    reason: str | None = None
    job_id: int | None = Field(default=None, sa_column=Column(BIG))
    blocker_id: int | None = Field(default=None, sa_column=Column(BIG))
    first_slot: datetime | None = None
    slot_count: int = 1
    decided_at: datetime
