"""The tables `api_keys` and `audit_log`: who may come in, and what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from runner.domain.access import NewKey, Role
from runner.domain.access_rows import ApiKey, AuditEntry
from runner.domain.errors import Conflict, NotFound
from runner.storage.database import Database, persistent

KEYS = ApiKey.__table__  # type: ignore[attr-defined]
AUDIT = AuditEntry.__table__  # type: ignore[attr-defined]


class AccessStore:
    """Keys are kept as digests. What was revoked stays, so that the audit log names something."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @persistent
    def add(
        self, key: NewKey, role: Role, projects: Sequence[str] | None, now: datetime, *, by: str,
        note: str | None = None,
    ) -> ApiKey:  # fmt: skip
        values: dict[str, Any] = {
            "id": key.key_id, "digest": key.digest, "role": role.value, "created_at": now, "created_by": by,
            "projects": None if projects is None else list(projects), "note": note,
        }  # fmt: skip
        with self._database.write() as connection:
            connection.execute(insert(KEYS), values)
        return ApiKey(**values)

    def keys(self, *, revoked: bool = False) -> list[ApiKey]:
        """The oldest first."""
        statement = select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)
        if not revoked:
            statement = statement.where(KEYS.c.revoked_at.is_(None))
        with self._database.read() as connection:
            return [ApiKey.loaded(row) for row in connection.execute(statement).mappings()]

    @persistent
    def revoke(self, key_id: str, now: datetime) -> None:
        with self._database.write() as connection:
            valid = (KEYS.c.id == key_id, KEYS.c.revoked_at.is_(None))
            if connection.execute(update(KEYS).where(*valid).values(revoked_at=now)).rowcount:
                return
            if connection.execute(select(KEYS.c.id).where(KEYS.c.id == key_id)).first() is None:
                raise NotFound(f"there is no key {key_id}", "runner keys list")
        raise Conflict(f"key {key_id} is revoked already", "runner keys list --revoked")

    @persistent
    def used(self, uses: Mapping[str, datetime]) -> None:
        """May be lost by a power cut."""
        with self._database.write(durable=False) as connection:
            connection.execute(_USED, [{"b_id": key_id, "b_now": at} for key_id, at in sorted(uses.items())])

    @persistent
    def audit(self, entries: Sequence[AuditEntry]) -> None:
        """Of what changes nothing in the database; what does is audited with it, by `note`."""
        with self._database.write() as connection:
            note_all(connection, entries)

    def audited(self, *, limit: int = 100, before: int | None = None) -> list[AuditEntry]:
        """The newest first; `before` is the id that the page before ended with."""
        statement = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(AUDIT.c.id < before)
        with self._database.read() as connection:
            return [AuditEntry.loaded(row) for row in connection.execute(statement).mappings()]


def note(connection: Connection, entry: AuditEntry | None, detail: str | None = None) -> None:
    """In the transaction of what was done: both are there, or neither. `detail` is what is known only now."""
    if entry is not None:
        more = {} if detail is None else {"detail": detail}
        connection.execute(insert(AUDIT), entry.model_dump(exclude={"id"}) | more)


def note_all(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """The same of many."""
    if entries:
        connection.execute(insert(AUDIT), [entry.model_dump(exclude={"id"}) for entry in entries])


_USED = update(KEYS).where(KEYS.c.id == bindparam("b_id")).values(last_used_at=bindparam("b_now"))
