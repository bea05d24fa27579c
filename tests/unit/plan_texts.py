"""One file as a user has it, and the edits that the tests of plans make to it."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime

from runner.config.load import load_text
from runner.config.payload import check
from runner.domain.job import InFlight
from runner.domain.plan import Plan, Stored, plan
from runner.domain.schedule import Definitions, JobType

NOW = datetime(2026, 3, 27, 9, tzinfo=UTC)  # two days before the clocks of Berlin go forward
ENVIRON = {"HOOK": "https://example.org", "FEED": "a feed"}

FILE = """
version: 1
timezone: UTC
runner: {concurrency: 4}
defaults:
  timeout: 10m
  retry: {max_attempts: 3, delay: 2s}
limits: {youtube: 1}
job_types:
  sync: {handler: handlers.rag.sync, priority: high, timeout: 30m, limit: youtube}
  news:
    handler: handlers.news.fetch
    payload_schema:
      properties:
        feeds: {type: array, items: {type: string}}
        days: {type: integer}
  clean: {handler: handlers.maintenance.clean, priority: low, retry: false}
schedules:
  channel-sync: {job: sync, cron: "0 6 * * mon", timezone: Europe/Berlin}
  news-fetch: {job: news, cron: "0 */4 * * *", payload: {days: 3}}
  nightly: {job: clean, cron: "30 2 * * *", timezone: Europe/Berlin}
  pulse: {job: news, every: 15m}
workflows:
  digest:
    steps:
      channels: {job: sync}
      tidy: {job: clean, needs: channels}
notify:
  ops: {webhook: "${HOOK}", events: [failed]}
"""

# name -> what is taken out of the file, and what stands there instead
WEEKLY = '  weekly: {job: clean, cron: "0 18 * * fri", jitter: 5m, overlap: queue}'
NIGHTLY = 'nightly: {job: clean, cron: "30 2 * * *"'
SCHEMA = """\
    payload_schema:
      properties:
        feeds: {type: array, items: {type: string}}
        days: {type: integer}
"""
EDITS: dict[str, tuple[str, str]] = {
    "none": ("", ""),
    "comment-and-order": ("  pulse: {job: news, every: 15m}", "  pulse: {every: 15m, job: news}  # often"),
    "schedule-added": ("  pulse:", f"{WEEKLY}\n  pulse:"),
    "schedule-removed": ("  pulse: {job: news, every: 15m}\n", ""),
    "schedule-renamed": ("  channel-sync: {job: sync", "  daily-sync: {renamed_from: channel-sync, job: sync"),
    "schedule-renamed-and-changed": (
        '  channel-sync: {job: sync, cron: "0 6',
        '  daily-sync: {renamed_from: channel-sync, job: sync, overlap: replace, cron: "0 7',
    ),
    "schedule-renamed-without-saying": ("  channel-sync:", "  channels-sync:"),
    "cron": ('"0 */4 * * *"', '"0 */6 * * *"'),
    "cron-spelling": ("0 6 * * mon", "0 6 * * 1"),
    "cron-list": ('"0 */4 * * *"', '["0 8 * * *", "30 12 * * *"]'),
    "cron-to-every": ('cron: "0 */4 * * *"', "every: 4h"),
    "every": ("every: 15m", "every: 1h30m"),
    "zone": ('"0 */4 * * *"', '"0 */4 * * *", timezone: Asia/Tokyo'),
    "zone-over-a-clock-change": (f"{NIGHTLY}, timezone: Europe/Berlin", f"{NIGHTLY}, timezone: America/New_York"),
    "zone-into-a-clock-change": ('"0 */4 * * *"', '"30 2 * * *", timezone: Europe/Berlin'),
    "clock-change": ("30 2 * * *\"", "30 2 * * *\", clock_change: skip"),
    "jitter": ("every: 15m", "every: 15m, jitter: 2m"),
    "overlap": ("every: 15m", "every: 15m, overlap: allow"),
    "payload": ("{days: 3}", '{days: 4, feeds: ["${FEED}"]}'),
    "payload-emptied": (", payload: {days: 3}", ""),
    "schedule-priority": ("every: 15m", "every: 15m, priority: high"),
    "schedule-timeout": ("every: 15m", "every: 15m, timeout: 90s"),
    "schedule-retry": ("every: 15m", "every: 15m, retry: {max_attempts: 5, delay: [1s, 5s]}"),
    "disabled": ("every: 15m", "every: 15m, enabled: false"),
    "catch-up": ("every: 15m", "every: 15m, catch_up: all, catch_up_window: 24h"),
    "from-and-until": ("every: 15m", "every: 15m, from: 2026-04-01T08:00, until: 2026-12-31"),
    "another-job": ("pulse: {job: news", "pulse: {job: clean"),
    "to-a-workflow": ("pulse: {job: news", "pulse: {workflow: digest"),
    "description-and-labels": ("every: 15m", 'every: 15m, description: "a pulse", labels: {team: core}'),
    "job-type-added": ("  clean:", "  report: {handler: handlers.report.write, timeout: 1h}\n  clean:"),
    "job-type-handler": ("handlers.rag.sync", "handlers.rag.sync_channel"),
    "job-type-timeout": ("timeout: 30m", "timeout: 45m"),
    "job-type-retry": ("timeout: 30m", "timeout: 30m, retry: {max_attempts: 5, backoff: linear}"),
    "job-type-retry-allowed": (", retry: false", ""),
    "job-type-limit": ("  clean: {", "  clean: {limit: youtube, "),
    "job-type-priority": ("priority: low", "priority: 3"),
    "job-type-queue": ("priority: low", "priority: low, queue: slow"),
    "job-type-isolation": ("priority: low", "priority: low, isolation: process"),
    "job-type-limits-of-its-process": (
        "priority: low",
        "priority: low, isolation: process, memory_limit: 1024MiB, nice: 10",
    ),
    "job-type-unique": ("priority: low", "priority: low, unique: {until: started, window: 1h}"),
    "job-type-description": ("priority: low", "priority: low, description: sweeps"),
    "payload-schema": ("days: {type: integer}", "days: {type: integer, maximum: 90}"),
    "payload-schema-gone": (SCHEMA, ""),
    "limit-added": ("youtube: 1", "youtube: 1, disk: 2"),
    "limit-changed": ("youtube: 1", "youtube: 3"),
    "limit-removed": ("limits: {youtube: 1}\n", ""),
    "workflow-added": ("workflows:\n", "workflows:\n  tidying:\n    timeout: 1h\n    steps: {tidy: {job: clean}}\n"),
    "workflow-changed": ("needs: channels", "needs: channels, when: always, payload: {}"),
    "notify-added": ("notify:\n", 'notify:\n  phone: {webhook: "${HOOK}/phone"}\n'),
    "notify-changed": ("events: [failed]", 'events: [failed, missed], secret: "${HOOK}"'),
    "runner": ("concurrency: 4", "concurrency: 8, shutdown_grace: 1m"),
    "defaults": ("timeout: 10m", "timeout: 20m"),
    "defaults-retry": ("max_attempts: 3", "max_attempts: 6"),
    "defaults-spelling": ("timeout: 10m", "timeout: 600s"),
    "timezone": ("timezone: UTC", "timezone: Europe/Berlin"),
}  # fmt: skip

REMOVED_LIMIT = (", limit: youtube", "")
REMOVED_TYPE = (
    "  sync: {handler: handlers.rag.sync, priority: high, timeout: 30m, limit: youtube}\n",
    "",
    '  channel-sync: {job: sync, cron: "0 6 * * mon", timezone: Europe/Berlin}\n',
    "",
    "      channels: {job: sync}\n",
    "",
    ", needs: channels",
    "",
)

ALL = (
    *EDITS["timezone"],
    *EDITS["runner"],
    *EDITS["defaults"],
    *EDITS["limit-changed"],
    *EDITS["job-type-handler"],
    *EDITS["payload-schema"],
    *EDITS["job-type-added"],
    *EDITS["schedule-renamed-and-changed"],
    *EDITS["payload"],
    *EDITS["zone-over-a-clock-change"],
    "  pulse: {job: news, every: 15m}\n",
    "  sweep: {job: clean, every: 6h}\n",
    *EDITS["workflow-added"],
    *EDITS["workflow-changed"],
    *EDITS["notify-changed"],
)


def edited(*pairs: str, file: str = FILE) -> str:
    """The file with each text replaced by the one after it; each must be there."""
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in file, f"the file has no {old!r}"
        file = file.replace(old, new, 1)
    return file


def edit(name: str) -> str:
    pairs = EDITS[name] + (REMOVED_LIMIT if name == "limit-removed" else ())
    return edited(*pairs)


def definitions(text: str) -> Definitions:
    loaded = load_text(textwrap.dedent(text), environ=ENVIRON)
    assert loaded.definitions is not None, [f"{problem.line}: {problem.message}" for problem in loaded.problems]
    return loaded.definitions


def payload_problems(job_type: JobType, payload: object) -> list[str]:
    return [f"{problem.path}: {problem.message}" for problem in check(job_type.payload_schema, payload)]


def planned(before: str, after: str, in_flight: dict[tuple[str, str | None], InFlight] | None = None) -> Plan:
    """From one text to another, as if the first were revision 12."""
    stored = Stored(12, definitions(before), {}, in_flight or {})
    return plan(stored, definitions(after), NOW, payload_problems=payload_problems)
