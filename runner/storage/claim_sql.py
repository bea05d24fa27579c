"""The claim on SQLite: one index seek for each lane and priority, so that blocked rows cost nothing at any depth.

A lane is a (queue, type) that this worker may run now; lanes of unknown types and of other queues are not listed,
lanes of a full limit are not opened, and jobs for later lie behind the seek. Order: priority, `run_at`, id.
`INDEXED BY` keeps stale or missing statistics from choosing another index.
"""

from __future__ import annotations

from sqlalchemy import TextClause, bindparam, text
from sqlmodel.sql.sqltypes import UTCDateTime

from runner.domain.job_rows import Job

_CLAIM = """
WITH lanes(queue, type, lim) AS MATERIALIZED (
  SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:lanes)),
free(name, k) AS MATERIALIZED (
  SELECT m.name, m.max - (SELECT count(*) FROM background_jobs r WHERE r.status = 'running' AND r.limit_name = m.name)
  FROM limits m),
open(queue, type, lim, cap) AS MATERIALIZED (
  SELECT l.queue, l.type, l.lim, CASE WHEN l.lim IS NULL THEN :n ELSE coalesce(f.k, 0) END
  FROM lanes l LEFT JOIN free f ON f.name = l.lim WHERE l.lim IS NULL OR f.k > 0),
cand AS MATERIALIZED (
  SELECT j.id, j.priority, j.run_at, o.lim, o.cap
  FROM (SELECT column1 AS priority FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10))) p
  CROSS JOIN background_jobs j ON j.id IN (
    SELECT z.id FROM (
      SELECT k.id, k.run_at, o.lim, o.cap, row_number() OVER (PARTITION BY o.lim ORDER BY k.run_at, k.id) AS rn
      FROM open o CROSS JOIN background_jobs k ON k.id IN (
        SELECT i.id FROM background_jobs i INDEXED BY jobs_claim
        WHERE i.status = 'pending' AND i.waiting_for IS NULL AND i.queue = o.queue AND i.type = o.type
          AND i.priority = p.priority AND i.run_at <= :now {only}
        ORDER BY i.run_at, i.id LIMIT :n)) z
    WHERE z.lim IS NULL OR z.rn <= z.cap ORDER BY z.run_at, z.id LIMIT :n)
  CROSS JOIN open o ON o.queue = j.queue AND o.type = j.type
  -- An IN list yields id order: take both sides of a priority's edge. A limit's jobs may be candidates at each
  -- priority and are taken once: they must not use up the places of others.
  LIMIT 2 * :n + 9 * (SELECT coalesce(sum(min(f.k, :n)), 0) FROM free f WHERE f.name IN (SELECT lim FROM open))),
picked AS MATERIALIZED (
  SELECT id FROM (
    SELECT id, priority, run_at, lim, cap,
           row_number() OVER (PARTITION BY lim ORDER BY priority, run_at, id) AS rn FROM cand)
  WHERE lim IS NULL OR rn <= cap ORDER BY priority, run_at, id LIMIT :n)
UPDATE background_jobs SET
  status = 'running', claim_token = :token, worker_id = :worker, started_at = :now,
  run_number = run_number + 1, attempt = attempt + 1, progress = 0, current_step = NULL, message = NULL,
  limit_name = (SELECT o.lim FROM lanes o WHERE o.queue = background_jobs.queue AND o.type = background_jobs.type),
  unique_key = CASE WHEN unique_until = 'started' THEN NULL ELSE unique_key END
WHERE id IN (SELECT id FROM picked)
RETURNING id, type, queue, payload, priority, attempt, max_attempts, run_number, stalls, claim_token, worker_id,
  policy, run_at, started_at, created_at, project_id, schedule_name, scheduled_for
"""
_ONLY_SCHEDULES = "AND i.schedule_name IN (SELECT value FROM json_each(:schedules))"

RUN_COLUMNS = tuple(
    Job.__table__.c[name]  # type: ignore[attr-defined]
    for name in (
        "id", "type", "queue", "payload", "priority", "attempt", "max_attempts", "run_number", "stalls", "claim_token",
        "worker_id", "policy", "run_at", "started_at", "created_at", "project_id", "schedule_name", "scheduled_for",
    )
)  # fmt: skip


def _statement(only: str) -> TextClause:
    times = bindparam("now", type_=UTCDateTime())
    return text(_CLAIM.format(only=only)).bindparams(times)


CLAIM = _statement("").columns(*RUN_COLUMNS)
CLAIM_OF_SCHEDULES = _statement(_ONLY_SCHEDULES).columns(*RUN_COLUMNS)

# A loose scan over the claim's index: one seek for each queue and each type, however many rows they have.
_LANES = """
WITH RECURSIVE
queues(queue) AS (
  SELECT min(queue) FROM background_jobs INDEXED BY jobs_claim WHERE status = 'pending' AND waiting_for IS NULL
  UNION ALL
  SELECT (SELECT min(j.queue) FROM background_jobs j INDEXED BY jobs_claim
          WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue > queues.queue)
  FROM queues WHERE queues.queue IS NOT NULL),
pairs(queue, type) AS (
  SELECT q.queue, (SELECT min(j.type) FROM background_jobs j INDEXED BY jobs_claim
                   WHERE j.status = 'pending' AND j.waiting_for IS NULL AND j.queue = q.queue)
  FROM queues q WHERE q.queue IS NOT NULL
  UNION ALL
  SELECT pairs.queue, (SELECT min(j.type) FROM background_jobs j INDEXED BY jobs_claim
                       WHERE j.status = 'pending' AND j.waiting_for IS NULL
                         AND j.queue = pairs.queue AND j.type > pairs.type)
  FROM pairs WHERE pairs.type IS NOT NULL)
SELECT queue, type FROM pairs WHERE type IS NOT NULL
"""
LANES = text(_LANES)

_NEXT_DUE = """
WITH lanes(queue, type) AS MATERIALIZED (SELECT value ->> 0, value ->> 1 FROM json_each(:lanes))
SELECT min(due) AS due FROM (
  SELECT (SELECT i.run_at FROM background_jobs i INDEXED BY jobs_claim
          WHERE i.status = 'pending' AND i.waiting_for IS NULL AND i.queue = l.queue AND i.type = l.type
            AND i.priority = p.priority {only} ORDER BY i.run_at LIMIT 1) AS due
  FROM lanes l CROSS JOIN (SELECT column1 AS priority FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10))) p)
"""
NEXT_DUE = text(_NEXT_DUE.format(only="")).columns(due=UTCDateTime())
NEXT_DUE_OF_SCHEDULES = text(_NEXT_DUE.format(only=_ONLY_SCHEDULES)).columns(due=UTCDateTime())
