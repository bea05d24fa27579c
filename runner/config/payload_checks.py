"""Cross-checks of payloads: the schemas themselves, and each payload of the file against the one of its job type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from runner.config.findings import Findings
from runner.config.payload import check, complaints, complete
from runner.config.payload_schema import check_schema, typos
from runner.config.places import Path
from runner.config.raw import Data, entries, steps
from runner.config.references import StepResult, in_text, references_in, resolve, texts_in
from runner.config.rules import Complaint
from runner.domain.errors import UnsetVariable
from runner.domain.schedule import JobType


def check_payloads(findings: Findings, data: Data, environ: Mapping[str, str]) -> None:
    schemas = dict(_usable_schemas(findings, data))
    for path, entry in chain(entries(data, "schedules"), steps(data)):
        job, payload = entry.get("job"), entry.get("payload", {})
        if isinstance(job, str) and job in schemas and isinstance(payload, dict):
            _check_payload(findings, (*path, "payload"), schemas[job], payload, environ)


def payload_problems(job_type: JobType, payload: Mapping[str, Any]) -> list[str]:
    """What does not fit, in words, for the warnings of a plan."""
    if references_in(payload):
        return []  # what they will hold is known where the job is enqueued
    filled = complete(job_type.payload_schema, dict(payload))
    return [
        f"{problem.path}: {problem.message}" if problem.path else problem.message
        for problem in check(job_type.payload_schema, filled)
    ]


def _usable_schemas(findings: Findings, data: Data) -> Iterator[tuple[str, Data]]:
    for path, entry in entries(data, "job_types"):
        schema, place = entry.get("payload_schema"), (*path, "payload_schema")
        if not isinstance(schema, dict):
            continue
        found = check_schema(schema) or list(_bad_defaults(findings, schema))
        findings.complain_all(found, place)
        if not found:
            findings.complain_all(typos(schema, findings.suggester), place, "warning")
            yield str(path[-1]), schema


def _bad_defaults(findings: Findings, schema: Data) -> Iterator[Complaint]:
    """A default that does not fit its own schema would break each job that relies on it."""
    for complaint in complaints(schema, complete(schema, {}), findings.suggester):
        if complaint.path and complaint.missing is None:
            yield replace(complaint, code="payload-schema", path=("properties", complaint.path[0], "default"))


def _check_payload(findings: Findings, path: Path, schema: Data, payload: Data, environ: Mapping[str, str]) -> None:
    try:
        resolved = complete(schema, resolve(payload, environ))
    except UnsetVariable:
        return  # it has been complained about
    later = {at for at, text in texts_in(payload) if any(isinstance(one, StepResult) for one in in_text(text))}
    findings.complain_all(complaints(schema, resolved, findings.suggester, later), path)
