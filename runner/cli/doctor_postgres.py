"""What `doctor` looks at on a PostgreSQL server, with the limits from which it warns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from runner.cli.doctor import Finding, Level
from runner.cli.output import counted, span
from runner.engine.janitor import SKEW

if TYPE_CHECKING:
    from runner.app import App
    from runner.config.load import Loaded
from runner.storage.health_postgres import ServerHealth

CROWDED, FULL = 0.8, 0.95  # of max_connections
OLD = timedelta(minutes=5)  # a transaction that is open for longer keeps every dead row of the queue
LONG_WAIT = timedelta(seconds=5)
FROZEN_LATE, FROZEN_DANGEROUS = 1_000_000_000, 1_800_000_000  # transactions; the server stops at 2,100 million
DEAD_SHARE, DEAD_ROWS = 0.5, 10_000
HEARD = 5.0  # seconds in which a notification must arrive


def server(app: App, loaded: Loaded) -> Iterator[Finding]:
    from runner.storage.health_postgres import server_health

    yield from judged(server_health(app.database))


def judged(found: ServerHealth) -> Iterator[Finding]:
    yield _connections(found)
    if not found.is_direct:
        message = "a pooler drops what we set for a session: no limit for locks, no prepared statements"
        yield Finding("server", "warning", message, "see `Poolers` in docs/postgresql.md, or name the server itself")
    if found.oldest_transaction > OLD:
        message = f"a transaction is open for {span(found.oldest_transaction)}: no dead row is cleaned up meanwhile"
        remedy = "find it in pg_stat_activity and end it with pg_terminate_backend, or in pg_prepared_xacts"
        yield Finding("server", "warning", message, remedy)
    if found.longest_wait > LONG_WAIT:
        message = f"{counted(found.lock_waits, 'connection')} waits for a lock, the longest {span(found.longest_wait)}"
        yield Finding("server", "warning", message, "find who holds it with pg_blocking_pids")
    if found.frozen_age > FROZEN_LATE:
        level: Level = "error" if found.frozen_age > FROZEN_DANGEROUS else "warning"
        message = f"the oldest row is {found.frozen_age / 1e6:,.0f} million transactions old; at 2,100 the server stops"
        yield Finding("server", level, message, "let VACUUM FREEZE run, and see why autovacuum does not")
    for table in found.bloat:
        if table.dead > DEAD_ROWS and table.dead > DEAD_SHARE * (table.live + table.dead):
            message = f"{table.table} has {table.dead:,} dead rows beside {table.live:,} live ones"
            yield Finding("server", "warning", message, f"VACUUM {table.table}; see that autovacuum runs")


def _connections(found: ServerHealth) -> Finding:
    share = found.connections / found.max_connections
    told = f"PostgreSQL {found.version}, {found.connections} of {found.max_connections} connections"
    if found.hidden:
        told += f"; of {found.hidden} this user cannot see what they do (GRANT pg_monitor)"
    level: Level = "error" if share >= FULL else "warning" if share >= CROWDED else "ok"
    return Finding("server", level, told, "raise max_connections, put a pooler before it, or run fewer processes")


def notifications(app: App, loaded: Loaded) -> Iterator[Finding]:
    """Whether what one process commits wakes another."""
    listening = app.database.bell.listener()
    if listening is None:
        return
    began = time.monotonic()
    while not app.database.bell.hears and time.monotonic() - began < HEARD:
        time.sleep(0.02)  # between two looks
    took, hears = time.monotonic() - began, app.database.bell.hears
    listening.close()
    if hears:
        yield Finding("notify", "ok", f"a notification arrives after {span(timedelta(seconds=took))}")
    else:
        message = "notifications do not arrive (a pooler that pools transactions?): workers look once a second"
        yield Finding("notify", "warning", message, "name the server itself in the URL, not its pooler")


def skew(app: App, loaded: Loaded) -> Iterator[Finding]:
    """This machine's clock beside the server's, by which all of them go."""
    offset = app.database.clock_offset()
    ahead = "behind" if offset > timedelta(0) else "ahead of"
    if abs(offset) > SKEW:
        message = f"this machine's clock is {span(abs(offset))} {ahead} the database's, by which all workers go"
        yield Finding("skew", "warning", message, "let NTP set the clock of both")
    else:
        yield Finding("skew", "ok", "this machine's clock and the database's agree")
