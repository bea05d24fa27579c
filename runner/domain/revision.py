"""A file that was applied: numbered, kept, and the source of every policy that a job takes along."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from runner.domain.rows import Row
from runner.domain.schedule import Definitions


class ConfigRevision(Row, table=True):
    """`source` is the file as it was read, `body` its definitions as canonical JSON, references unresolved."""

    __tablename__ = "config_revisions"
    __table_args__ = (Index("revisions_sha256", "sha256"),)

    number: int = Field(primary_key=True)
    sha256: str
    source: str = Field(sa_column=Column(Text, nullable=False))
    body: str = Field(sa_column=Column(Text, nullable=False))
    applied_at: datetime
    applied_by: str


class Limit(Row, table=True):
    """A named limit: how many of its jobs may run at once over all machines."""

    __tablename__ = "limits"

    name: str = Field(primary_key=True)
    max: int


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as it is used."""

    number: int
    sha256: str
    source: str
    applied_at: datetime
    applied_by: str
    definitions: Definitions
