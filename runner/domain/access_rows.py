"""The rows of access over HTTP: keys, what they did, and requests that may come twice."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from runner.domain.rows import BIG, JSON_VALUE, Row


class ApiKey(Row, table=True):
    """A key of the HTTP interface: its digest, never the key. `projects` None: all."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True)
    digest: str
    role: str
    projects: Any = Field(default=None, sa_column=Column(JSON_VALUE))
    note: str | None = None
    created_at: datetime
    created_by: str
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class IdempotencyKey(Row, table=True):
    """A request with an `Idempotency-Key`: the digest of its body, and the jobs that it made."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_created", "created_at"),)

    scope: str = Field(primary_key=True)  # whose key it is
    key: str = Field(primary_key=True)
    digest: str
    job_ids: Any = Field(default=None, sa_column=Column(JSON_VALUE))
    created_at: datetime


class AuditEntry(Row, table=True):
    """Who did what over HTTP, and to what."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_at", "at"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    at: datetime
    who: str
    address: str
    action: str
    target: str
    detail: str | None = Field(default=None, sa_column=Column(Text))
