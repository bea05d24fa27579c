"""What the schema cannot say: names that must exist, circles, choices. All read the document as it is.

Each check takes what it finds in good shape and passes over the rest, which the schema has complained about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from runner.config.findings import Findings
from runner.config.payload_checks import check_payloads
from runner.config.places import Path
from runner.config.raw import entries, items, mapping, needs_of, steps
from runner.config.reference_checks import check_references
from runner.config.retries import check_retries
from runner.config.suggest import did_you_mean
from runner.config.timings import check_timings
from runner.config.words import listed
from runner.domain.schedule import RunnerOptions
from runner.domain.workflow import find_cycle


def cross_check(findings: Findings, environ: Mapping[str, str]) -> None:
    """Adds all the problems that show only when parts of the file are held against each other."""
    data = mapping(findings.document.data)
    for check in (_check_types, _check_schedules, _check_renames, _check_workflows, _check_notify):
        check(findings, data)
    check_timings(findings, data)
    check_retries(findings, data)
    findings.next_stage()
    check_references(findings, data, environ)
    check_payloads(findings, data, environ)


def _check_types(findings: Findings, data: Mapping[str, Any]) -> None:
    packages = mapping(data.get("runner")).get("handler_packages", list(RunnerOptions().handler_packages))
    if findings.is_broken(("runner", "handler_packages")):
        packages = None
    for path, entry in entries(data, "job_types"):
        _exists(findings, (*path, "limit"), entry.get("limit"), data, "limits", "limit")
        _check_package(findings, (*path, "handler"), entry.get("handler"), packages)
        _check_unique(findings, path, entry)
        _check_process(findings, path, entry, mapping(data.get("defaults")))


def _check_package(findings: Findings, path: Path, handler: Any, packages: Any) -> None:
    if not isinstance(handler, str) or not isinstance(packages, list) or findings.is_broken(path):
        return
    module = handler.replace(":", ".")
    if not any(isinstance(package, str) and module.startswith(f"{package}.") for package in packages):
        message = f"{handler} is not in a package that handlers may come from ({listed(packages)})"
        wanted = ", ".join([*map(str, packages), module.partition(".")[0]])
        findings.error("handler-package", path, message, f"if that is meant: runner: {{handler_packages: [{wanted}]}}")


def _check_unique(findings: Findings, path: Path, entry: Mapping[str, Any]) -> None:
    schema, by = mapping(entry.get("payload_schema")), mapping(entry.get("unique")).get("by")
    known = mapping(schema.get("properties"))
    if not known or schema.keys() - {"properties", "required", "type", "$defs", "title", "description"}:
        return  # other keywords may allow other keys
    for at, key in items(by, (*path, "unique", "by")):
        if key not in known:
            hint = did_you_mean(findings.suggester.closest(key, known)) or f"known here: {listed(list(known))}"
            findings.error("unknown-key", at, f'the payload has no key "{key}"', hint)


def _check_process(findings: Findings, path: Path, entry: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    isolation = entry.get("isolation", defaults.get("isolation"))
    at = (*path, "isolation") if "isolation" in entry else ("defaults", "isolation")
    if isolation == "process" or findings.is_broken(at) or findings.is_meant((*path, "isolation")):
        return
    said = f"beside isolation: {isolation}" if isolation else "without isolation: process"
    for name in ("memory_limit", "nice"):
        if name in entry:
            message = f"{name} has no meaning {said}: threads and coroutines share one process"
            findings.error("conflict", (*path, name), message, "write isolation: process, or remove it", at_key=True)


def _check_schedules(findings: Findings, data: Mapping[str, Any]) -> None:
    for path, entry in entries(data, "schedules"):
        _choose(findings, path, entry, "job", "workflow")
        _choose(findings, path, entry, "cron", "every")
        _exists(findings, (*path, "job"), entry.get("job"), data, "job_types", "job type")
        _exists(findings, (*path, "workflow"), entry.get("workflow"), data, "workflows", "workflow")
        if "job" not in entry:
            _idle(findings, path, entry, "workflow", ("payload", "retry", "priority"), "write it in the steps")
        if "cron" not in entry:
            _idle(findings, path, entry, "every", ("seconds", "day_match", "clock_change"), "remove it, or write cron")


def _idle(
    findings: Findings, path: Path, entry: Mapping[str, Any], beside: str, names: Collection[str], hint: str
) -> None:
    for name in names:
        if beside in entry and name in entry:
            message = f"{name} has no meaning beside {beside}"
            findings.error("conflict", (*path, name), message, hint, at_key=True)


def _choose(findings: Findings, path: Path, entry: Mapping[str, Any], one: str, other: str) -> None:
    if one in entry and other in entry:
        findings.error(
            "choice", (*path, other), f"{one} and {other} exclude each other", "remove one of them", at_key=True
        )
    elif one not in entry and other not in entry and not any(findings.is_meant((*path, name)) for name in (one, other)):
        message = f"a schedule needs {one} or {other}"
        findings.error("choice", path, message, f"add {one}: or {other}:", at_key=True)


def _check_renames(findings: Findings, data: Mapping[str, Any]) -> None:
    schedules = mapping(data.get("schedules"))
    taken: dict[str, Path] = {}
    for path, entry in entries(data, "schedules"):
        old, place = entry.get("renamed_from"), (*path, "renamed_from")
        if not isinstance(old, str):
            continue
        if old in schedules:
            message = f'"{old}" is still the name of a schedule'
            findings.error("renamed-from", place, message, "remove renamed_from, or the old entry")
        elif old in taken:
            line = findings.document.place(taken[old]).line
            message = f'"{old}" was already renamed at line {line}'
            findings.error("renamed-from", place, message, "one schedule can become only one")
        taken.setdefault(old, place)


def _check_workflows(findings: Findings, data: Mapping[str, Any]) -> None:
    for path, step in steps(data):
        _exists(findings, (*path, "job"), step.get("job"), data, "job_types", "job type")
    for path, workflow in entries(data, "workflows"):
        known = mapping(workflow.get("steps"))
        for name, step in known.items():
            for needed, at in needs_of(step, (*path, "steps", name)):
                named(findings, at, needed, known, "unknown-step", "step")
        _check_cycle(findings, (*path, "steps"), known)


def _check_cycle(findings: Findings, path: Path, known: Mapping[str, Any]) -> None:
    cycle = find_cycle({name: tuple(needed for needed, _ in needs_of(step)) for name, step in known.items()})
    if cycle is not None:
        at = dict(needs_of(known[cycle[0]], (*path, cycle[0])))[cycle[1]]
        message = f"the steps go in a circle: {' -> '.join(cycle)} (each needs the next)"
        findings.error("cycle", at, message, "remove one of these needs")


def _check_notify(findings: Findings, data: Mapping[str, Any]) -> None:
    places: list[tuple[Path, Mapping[str, Any]]] = [(("defaults",), mapping(data.get("defaults")))]
    places += [*entries(data, "job_types"), *entries(data, "workflows")]
    for path, entry in places:
        for at, target in items(entry.get("notify"), (*path, "notify")):
            _exists(findings, at, target, data, "notify", "notify target")
    for path, target_entry in entries(data, "notify"):
        _check_webhook(findings, (*path, "webhook"), target_entry.get("webhook"))


def _check_webhook(findings: Findings, path: Path, webhook: Any) -> None:
    if isinstance(webhook, str) and not webhook.startswith(("http://", "https://", "${")):
        findings.error("webhook", path, "a webhook is an address of http or https", "write https://..., or ${NAME}")


def _exists(findings: Findings, path: Path, name: Any, data: Mapping[str, Any], section: str, what: str) -> None:
    is_there = isinstance(data.get(section, {}), dict) and not findings.is_meant((section,))
    if isinstance(name, str) and is_there:
        code = {"job_types": "unknown-job", "notify": "unknown-notify"}.get(section, f"unknown-{what}")
        named(findings, path, name, mapping(data.get(section)), code, what, (section,))


def named(
    findings: Findings, path: Path, name: str, known: Collection[str], code: str, what: str, section: Path = ()
) -> None:
    if name in known:
        return
    closest = findings.suggester.closest(name, known)
    if closest is None:
        hint = f"known here: {listed(list(known)[:20])}" if known else f"there is no {what} in the file yet"
    else:
        where = (*(section or path[:4]), closest)
        hint = f'did you mean "{closest}" (line {findings.document.key_place(where).line})?'
    findings.error(code, path, f'there is no {what} "{name}"', hint)
