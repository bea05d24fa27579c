"""What a worker asks before and after a claim: who waits, and until when."""

from __future__ import annotations

from sqlalchemy import text
from sqlmodel.sql.sqltypes import UTCDateTime

from runner.domain.job_rows import Job

_ONLY_SCHEDULES = "AND i.schedule_name IN (SELECT value FROM json_each(:schedules))"

RUN_COLUMNS = tuple(
    Job.__table__.c[name]  # type: ignore[attr-defined]
    for name in (
        "id", "type", "queue", "payload", "priority", "attempt", "max_attempts", "run_number", "stalls", "claim_token",
        "worker_id", "policy", "run_at", "started_at", "created_at", "project_id", "schedule_name", "scheduled_for",
    )
)  # fmt: skip


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
