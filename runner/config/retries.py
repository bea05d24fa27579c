"""Cross-checks of retry policies: fields that mean nothing beside another one, and delays that are cut."""

from __future__ import annotations

from itertools import chain
from typing import Any

from runner.config.findings import Findings
from runner.config.merge import Data, merge_retry
from runner.config.places import Path
from runner.config.raw import entries, items, mapping, steps
from runner.config.words import label
from runner.domain.duration import format_duration, parse_duration
from runner.domain.retry import RetryPolicy

Retry = Data | bool | None


def check_retries(findings: Findings, data: Data) -> None:
    defaults = _sound(findings, ("defaults", "retry"), mapping(data.get("defaults")))
    _check(findings, ("defaults", "retry"), defaults, None)
    of_types: dict[Any, Retry] = {}
    for path, entry in entries(data, "job_types"):
        own = _sound(findings, (*path, "retry"), entry)
        _check(findings, (*path, "retry"), own, defaults)
        of_types[path[-1]] = merge_retry(defaults, own)
    for path, entry in chain(entries(data, "schedules"), steps(data)):
        job = entry.get("job")
        weak = of_types.get(job, defaults) if isinstance(job, str) else defaults
        _check(findings, (*path, "retry"), _sound(findings, (*path, "retry"), entry), weak)


def _sound(findings: Findings, path: Path, entry: Data) -> Retry:
    return None if findings.is_broken(path) else entry.get("retry")


def _check(findings: Findings, path: Path, own: Retry, weak: Retry) -> None:
    """Only what the entry says itself: what it inherits may have a meaning for others."""
    policy = merge_retry(weak, own)
    if isinstance(own, dict) and isinstance(policy, dict):
        _check_growth(findings, path, own, policy)
        _check_cap(findings, path, own, policy)


def _check_growth(findings: Findings, path: Path, own: Data, policy: Data) -> None:
    if isinstance(policy.get("delay"), list):
        beside, hint = "a list of delays", "remove it, or write one delay"
        without_meaning = [name for name in ("backoff", "factor") if name in own]
    elif policy.get("backoff", RetryPolicy().backoff) != "exponential":
        beside, hint = f"backoff: {policy['backoff']}", "remove it, or write backoff: exponential"
        without_meaning = [name for name in ("factor",) if name in own]
    else:
        return
    for name in without_meaning:
        findings.error("conflict", (*path, name), f"{name} has no meaning beside {beside}", hint, at_key=True)


def _check_cap(findings: Findings, path: Path, own: Data, policy: Data) -> None:
    cap = parse_duration(policy["max_delay"]) if "max_delay" in policy else RetryPolicy().max_delay
    cut = [(parse_duration(text), at) for at, text in items(own.get("delay"), (*path, "delay"))]
    longest, at = max(cut, default=(cap, path))
    if longest <= cap:
        return
    limit = format_duration(cap) if "max_delay" in policy else f"{format_duration(cap)} if left out"
    which = "that wait" if isinstance(own["delay"], list) else "every wait"
    message = f"{label(at)} ({format_duration(longest)}) is longer than max_delay ({limit}), which cuts it:"
    hint = f"write max_delay: {format_duration(longest)}, or a shorter delay"
    findings.warning("max-delay", at, f"{message} {which} is {format_duration(cap)}", hint)
