"""A valid file becomes its definitions, with defaults merged from weak to strong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Definitions, JobType, NotifyTarget, RunnerOptions, Schedule, Unique
from runner.domain.workflow import Step, Workflow
from tests.unit.config_texts import load

SAMPLE = Path(__file__).with_name("config_files") / "sample.yaml"
SECONDS = timedelta(seconds=1)
MINUTES = timedelta(minutes=1)
HOURS = timedelta(hours=1)

CHANNEL_IDS = {"properties": {"channel_ids": {"type": "array", "items": {"type": "string"}, "default": []}}}
FEEDS = {"required": ["feeds"], "properties": {"feeds": {"type": "array", "minItems": 1, "items": {"type": "string"}}}}
EXPECTED = Definitions(
    runner=RunnerOptions(concurrency=2, heartbeat=10 * SECONDS, stalled_after=60 * SECONDS),
    defaults={
        "priority": "normal",
        "timeout": "10m",
        "retry": {"max_attempts": 3, "delay": "2s", "factor": 2, "max_delay": "5m"},
    },
    limits={"youtube": 1},
    job_types={
        "rag_sync_channel": JobType(
            "rag_sync_channel",
            "handlers.rag.sync_channel",
            description="Fetch new transcripts of the followed channels",
            priority=2,
            timeout=30 * MINUTES,
            limit="youtube",
            payload_schema=CHANNEL_IDS,
        ),
        "rag_sync_news": JobType("rag_sync_news", "handlers.news.sync_news", priority=2, payload_schema=FEEDS),
        "rag_sync_trends": JobType("rag_sync_trends", "handlers.trends.sync_trends"),
        "embedding_generation": JobType("embedding_generation", "handlers.embeddings.generate", timeout=HOURS),
        "newsletter_generation": JobType(
            "newsletter_generation",
            "handlers.newsletter.generate",
            notify=("ops",),
            isolation="process",
            on_stall="fail",
            steps=("processing", "formatting"),
            retry=RetryPolicy(5, "linear", (10 * SECONDS,), jitter=0.2, give_up_on=("ValueError",)),
        ),
        "cache_cleanup": JobType(
            "cache_cleanup", "handlers.maintenance.clean_cache", priority=8, retry=RetryPolicy(max_attempts=1)
        ),
    },
    schedules={
        "daily-rag-channel-sync": Schedule("daily-rag-channel-sync", "rag_sync_channel", cron=("0 6 * * *",)),
        "news-fetch": Schedule(
            "news-fetch",
            "rag_sync_news",
            cron=("0 */4 * * *",),
            jitter=2 * MINUTES,
            payload={"feeds": ["examples/feeds/engineering.xml"]},
        ),
        "weekly-cache-cleanup": Schedule(
            "weekly-cache-cleanup", "cache_cleanup", cron=("0 3 * * 0",), catch_up_window=24 * HOURS
        ),
    },
    workflows={
        "weekly_digest": Workflow(
            "weekly_digest",
            timeout=3 * HOURS,
            steps={
                "channels": Step("channels", "rag_sync_channel"),
                "trends": Step("trends", "rag_sync_trends"),
                "embed": Step(
                    "embed",
                    "embedding_generation",
                    needs=("channels", "trends"),
                    payload={"source_ids": "${{ steps.channels.result.source_ids }}"},
                ),
                "tidy": Step("tidy", "cache_cleanup", needs=("embed",), when="always"),
            },
        )
    },
    notify={
        "ops": NotifyTarget(
            "ops", "${OPS_WEBHOOK_URL}", "${OPS_WEBHOOK_SECRET}", ("failed", "recovered", "missed", "config_rejected")
        )
    },
)


def test_the_sample_of_the_format_becomes_its_definitions() -> None:
    loaded = load(SAMPLE.read_text())
    assert loaded.problems == []
    assert loaded.definitions == EXPECTED
    assert list(loaded.require().schedules) == list(EXPECTED.schedules), "in file order"


def test_the_smallest_useful_file_has_four_lines() -> None:
    lines = ["version: 1", "job_types: {j: {handler: handlers.a.b}}", 'schedules: {s: {job: j, cron: "@daily"}}']
    assert load("\n".join(lines)).require() == Definitions(
        job_types={"j": JobType("j", "handlers.a.b")}, schedules={"s": Schedule("s", "j", cron=("@daily",))}
    )


def test_a_file_with_its_version_alone_is_valid() -> None:
    assert load("version: 1").require() == Definitions()


def retry_of(defaults: str, own: str) -> RetryPolicy:
    text = f"version: 1\ndefaults: {{{defaults}}}\njob_types: {{j: {{handler: handlers.a.b{own and ', ' + own}}}}}\n"
    return load(text).require().job_types["j"].retry


@pytest.mark.parametrize(
    ("defaults", "own", "policy"),
    [
        ("", "", RetryPolicy()),
        ("retry: {max_attempts: 5}", "", RetryPolicy(max_attempts=5)),
        ("retry: {max_attempts: 5}", "retry: {delay: 1s}", RetryPolicy(max_attempts=5, delay=(SECONDS,))),
        ("retry: {max_attempts: 5, delay: 9s}", "retry: {delay: 1s}", RetryPolicy(max_attempts=5, delay=(SECONDS,))),
        ("retry: {max_attempts: 5, delay: 9s}", "retry: false", RetryPolicy(max_attempts=1)),
        ("retry: false", "", RetryPolicy(max_attempts=1)),
        ("retry: false", "retry: {delay: 1s}", RetryPolicy(delay=(SECONDS,))),
        ("", "retry: {delay: [1s, 1m]}", RetryPolicy(delay=(SECONDS, MINUTES))),
        ("", "retry: {delay: [1s]}", RetryPolicy(delay=(SECONDS, SECONDS))),
        ("", "retry: {backoff: fixed, max_delay: 1m}", RetryPolicy(backoff="fixed", max_delay=MINUTES)),
    ],
)
def test_retry_is_merged_field_by_field(defaults: str, own: str, policy: RetryPolicy) -> None:
    assert retry_of(defaults, own) == policy


OVERRIDES = """\
version: 1
defaults: {priority: low, timeout: 1m, retry: {max_attempts: 9}, labels: {team: a, tier: one}, notify: [ops]}
job_types:
  plain: {handler: handlers.a.b}
  own: {handler: handlers.a.b, priority: 4, retry: {delay: 1s}, labels: {tier: two}, notify: []}
schedules:
  s: {job: own, every: 1h, priority: high, timeout: 2m, retry: {factor: 3}}
  t: {job: own, every: 1h}
workflows:
  w: {steps: {one: {job: own, priority: 1, timeout: 3m, retry: false}, two: {job: own}}}
notify: {ops: {webhook: "https://example.org"}}
"""


def test_job_types_inherit_what_they_do_not_say() -> None:
    types = load(OVERRIDES).require().job_types
    assert (types["plain"].priority, types["own"].priority) == (8, 4)
    assert (types["plain"].timeout, types["own"].timeout) == (MINUTES, MINUTES)
    assert (types["plain"].notify, types["own"].notify) == (("ops",), ())
    assert (types["plain"].labels, types["own"].labels) == ({"team": "a", "tier": "one"}, {"team": "a", "tier": "two"})
    assert types["own"].retry == RetryPolicy(max_attempts=9, delay=(SECONDS,))


def test_schedules_and_steps_override_their_job_type() -> None:
    definitions = load(OVERRIDES).require()
    over, plain = definitions.schedules["s"], definitions.schedules["t"]
    assert (over.priority, over.timeout) == (2, 2 * MINUTES)
    assert over.retry == RetryPolicy(max_attempts=9, delay=(SECONDS,), factor=3.0)
    assert (plain.priority, plain.timeout, plain.retry) == (None, None, None)
    one, two = definitions.workflows["w"].steps.values()
    assert (one.priority, one.timeout, one.retry) == (1, 3 * MINUTES, RetryPolicy(max_attempts=1))
    assert (two.priority, two.timeout, two.retry) == (None, None, None)


@pytest.mark.parametrize(
    ("written", "unique"),
    [
        ("started", Unique("started")),
        ("finished", Unique("finished")),
        ("{window: 1h}", Unique(window=HOURS)),
        ("{until: started, by: [a, b]}", Unique("started", by=("a", "b"))),
    ],
)
def test_unique_is_a_word_or_a_mapping(written: str, unique: Unique) -> None:
    text = f"version: 1\njob_types: {{j: {{handler: handlers.a.b, unique: {written}}}}}\n"
    assert load(text).require().job_types["j"].unique == unique


@pytest.mark.parametrize(("written", "number"), [("high", 2), ("normal", 5), ("low", 8), ("1", 1), ("10", 10)])
def test_priority_is_a_word_or_a_number(written: str, number: int) -> None:
    text = f"version: 1\njob_types: {{j: {{handler: handlers.a.b, priority: {written}}}}}\n"
    assert load(text).require().job_types["j"].priority == number


@pytest.mark.parametrize(
    ("written", "kept"), [("512MB", "512MB"), ("1024MiB", "1GiB"), ("1500MB", "1500MB"), ("64000KB", "64MB")]
)
def test_a_size_has_one_text(written: str, kept: str) -> None:
    """Two ways to write one amount are no change."""
    limits = f"memory_limit: {written}, nice: 7"
    text = f"version: 1\njob_types: {{j: {{handler: handlers.a.b, isolation: process, {limits}}}}}\n"

    job_type = load(text).require().job_types["j"]

    assert (job_type.memory_limit, job_type.nice) == (kept, 7)


TIMES = """\
version: 1
timezone: Europe/Berlin
job_types: {j: {handler: "handlers.a:b.c"}}
schedules:
  file-zone: {job: j, every: 90s, from: 2026-07-01, until: 2026-12-01T06:30}
  own-zone: {job: j, cron: ["0 6 * * *", "@weekly"], timezone: America/New_York, from: 2026-07-01T00:00:00}
  offset: {job: j, every: 1h, from: "2026-07-01T00:00:00+05:30"}
"""


def test_times_are_read_in_the_zone_of_the_schedule_and_kept_in_utc() -> None:
    schedules = load(TIMES).require().schedules
    assert schedules["file-zone"].timezone == "Europe/Berlin"
    assert schedules["file-zone"].every == 90 * SECONDS
    assert schedules["file-zone"].starts == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert schedules["file-zone"].until == datetime(2026, 12, 1, 5, 30, tzinfo=UTC)
    assert schedules["own-zone"].cron == ("0 6 * * *", "@weekly")
    assert schedules["own-zone"].starts == datetime(2026, 7, 1, 4, tzinfo=UTC)
    assert schedules["offset"].starts == datetime(2026, 6, 30, 18, 30, tzinfo=UTC)


def test_anchors_and_merge_keys_carry_values() -> None:
    text = (
        "version: 1\nx-slow: &slow {timeout: 1h, priority: low}\n"
        "job_types:\n  a: {<<: *slow, handler: handlers.a.b}\n  b: {<<: *slow, handler: handlers.a.b, timeout: 2h}\n"
    )
    types = load(text).require().job_types
    assert [(one.timeout, one.priority) for one in types.values()] == [(HOURS, 8), (2 * HOURS, 8)]
