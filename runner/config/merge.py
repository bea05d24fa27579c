"""Who wins: built-in, then `defaults`, then the job type, then the schedule or step. Plain data in, objects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from runner.domain.duration import parse_duration
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import PRIORITIES, Unique

Data = Mapping[str, Any]
ONE_ATTEMPT = {"max_attempts": 1}
INHERITED = ("priority", "timeout", "queue", "on_stall", "max_stalls", "isolation", "notify")


def inherit(defaults: Data, entry: Data) -> dict[str, Any]:
    """The entry with what it inherits. `retry` and `labels` are merged field by field, the rest is replaced."""
    merged = {name: defaults[name] for name in INHERITED if name in defaults} | dict(entry)
    if "retry" in defaults or "retry" in entry:
        merged["retry"] = merge_retry(defaults.get("retry"), entry.get("retry"))
    if "labels" in defaults or "labels" in entry:
        merged["labels"] = {**defaults.get("labels", {}), **entry.get("labels", {})}
    return merged


def merge_retry(weak: Data | bool | None, strong: Data | bool | None) -> Data | bool:
    """A mapping over `false` starts again from the built-in values: who writes one wants more than one attempt."""
    if strong is None:
        return {} if weak is None else weak
    if isinstance(strong, bool) or isinstance(weak, bool) or weak is None:
        return strong
    return {**weak, **strong}


def retry_policy(data: Data | bool) -> RetryPolicy:
    fields = dict(ONE_ATTEMPT if isinstance(data, bool) else data)
    if "delay" in fields:
        written = fields["delay"]
        fields["delay"] = (parse_duration(written),) if isinstance(written, str) else _waits(written)
    if "max_delay" in fields:
        fields["max_delay"] = parse_duration(fields["max_delay"])
    fields |= {name: float(fields[name]) for name in ("factor", "jitter") if name in fields}
    fields |= {name: tuple(fields[name]) for name in ("retry_on", "give_up_on") if name in fields}
    return RetryPolicy(**fields)


def _waits(written: Sequence[str]) -> tuple[timedelta, ...]:
    """Two at least: one alone would be what a backoff starts from."""
    waits = tuple(parse_duration(delay) for delay in written)
    return waits * 2 if len(waits) == 1 else waits


def priority(written: str | int) -> int:
    return PRIORITIES[written] if isinstance(written, str) else int(written)


def unique(written: str | Data) -> Unique:
    if isinstance(written, str):
        return Unique(until=written)  # type: ignore[arg-type]  # the schema knows the words
    fields = dict(written)
    if "window" in fields:
        fields["window"] = parse_duration(fields["window"])
    if "by" in fields:
        fields["by"] = tuple(fields["by"])
    return Unique(**fields)


def texts(written: str | list[str]) -> tuple[str, ...]:
    return (written,) if isinstance(written, str) else tuple(written)
