"""A payload gets its defaults, and what does not fit is said in plain words with its path."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runner.config.payload import check, complete

NESTED = {
    "$defs": {"feed": {"type": "object", "properties": {"url": {"type": "string"}, "depth": {"default": 2}}}},
    "properties": {
        "feeds": {"type": "array", "items": {"$ref": "#/$defs/feed"}},
        "options": {"default": {}, "properties": {"dry": {"default": False}, "tags": {"default": ["a"]}}},
        "limit": {"allOf": [{"type": "integer", "default": 10}]},
        "pair": {"prefixItems": [{"properties": {"x": {"default": 1}}}]},
    },
}


@pytest.mark.parametrize(
    ("schema", "payload", "completed"),
    [
        (None, {"a": 1}, {"a": 1}),
        ({}, {}, {}),
        ({"properties": {"a": {"default": 1}}}, {}, {"a": 1}),
        ({"properties": {"a": {"default": 1}}}, {"a": None}, {"a": None}),
        ({"properties": {"a": {"properties": {"b": {"default": 1}}}}}, {}, {}),
        ({"additionalProperties": {"properties": {"b": {"default": 1}}}}, {"x": {}}, {"x": {"b": 1}}),
        ({"properties": {"a": {"$ref": "#", "default": {}}}}, "deep", None),
        (
            NESTED,
            {"feeds": [{"url": "x"}, {"depth": 3}], "pair": [{}]},
            {
                "feeds": [{"url": "x", "depth": 2}, {"depth": 3}],
                "options": {"dry": False, "tags": ["a"]},
                "limit": 10,
                "pair": [{"x": 1}],
            },
        ),
    ],
)
def test_defaults_fill_what_is_missing_and_nothing_else(schema: Any, payload: Any, completed: Any) -> None:
    if payload == "deep":
        assert complete(schema, {})["a"]["a"]["a"], "a default that contains itself ends somewhere"
    else:
        assert complete(schema, payload) == completed


def test_completing_leaves_the_payload_and_the_schema_alone() -> None:
    schema = {"properties": {"tags": {"default": ["a"]}, "inner": {"properties": {"x": {"default": 1}}}}}
    payload: dict[str, Any] = {"inner": {}}
    first = complete(schema, payload)
    first["tags"].append("b")
    assert payload == {"inner": {}}
    assert complete(schema, payload) == {"inner": {"x": 1}, "tags": ["a"]}


CLOSED = {"properties": {"a": {}}}


@pytest.mark.parametrize(
    ("schema", "payload", "messages"),
    [
        (None, {"anything": 1}, []),
        ({}, {"a": 1}, [("a", 'unknown field "a" in the payload')]),
        (CLOSED, {"a": 1}, []),
        (CLOSED, {"b": 1}, [("b", 'unknown field "b" in the payload')]),
        ({**CLOSED, "additionalProperties": True}, {"b": 1}, []),
        ({"patternProperties": {"^x": {}}}, {"xa": 1, "ya": 1}, [("ya", 'unknown field "ya" in the payload')]),
        ({"allOf": [CLOSED], "properties": {"b": {}}}, {"a": 1, "b": 1}, []),
        ({"allOf": [CLOSED], "properties": {"b": {}}}, {"a": 1, "c": 1}, [("c", 'unknown field "c" in the payload')]),
        ({"$ref": "#/$defs/d", "$defs": {"d": CLOSED}}, {"c": 1}, [("c", 'unknown field "c" in the payload')]),
        ({"required": ["a"], **CLOSED}, {}, [("", "a is missing in the payload")]),
        ({"properties": {"a": {"type": "array"}}}, {"a": "x"}, [("a", "a must be a list, not text")]),
        (
            {"properties": {"a": {"type": "integer", "enum": [1, 2]}}},
            {"a": "1"},
            [("a", "a must be a whole number, not text")],
        ),
        ({"properties": {"a": {"minItems": 2}}}, {"a": [1]}, [("a", "a has 1 items; at least 2 are needed")]),
        ({"properties": {"a": {"exclusiveMinimum": 0}}}, {"a": 0}, [("a", "a must be more than 0, not 0")]),
        ({"properties": {"a": {"multipleOf": 5}}}, {"a": 7}, [("a", "a must be a multiple of 5, not 7")]),
        ({"properties": {"a": {"enum": ["x", "y"]}}}, {"a": "z"}, [("a", 'a cannot be "z"')]),
        ({"properties": {"a": {"const": 1}}}, {"a": 2}, [("a", "a must be 1, not 2")]),
        ({"properties": {"a": {"pattern": "^x"}}}, {"a": "y"}, [("a", '"y" does not have the form ^x')]),
        (
            {"properties": {"a": {"format": "date"}}},
            {"a": "x"},
            [("a", 'a must have the format date, not "x"')],
        ),
        (
            {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
            {"a": 1},
            [("a", "a must be text or nothing, not a whole number")],
        ),
        (
            {"properties": {"a": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}}},
            {"a": ["x", 1]},
            [("a[1]", "a[1] must be text, not a whole number")],
        ),
        ({"properties": {"a": {"not": {"const": 1}}}}, {"a": 1}, [("a", "a does not fit: 1")]),
        ({}, ["a"], [("", "the payload must be a mapping, not a list")]),
        (None, "text", [("", "the payload must be a mapping, not text")]),
    ],
)
def test_what_does_not_fit_is_said_with_its_path(schema: Any, payload: Any, messages: list[tuple[str, str]]) -> None:
    problems = check(schema, payload)
    assert [(problem.path, problem.message) for problem in problems] == messages
    assert {problem.code for problem in problems} <= {"payload"}


def test_a_misspelt_key_is_one_problem_with_a_hint() -> None:
    problems = check({"required": ["feeds"], "properties": {"feeds": {}}}, {"feds": []})
    assert [(problem.message, problem.hint) for problem in problems] == [
        ('unknown field "feds" in the payload', 'did you mean "feeds"?')
    ]


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, "a\0b", "\ud800", {1: 2}, {"a\0": 1}, {"\udfff": 1}, b"bytes", object(), (1, 2), {1, 2}],
    ids=repr,
)
def test_what_json_and_the_databases_cannot_carry_is_refused(value: Any) -> None:
    assert {problem.code for problem in check(None, {"a": [value]})} == {"payload"}


def test_a_payload_that_is_nested_too_deep_is_refused() -> None:
    payload: dict[str, Any] = {}
    for _ in range(5000):
        payload = {"a": payload}
    assert [problem.code for problem in check(None, payload)] == ["payload"]


def test_references_that_multiply_end_soon() -> None:
    doubling = {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
    payload: dict[str, Any] = {}
    for _ in range(60):
        payload = {"a": payload}
    assert [problem.code for problem in check(doubling, payload)] == ["payload-schema"]


def test_a_long_list_of_referenced_items_is_checked_to_its_end() -> None:
    schema = {"$defs": {"t": {"type": "string"}}, "properties": {"a": {"items": {"$ref": "#/$defs/t"}}}}
    payload = {"a": ["x"] * 9_999 + [1]}
    assert [problem.path for problem in check(schema, payload)] == ["a[9999]"]


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    schema = {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}}
    assert [problem.code for problem in check(schema, {"a": 1})] == ["payload-schema"]
