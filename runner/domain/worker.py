"""The row of a worker: who runs jobs, and when it was last heard of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text
from sqlmodel import Field

from runner.domain.rows import JSON_VALUE, Row


class WorkerStatus(Row, table=True):
    """One process that runs jobs. Its id is random: a new process is never taken for an old one."""

    __tablename__ = "workers"

    id: str = Field(primary_key=True)
    host: str
    pid: int
    version: str
    started_at: datetime
    last_heartbeat: datetime
    beats: int = 0
    stalled_after: float = 60.0
    concurrency: int = 2
    queues: Any = Field(default=None, sa_column=Column(JSON_VALUE))
    lock_file: str | None = None
    config_sha256: str | None = None
    wake_socket: str | None = None  # its bare name: it lies beside the database
    config_revision: int | None = None  # the newest revision that its file is the same as
    config_problem: str | None = Field(default=None, sa_column=Column(Text))  # why its file as it is now is refused
    config_problem_at: datetime | None = None
