"""Statements that go to PostgreSQL together, and come back together: one journey to the server and back.

By libpq's pipeline mode and statements that are prepared once for each connection. The driver has both, but takes
several times as long for it, and each job passes here twice. See libpq's chapters on pipeline mode and on asynchronous
commands.
"""

from __future__ import annotations

import re
import select
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import Connection

Step = tuple[str, Mapping[str, object]]
"""A statement with places like `%(name)s`, and what goes there: None, text, numbers, aware times."""
Rows = list[tuple[Any, ...]]
PREPARED = "runner.prepared"
NUMBERS = count()  # a name is given once
_Ready = tuple[bytes, bytes | None, list[bytes | None]]  # text, name, values
BEGIN: _Ready = (b"BEGIN ISOLATION LEVEL READ COMMITTED", None, [])
COMMIT: _Ready = (b"COMMIT", None, [])
PATIENCE = 5.0  # seconds for a statement to be broken off
LOOK = 100  # milliseconds between two looks whether there was a signal
BAD = {ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.PIPELINE_ABORTED}


def go(
    connection: Connection,
    steps: Sequence[Step],
    *,
    is_alone: bool = False,
    commits: bool = False,
    behind: str | None = None,
) -> list[Rows]:
    """The rows of each step. A transaction is begun where there is none, and ends here where it `commits`; a step that
    `is_alone` is one by itself. `behind` is sent after that, and may fail. Raises what the driver raises."""
    driver: psycopg.Connection[Any] = connection.connection.dbapi_connection  # type: ignore[assignment]
    encoding = driver.info.encoding
    sent = [_ready(connection, driver, *step, encoding) for step in steps]
    begins = not is_alone and driver.pgconn.transaction_status == TransactionStatus.IDLE
    if begins:
        sent.insert(0, BEGIN)
    if commits:
        sent.append(COMMIT)
    try:
        found = _sent(driver.pgconn, sent, behind, encoding)
    except psycopg.Error:
        driver.close()
        raise
    except BaseException:  # Ctrl-C: what goes on there shall not
        with suppress(psycopg.Error):
            driver.cancel_safe(timeout=PATIENCE)
        driver.close()
        raise
    try:
        _raise_first(found[: len(sent)], encoding)
    except psycopg.errors.InvalidSqlStatementName:  # somebody has made the session forget: DISCARD ALL
        connection.info.pop(PREPARED, None)
        raise
    return [_rows(result, driver) for result in found[begins : begins + len(steps)]]


def _sent(server: PGconn, sent: Sequence[_Ready], behind: str | None, encoding: str) -> list[PGresult]:
    """The results of all. Where it raises, the connection can no longer be used."""
    server.enter_pipeline_mode()
    for text, name, values in sent:
        if name is None:
            server.send_query_params(text, values)
        else:
            server.send_query_prepared(name, values)
    server.pipeline_sync()
    if behind is not None:
        server.send_query_params(behind.encode(), None)
        server.pipeline_sync()
    found = _exchange(server, 1 if behind is None else 2, encoding)
    server.exit_pipeline_mode()
    return found


def _ready(
    connection: Connection, driver: psycopg.Connection[Any], statement: str, values: Mapping[str, object], encoding: str
) -> _Ready:
    """As the server takes it. Without a name behind a pooler, see `postgres._mind_the_pooler`."""
    text, places = _numbered(statement)
    given = [None if (value := values[place]) is None else str(value).encode(encoding) for place in places]
    for value in given:
        if value is not None and b"\0" in value:  # libpq would end there
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    if driver.prepare_threshold is None:
        return text, None, given
    known: dict[str, bytes] = connection.info.setdefault(PREPARED, {})
    name = known.get(statement)
    if name is None:
        name = b"runner_%d" % next(NUMBERS)
        _raise_first([driver.pgconn.prepare(name, text)], encoding)
        known[statement] = name
    return text, name, given


@cache
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """
    >>> _numbered("SELECT %(a)s, %(b)s + %(a)s")
    (b'SELECT $1, $2 + $1', ('a', 'b'))
    """
    places = tuple(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    text = re.sub(r"%\((\w+)\)s", lambda found: f"${places.index(found[1]) + 1}", statement)
    return text.encode(), places


def _exchange(server: PGconn, syncs: int, encoding: str) -> list[PGresult]:
    """Send all, and take the results up to so many synchronisations, without these."""
    watched = select.poll()
    watched.register(server.socket, select.POLLIN | select.POLLOUT)
    while server.flush():
        if any(event & ~select.POLLOUT for _, event in watched.poll(LOOK)):
            server.consume_input()  # who does not read what comes may be kept from sending
    watched.modify(server.socket, select.POLLIN)
    found: list[PGresult] = []
    while syncs:
        while server.is_busy():
            if watched.poll(LOOK):
                server.consume_input()
        result = server.get_result()
        if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
            syncs -= 1
        elif result is not None:
            found.append(result)
        if server.status == ConnStatus.BAD:
            _raise_first(found, encoding)
            raise psycopg.OperationalError(server.get_error_message())
    return found


def _raise_first(results: Sequence[PGresult], encoding: str) -> None:
    for result in results:
        if result.status in BAD:
            error = error_from_result(result, encoding)
            raise error if error.sqlstate else psycopg.OperationalError(str(error))


def _rows(result: PGresult, driver: psycopg.Connection[Any]) -> Rows:
    if result.ntuples == 0:
        return []
    reader = Transformer(driver)
    reader.set_pgresult(result)
    return reader.load_rows(0, result.ntuples, tuple)


def array(values: Sequence[object]) -> str:
    """As PostgreSQL writes one. What the driver makes of a list takes several times as long."""
    kinds = set(map(type, values))
    if kinds == {str}:
        together = "\0".join(values)  # type: ignore[arg-type]
        if together.count("\0") == len(values) - 1:  # which is in no text that the server takes: see `_ready`
            escaped = together.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
            return f'{{"{escaped}"}}'
    elif kinds <= {int, float}:
        return f"{{{','.join(map(str, values))}}}"
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
