"""The bare driver on our table: psycopg, prepared statements, each a transaction of its own in one round trip."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from program import main

PREPARE = 0  # a statement is prepared the first time
PAIR_SECONDS = 2.0
INSERT = """
INSERT INTO background_jobs (type, queue, status, priority, payload, policy, progress, attempt, max_attempts,
  run_number, stalls, run_at, created_at)
VALUES ('due', 'default', 'pending', 5, %s, '{}', 0, 0, 3, 0, 0, now(), now())
RETURNING id
"""
CLAIM = """
WITH next AS (
  SELECT id FROM background_jobs
  WHERE status = 'pending' AND waiting_for IS NULL AND queue = 'default' AND type = 'due' AND priority = 5
    AND run_at <= now() ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE background_jobs SET status = 'running', claim_token = 't', worker_id = 'bare', started_at = now(),
  run_number = run_number + 1, attempt = attempt + 1
FROM next WHERE background_jobs.id = next.id
RETURNING background_jobs.id, payload
"""
COMPLETE = """
UPDATE background_jobs SET status = 'completed', completed_at = now(), result = %s, progress = 100
WHERE id = %s AND claim_token = 't' AND status = 'running'
"""


class Client:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    async def one(self, n: int) -> None:
        self._connection.execute(INSERT, [f'{{"n":{n}}}']).fetchone()


class Bare:
    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        with _connected(url) as connection:
            yield Client(connection)

    async def pairs(self, url: str, count: str) -> float:
        """Jobs a second, each claimed and completed before the next; at most so many, and two seconds."""
        with _connected(url) as connection:
            began, done = time.perf_counter(), 0
            while done < int(count) and time.perf_counter() - began < PAIR_SECONDS:
                job_id, _payload = connection.execute(CLAIM).fetchone()
                connection.execute(COMPLETE, ["1", job_id])
                done += 1
            return done / (time.perf_counter() - began)


def _connected(url: str) -> psycopg.Connection:
    connection = psycopg.connect(url, autocommit=True)
    connection.prepare_threshold = PREPARE
    return connection


if __name__ == "__main__":
    main(Bare())
