"""What a server refuses, as the errors that a database raises: the same classes, the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.domain import errors
from runner.domain.problem import Problem

NAMESPACE = "urn:runner:error:"
KINDS: dict[str, type[errors.RunnerError]] = {
    "conflict": errors.Conflict,
    "database-unavailable": errors.DatabaseUnavailable,
    "invalid": errors.UsageError,
    "malformed": errors.UsageError,
    "media-type": errors.UsageError,
    "not-allowed": errors.NotAllowed,
    "not-found": errors.NotFound,
    "not-there-yet": errors.NotThereYet,
    "payload-invalid": errors.PayloadInvalid,
    "removals-refused": errors.RemovalsRefused,
    "stale-revision": errors.StaleRevision,
    "too-large": errors.UsageError,
    "too-many": errors.ServerUnreachable,
    "too-slow": errors.ServerUnreachable,
    "unavailable": errors.ServerUnreachable,
    "unknown-job-type": errors.UnknownJobType,
    "unset-variable": errors.UnsetVariable,
    "wrong-host": errors.NotAllowed,
}
REMEDIES = {"GET /api/jobs": "runner jobs list", "GET /api/schedules": "runner schedules list"}
KEY_WANTED = "RUNNER_TOKEN or --token-file; on the machine of the server `runner keys create` makes one"


def error_of(status: int, body: Mapping[str, Any], place: str) -> errors.RunnerError:
    """Of a problem, RFC 9457."""
    if status == 401:
        return errors.NotAllowed(f"{place}: {body.get('detail')}", KEY_WANTED)
    if body.get("type") == f"{NAMESPACE}config-invalid":
        return errors.ConfigInvalid(place, [_problem(one) for one in body.get("errors", ())])
    found = _error(body)
    if found is not None:
        first = body.get("first")
        told = _error(first) if first else None
        return errors.BulkRefused(first["index"], told) if first and told else found
    if status == 429:
        return errors.ServerUnreachable(f"{place} takes no more requests now", "try again later")
    if status < 500:
        return errors.UsageError(f"{place} refused it: {body.get('detail')} ({status})", body.get("help"))
    return errors.RunnerError(f"{place} could not answer, by a fault of its own ({status})", "its log says why")


def _error(body: Mapping[str, Any]) -> errors.RunnerError | None:
    kind = KINDS.get(str(body.get("type")).removeprefix(NAMESPACE))
    help_ = body.get("help")
    return None if kind is None else kind(str(body.get("detail")), hint=REMEDIES.get(str(help_), help_))


def _problem(one: Mapping[str, Any]) -> Problem:
    return Problem(
        one["code"], one["message"], one.get("line") or 1, one.get("column") or 1, one["path"], one.get("help"),
        one.get("severity") or "error",
    )  # fmt: skip
