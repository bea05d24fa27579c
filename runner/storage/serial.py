"""Definitions and policies as canonical JSON and back. Durations are seconds, times ISO 8601."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from runner.domain.job import JobPolicy
from runner.domain.schedule import Definitions, Schedule


def to_data(value: Any) -> Any:
    """A frozen definition as plain JSON data."""
    return json.loads(to_text(value))


def to_text(value: Any) -> str:
    """A frozen definition as canonical JSON: equal definitions give equal text, whatever the file's order was."""
    return json.dumps(asdict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_encode)


def definitions_from(body: str) -> Definitions:
    return _adapter(Definitions).validate_json(body)  # type: ignore[no-any-return]


def schedule_from(spec: Any) -> Schedule:
    return _adapter(Schedule).validate_python(spec)  # type: ignore[no-any-return]


def policy_text(policy: JobPolicy) -> str:
    """The same as before for the same policy, at a glance: to compare two takes longer than the rest of a job's row."""
    known, text = _last_policy[0]
    if known is not policy:
        text = _policy_text(policy)
        _last_policy[0] = policy, text
    return text


_last_policy: list[tuple[JobPolicy | None, str]] = [(None, "")]


@lru_cache(maxsize=512)
def _policy_text(policy: JobPolicy) -> str:
    return to_text(policy)


@lru_cache(maxsize=512)
def policy_from(text: str) -> JobPolicy:
    return _adapter(JobPolicy).validate_json(text)  # type: ignore[no-any-return]


def parsed(texts: Sequence[str]) -> list[Any]:
    """Texts of JSON, each a value. All in one go: to begin takes longer than what a payload holds."""
    try:
        values = _decode(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):
        values = []
    return values if len(values) == len(texts) else [_decode(text) for text in texts]


_decode = json.JSONDecoder().decode  # `json.loads` looks first for what we never have


@lru_cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _encode(value: object) -> object:
    match value:
        case timedelta():
            return value.total_seconds()
        case datetime():
            return value.isoformat()
    raise TypeError(f"not JSON: {type(value).__name__}")
