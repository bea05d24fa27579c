"""Each value of the resolved file is shown with the place that says it."""

from __future__ import annotations

from runner.config.origins import origins
from tests.unit.config_texts import EVERY_FIELD, load, write

TEXT = """\
version: 1
timezone: Europe/Berlin
x-fast: &fast {timeout: 1m}
runner: {concurrency: 4}
defaults:
  priority: low
  retry: {max_attempts: 5, delay: 1s}
limits: {one: 1}
job_types:
  a: {<<: *fast, handler: handlers.a.b, retry: {delay: 2s}, unique: started}
  b: {handler: handlers.a.b, retry: false}
schedules:
  s: {job: a, every: 90s, from: 2026-01-01, retry: {factor: 3}}
workflows:
  w:
    steps:
      x: {job: a, retry: {jitter: 0.5}}
"""
SHOWN = {str(one.path): (one.value, one.origin) for one in origins(load(TEXT))}


def test_the_strongest_place_that_says_it_is_the_origin() -> None:
    assert SHOWN["version"] == (1, "file:1")
    assert SHOWN["timezone"] == ("Europe/Berlin", "file:2")
    assert SHOWN["runner.concurrency"] == (4, "file:4")
    assert SHOWN["runner.heartbeat"] == ("10s", "built-in")
    assert SHOWN["limits.one"] == (1, "file:8")
    assert SHOWN["job_types.a.priority"] == (8, "defaults:6")
    assert SHOWN["job_types.a.timeout"] == ("1m", "file:3"), "written at the anchor"
    assert SHOWN["job_types.b.timeout"] == ("10m", "built-in")
    assert SHOWN["schedules.s.timezone"] == ("Europe/Berlin", "file:2")
    assert SHOWN["schedules.s.from"] == ("2025-12-31T23:00:00+00:00", "file:13")
    assert SHOWN["schedules.s.every"] == ("1m30s", "file:13")
    assert SHOWN["schedules.s.overlap"] == ("skip", "built-in")


def test_the_fields_of_retry_have_their_own_origins() -> None:
    assert SHOWN["job_types.a.retry.max_attempts"] == (5, "defaults:7")
    assert SHOWN["job_types.a.retry.delay"] == (["2s"], "file:10")
    assert SHOWN["job_types.a.retry.factor"] == (2.0, "built-in")
    assert SHOWN["schedules.s.retry.delay"] == (["2s"], "file:10")
    assert SHOWN["schedules.s.retry.max_attempts"] == (5, "defaults:7")
    assert SHOWN["schedules.s.retry.factor"] == (3.0, "file:13")
    assert SHOWN["workflows.w.steps.x.retry.jitter"] == (0.5, "file:17")


def test_a_word_that_stands_for_a_mapping_says_its_first_field() -> None:
    assert SHOWN["job_types.b.retry.max_attempts"] == (1, "file:11")
    assert SHOWN["job_types.b.retry.delay"] == (["2s"], "built-in")
    assert SHOWN["job_types.a.unique.until"] == ("started", "file:10")
    assert SHOWN["job_types.a.unique.by"] == ([], "built-in")


def test_a_file_that_is_not_valid_has_no_origins() -> None:
    assert origins(load("version: 2")) == []


def test_every_field_of_an_entry_is_shown_with_its_line() -> None:
    written = write(EVERY_FIELD)
    shown = {one.path: one.origin for one in origins(load(written.text))}
    for path, (line, _) in written.keys.items():
        if len(path) == 3 and path[0] != "defaults" and path[-1] not in ("retry", "unique", "steps"):
            assert shown[".".join(map(str, path))] == f"file:{line}", path
