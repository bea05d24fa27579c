"""The base of all rows: a registry of our own, so that a program's `SQLModel.metadata` never holds our tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from sqlalchemy import JSON, BigInteger, Index, Integer, MetaData, RowMapping, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import class_mapper, registry
from sqlmodel import SQLModel

BIG = BigInteger().with_variant(Integer, "sqlite")


class JsonText(JSON):
    """JSON kept letter by letter. A column declared JSON makes numbers of numerals on SQLite, and rounds them."""


@compiles(JsonText, "sqlite")
def _declared(type_: JsonText, compiler: Any, **options: Any) -> str:
    return "TEXT"


JSON_VALUE = JsonText(none_as_null=True)
NAMING = {"ck": "ck_%(table_name)s_%(constraint_name)s", "pk": "pk_%(table_name)s"}

# Of a table that grows large on PostgreSQL: dead rows are cleaned up at a fiftieth of it, not at a fifth.
SOON = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.02"}


class Row(SQLModel, registry=registry(metadata=MetaData(naming_convention=NAMING))):
    """A table of ours. Aware datetimes in and out, stored in UTC."""

    @classmethod
    def loaded(cls, columns: RowMapping | Mapping[str, Any]) -> Self:
        """As the database gives it, without the checks of a new one: those cost thirty times as much."""
        made: Self = class_mapper(cls).class_manager.new_instance()
        made.__dict__.update(columns)
        return made


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the rows that `where` (literal SQL) names, the same on both databases."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))
