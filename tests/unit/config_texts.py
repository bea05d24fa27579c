"""Texts for the tests of the file: a writer that knows where it put each value, and a file with every field in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config import Loaded, load_text

ENVIRON = {"OPS_WEBHOOK_URL": "https://example.org/hook", "OPS_WEBHOOK_SECRET": "s"}
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Raw:
    """Text that is written as it is: an alias, a scalar without quotes."""

    text: str


@dataclass
class Written:
    """A text, and the line and column of each key and value in it."""

    lines: list[str] = field(default_factory=list)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def write(data: Mapping[str, Any], anchors: Mapping[str, str] = {}) -> Written:
    """One key a line; lists and scalars as JSON behind it. `anchors` names the anchor of a key at the top."""
    written = Written()
    _mapping(written, data, (), anchors)
    return written


def _mapping(written: Written, data: Mapping[str, Any], path: Path, anchors: Mapping[str, str]) -> None:
    for key, value in data.items():
        at, indent = (*path, key), "  " * len(path)
        name = f"&{anchors[key]} " if key in anchors and not path else ""
        head = f"{indent}{key}: {name}"
        written.keys[at] = (len(written.lines) + 1, len(indent) + 1)
        if isinstance(value, dict) and value:
            written.values[at] = (len(written.lines) + 2, len(indent) + 3)
            written.lines.append(head)
            _mapping(written, value, at, anchors)
        elif isinstance(value, list):
            _list(written, head, value, at)
        else:
            written.values[at] = (len(written.lines) + 1, len(head) + 1)
            written.lines.append(head + (value.text if isinstance(value, Raw) else json.dumps(value)))


def _list(written: Written, head: str, items: list[Any], path: Path) -> None:
    line = len(written.lines) + 1
    written.values[path] = (line, len(head) + 1)
    text = head + "["
    for index, item in enumerate(items):
        text += ", " if index else ""
        written.values[(*path, index)] = (line, len(text) + 1)
        text += item.text if isinstance(item, Raw) else json.dumps(item)
    written.lines.append(text + "]")


def load(text: str | bytes, **environ: str) -> Loaded:
    return load_text(text, environ={**ENVIRON, **environ})


def found(loaded: Loaded) -> list[tuple[str, int, int]]:
    """Code, line and column of each problem."""
    return [(problem.code, problem.line, problem.column) for problem in loaded.problems]


EVERY_FIELD: dict[str, Any] = {
    "version": 1,
    "timezone": "Europe/Berlin",
    "runner": {
        "concurrency": 4,
        "heartbeat": "5s",
        "stalled_after": "45s",
        "shutdown_grace": "20s",
        "retention": "7d",
        "handler_packages": ["handlers", "tools"],
    },
    "defaults": {
        "priority": "low",
        "timeout": "5m",
        "retry": {
            "max_attempts": 4,
            "backoff": "exponential",
            "delay": "3s",
            "factor": 3,
            "max_delay": "1m",
            "jitter": 0.1,
            "retry_on": ["OSError"],
            "give_up_on": ["ValueError"],
        },
        "queue": "slow",
        "on_stall": "fail",
        "max_stalls": 1,
        "isolation": "thread",
        "notify": ["ops"],
        "labels": {"team": "search"},
    },
    "limits": {"youtube": 2},
    "job_types": {
        "fetch": {
            "description": "Fetches.",
            "handler": "handlers.news.fetch",
            "priority": 3,
            "timeout": "1m",
            "retry": False,
            "queue": "fast",
            "on_stall": "retry",
            "max_stalls": 2,
            "isolation": "process",
            "memory_limit": "1024MiB",
            "nice": 5,
            "notify": [],
            "labels": {"tier": "one"},
            "limit": "youtube",
            "unique": {"until": "started", "window": "1h", "by": ["feeds"]},
            "payload_schema": {"properties": {"feeds": {"type": "array", "default": []}}},
            "steps": ["reading", "writing"],
        },
    },
    "schedules": {
        "hourly": {
            "description": "Often.",
            "job": "fetch",
            "cron": ["0 * * * *"],
            "timezone": "UTC",
            "seconds": False,
            "day_match": "any",
            "clock_change": "skip",
            "from": "2026-01-01",
            "until": "2026-12-31",
            "jitter": "2m",
            "catch_up": "none",
            "catch_up_window": "2h",
            "overlap": "allow",
            "enabled": True,
            "payload": {"feeds": ["a"]},
            "priority": "high",
            "timeout": "2m",
            "retry": {"max_attempts": 2},
            "labels": {"tier": "two"},
            "project_id": "p1",
            "renamed_from": "often",
        },
        "nightly": {"workflow": "digest", "every": "1d"},
    },
    "workflows": {
        "digest": {
            "description": "Both.",
            "timeout": "3h",
            "notify": ["ops"],
            "labels": {"tier": "three"},
            "steps": {
                "one": {"job": "fetch"},
                "two": {
                    "job": "fetch",
                    "needs": ["one"],
                    "when": "always",
                    "payload": {"feeds": "${{ steps.one.result.feeds }}"},
                    "priority": 7,
                    "timeout": "4m",
                    "retry": {"delay": ["1s", "2s"]},
                },
            },
        },
    },
    "notify": {
        "ops": {
            "webhook": "https://example.org/hook",
            "secret": "${OPS_WEBHOOK_SECRET}",
            "events": ["failed", "missed"],
        },
    },
}
