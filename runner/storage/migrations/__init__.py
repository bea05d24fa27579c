"""The schema's history: which revision a database has, and the way up and down. Found in the wheel by its package."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Index
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from runner.domain import access_rows, job_rows, ledger, revision, worker
from runner.domain.errors import DatabaseUnavailable, UsageError
from runner.domain.rows import Row

# Imported here, so that METADATA holds every table.
TABLES = (
    job_rows.Job,
    ledger.ScheduleStatus,
    worker.WorkerStatus,
    revision.ConfigRevision,
    access_rows.ApiKey,
)
METADATA = Row.metadata


def head() -> str:
    """The revision this release knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def upgrade(connection: Connection, target: str = "head") -> None:
    """Bring the schema up, in the caller's transaction. A newer schema than ours is refused."""
    refuse_newer(connection)
    command.upgrade(_config(connection), target)


def downgrade(connection: Connection, target: str) -> None:
    refuse_newer(connection)
    try:
        command.downgrade(_config(connection), target or "nowhere")
    except CommandError:
        raise UsageError(f"there is no schema {target!r} to go back to", "-1, `base`, or the number of one") from None


def at(connection: Connection) -> str | None:
    """The revision of the database, or None where it holds none of our tables."""
    return MigrationContext.configure(connection).get_current_revision()


def refuse_newer(connection: Connection) -> None:
    found = at(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise newer(found)


def newer(found: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"the database has schema {found}, which is newer than this release knows",
        "install the release that wrote it: pip install --upgrade yaml-job-runner",
    )


def drift(connection: Connection) -> list[str]:
    """What differs between the tables as they are and as the models say; empty when they agree."""
    context = MigrationContext.configure(connection, opts={"render_as_batch": True, "compare_type": False})
    return [str(difference) for difference in compare_metadata(context, METADATA)]


DIALECTS = {"sqlite": sqlite.dialect, "postgresql": postgresql.dialect}


def sql(name: str) -> str:
    """The statements of a fresh set-up of such a database, as text."""
    dialect = DIALECTS[name]()
    made: list[str] = []
    for table in METADATA.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        made += [str(CreateIndex(index).compile(dialect=dialect)).strip() for index in sorted(table.indexes, key=_name)]
    return ";\n\n".join(made) + ";"


def _name(index: Index) -> str:
    return str(index.name)


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
