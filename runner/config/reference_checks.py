"""Cross-checks of references: only where they are read, only to what is there."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from runner.config.findings import Findings
from runner.config.places import Path
from runner.config.raw import Data, mapping, needs_of
from runner.config.references import Malformed, Reference, StepResult, Variable, in_text, texts_in
from runner.config.suggest import did_you_mean
from runner.config.words import shown

WHERE = "references are read in payloads, and in the webhook and the secret of a notify target"


def check_references(findings: Findings, data: Data, environ: Mapping[str, str]) -> None:
    orders = _Orders(data)
    for path, text in texts_in(data):
        if str(path[0]).startswith("x-"):
            continue
        for reference in in_text(text):
            _check(findings, orders, path, reference, environ)


def _check(findings: Findings, orders: _Orders, path: Path, reference: Reference, environ: Mapping[str, str]) -> None:
    match reference:
        case Variable():
            _check_variable(findings, path, reference, environ)
        case StepResult() if in_step_payload(path):
            _check_step(findings, orders, path, reference)
        case StepResult():
            message = "the result of a step is read in the payload of another step of its workflow only"
            findings.error("reference", path, message, "write the value itself")
        case Malformed(text) if in_payload(path):
            hint = "write ${NAME}, ${NAME:-default} or ${{ steps.X.result.path }}; $${ is the text ${ itself"
            findings.error("reference", path, f"{shown(text)} is not a reference", hint)


def _check_variable(findings: Findings, path: Path, variable: Variable, environ: Mapping[str, str]) -> None:
    if not in_payload(path) and not in_notify(path):
        findings.error("reference", path, f"${{{variable.name}}} is not read here", f"write the value itself: {WHERE}")
    elif not variable.is_set(environ):
        unset = variable.unset(path)
        findings.error("unset-variable", path, unset.message, unset.hint, subject=variable.name)
    elif in_payload(path) and variable.looks_secret:
        hint = "let the handler read it from the environment; payloads are stored and shown"
        findings.warning("secret-in-payload", path, f"{variable.name} looks like a secret", hint)


def _check_step(findings: Findings, orders: _Orders, path: Path, reference: StepResult) -> None:
    workflow, step = str(path[1]), str(path[3])
    known = orders.steps(workflow)
    if reference.step not in known:
        hint = did_you_mean(findings.suggester.closest(reference.step, known))
        findings.error("unknown-step", path, f'there is no step "{reference.step}"', hint)
    elif not orders.is_before(workflow, reference.step, step) and not _has_broken_needs(findings, workflow, known):
        message = f'step "{reference.step}" need not have ended when this one starts'
        findings.error("reference", path, message, f"add it: needs: [{reference.step}]")


def _has_broken_needs(findings: Findings, workflow: str, steps: Data) -> bool:
    return any(findings.is_broken(("workflows", workflow, "steps", name, "needs")) for name in steps)


class _Orders:
    """Which steps have ended when another one starts. Worked out once for each workflow."""

    def __init__(self, data: Data) -> None:
        self._workflows = mapping(data.get("workflows"))
        self._before: dict[str, dict[str, set[str]] | None] = {}

    def steps(self, workflow: str) -> Data:
        return mapping(mapping(self._workflows.get(workflow)).get("steps"))

    def is_before(self, workflow: str, step: str, other: str) -> bool:
        """True in a workflow that goes in a circle, which is another complaint."""
        if workflow not in self._before:
            self._before[workflow] = _order(self.steps(workflow))
        before = self._before[workflow]
        return before is None or step in before[other]


def _order(steps: Data) -> dict[str, set[str]] | None:
    needs = {name: [needed for needed, _ in needs_of(step)] for name, step in steps.items()}
    before: dict[str, set[str]] = {}
    try:
        for name in TopologicalSorter(needs).static_order():
            needed = needs.get(name, [])
            before[name] = set(needed).union(*(before[one] for one in needed))
    except CycleError:
        return None
    return before


def in_payload(path: Path) -> bool:
    return (path[0] == "schedules" and path[2:3] == ("payload",)) or in_step_payload(path)


def in_step_payload(path: Path) -> bool:
    return path[0] == "workflows" and path[2:3] == ("steps",) and path[4:5] == ("payload",)


def in_notify(path: Path) -> bool:
    return path[0] == "notify" and path[2:] in (("webhook",), ("secret",))
