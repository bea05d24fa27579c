"""References are read where the format says, and nothing else in a text is touched."""

from __future__ import annotations

from typing import Any

import pytest

from runner.config.references import Malformed, StepResult, Variable, references_in, resolve
from runner.domain.errors import UnsetVariable
from tests.unit.config_texts import load

ENVIRON = {"NAME": "x", "EMPTY": ""}


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("plain", "plain"),
        ("${NAME}", "x"),
        ("a${NAME}b${NAME}", "axbx"),
        ("${NAME:-d}", "x"),
        ("${NONE:-d}", "d"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NONE:-a:-b c}", "a:-b c"),
        ("$${NAME}", "${NAME}"),
        ("$NAME", "$NAME"),
        ("${{ steps.a.result.b }}", "${{ steps.a.result.b }}"),
        ("${NAME}-${{ steps.a.result }}", "x-${{ steps.a.result }}"),
        ({"${NAME}": ["${NAME}", 5, None, {"k": "${NAME}"}]}, {"${NAME}": ["x", 5, None, {"k": "x"}]}),
    ],
)
def test_resolving(value: Any, resolved: Any) -> None:
    assert resolve(value, ENVIRON) == resolved


def test_what_was_inserted_is_not_read_again() -> None:
    assert resolve("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_a_variable_that_is_not_set_is_an_error_that_names_it_and_its_place() -> None:
    with pytest.raises(UnsetVariable) as caught:
        resolve({"feeds": ["a", "${NONE}"]}, ENVIRON, ("schedules", "news", "payload"))
    assert caught.value.message == "the environment has no NONE, which schedules.news.payload.feeds[1] refers to"
    assert caught.value.hint == "set it, or write ${NONE:-default}"


ANCHORED = """\
version: 1
x-feeds: &feeds {url: "${NEITHER}/${NONE}"}
job_types: {j: {handler: handlers.a.b}}
schedules:
  a: {job: j, every: 1h, payload: *feeds}
  b: {job: j, every: 1h, payload: *feeds}
"""


def test_an_unset_variable_behind_an_anchor_is_one_problem() -> None:
    """What several entries share is written once, so it is said once; two names in one text are two."""
    problems = load(ANCHORED).problems
    assert [(problem.line, problem.message) for problem in problems] == [
        (2, "the environment has no NEITHER, which schedules.a.payload.url refers to"),
        (2, "the environment has no NONE, which schedules.a.payload.url refers to"),
    ]


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("${A} ${B:-c}", [Variable("A"), Variable("B", "c")]),
        ("${{steps.a-b.result}}", [StepResult("a-b")]),
        ("${{ steps.a.result.items.0.id }}", [StepResult("a", ("items", "0", "id"))]),
        ("$${A}", []),
        ("${1A}", [Malformed("${1A}")]),
        ("${", [Malformed("${")]),
        ("${{ steps.a.results }}", [Malformed("${{ steps.a.results }}")]),
        ("${{ steps.a.result | upper }}", [Malformed("${{ steps.a.result | upper }}")]),
        ("${A:+b}", [Malformed("${A:+b}")]),
    ],
)
def test_finding(text: str, references: list[object]) -> None:
    assert references_in({"k": [text]}) == references


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        *((name, True) for name in ("API_KEY", "KEY", "db_password", "GITHUB_TOKEN", "MY_SECRET_2")),
        *((name, False) for name in ("MONKEY", "KEYBOARD", "HOME")),
    ],
)
def test_names_that_look_secret(name: str, is_secret: bool) -> None:
    assert Variable(name).looks_secret is is_secret


STEPS = """\
version: 1
job_types:
  a: {handler: handlers.a.b}
  b: {handler: handlers.a.b, payload_schema: {required: [n, ids], properties: {n: {type: integer}, ids: {minItems: 1}}}}
workflows:
  w:
    steps:
      one: {job: a}
      two: {job: a, needs: one}
      three: {job: b, needs: [two], payload: {n: "${{ steps.one.result.n }}", ids: ["${{ steps.two.result.id }}"]}}
"""


def test_what_a_step_will_give_is_not_checked_before_it_is_there() -> None:
    assert load(STEPS).problems == []


def test_the_rest_of_such_a_payload_is_checked() -> None:
    problems = load(STEPS.replace("ids: [", "idz: [")).problems
    assert [(problem.code, problem.hint) for problem in problems] == [("payload", 'did you mean "ids"?')]


def test_a_payload_is_checked_with_the_values_of_the_environment() -> None:
    text = (
        "version: 1\njob_types: {j: {handler: handlers.a.b, payload_schema: {properties: {m: {enum: [fast]}}}}}\n"
        "schedules: {s: {job: j, every: 1h, payload: {m: '${MODE}'}}}\n"
    )
    loaded = load(text, MODE="fast")
    assert loaded.problems == []
    assert loaded.definitions is not None
    assert loaded.definitions.schedules["s"].payload == {"m": "${MODE}"}, "the definitions keep the reference"
    assert [problem.code for problem in load(text, MODE="slow").problems] == ["payload"]


def test_anchors_at_the_top_may_hold_references() -> None:
    assert load("version: 1\nx-a: '${NOT_SET}'\n").problems == []
