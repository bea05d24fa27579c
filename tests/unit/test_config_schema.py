"""The schema describes every field, and a mistake in any of them is found at the scalar or key that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from runner.config.merge import priority
from runner.config.schema import load_schema, schema_path
from runner.domain.duration import parse_duration
from runner.domain.retry import RetryPolicy
from runner.domain.schedule import Definitions, JobType, NotifyTarget, RunnerOptions, Schedule, Unique
from runner.domain.workflow import Step, Workflow
from tests.unit.config_texts import EVERY_FIELD, Path, Raw, Written, load, write

SCHEMA = load_schema()
SAMPLES = {"string": "?", "integer": 7, "number": 7.5, "boolean": True, "array": [7], "object": {"a": 7}, "null": None}
CODES = {"wrong-type", "value", "duration", "timestamp", "range", "handler-path", "name", "timezone", "cron", "version"}
CODES |= {"unknown-field", "unknown-job", "unknown-workflow", "unknown-limit", "unknown-notify", "unknown-step"}
CODES |= {"webhook", "empty-value", "size"}


def resolved(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules of a field with its references followed."""
    for entry in [rules, *rules.get("allOf", [])]:
        if "$ref" in entry:
            rules = {**SCHEMA["definitions"][entry["$ref"].rsplit("/", 1)[-1]], **rules}
    return rules


def is_reserved(rules: dict[str, Any]) -> bool:
    return "not" in rules


def walk(rules: dict[str, Any], data: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every place of the file with every field, with the rules that hold there."""
    rules = resolved(rules)
    yield path, rules
    if isinstance(data, dict):
        for key, value in data.items():
            child = rules.get("properties", {}).get(key, rules.get("additionalProperties"))
            if isinstance(child, dict):
                yield from walk(child, value, (*path, key))
    elif isinstance(data, list) and "items" in rules:
        for index, item in enumerate(data):
            yield from walk(rules["items"], item, (*path, index))


PLACES = dict(walk(SCHEMA, EVERY_FIELD))
VALUES = [path for path in PLACES if path]


def bad_values(rules: dict[str, Any]) -> list[Any]:
    """Values of every type that does not fit, and values next to the ends of the range."""
    types = rules.get("type", list(SAMPLES))
    allowed = {types} if isinstance(types, str) else set(types)
    if "number" in allowed:
        allowed.add("integer")
    bad = [sample for name, sample in SAMPLES.items() if name not in allowed]
    bad += [rules[bound] + step for bound, step in (("minimum", -1), ("maximum", 1)) if bound in rules]
    if "enum" in rules or "const" in rules or resolved(rules).get("pattern"):
        bad.append("no such thing" if "string" in allowed else 99)
    return bad


def value_at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def broken(path: Path, value: Any) -> dict[str, Any]:
    data = deepcopy(EVERY_FIELD)
    value_at(data, path[:-1])[path[-1]] = value
    return data


def assert_only_at(written: Written, place: tuple[int, int], what: Any) -> None:
    problems = [problem for problem in load(written.text).problems if problem.is_error]
    assert {(problem.line, problem.column) for problem in problems} == {place}, (what, problems)
    assert {problem.code for problem in problems} <= CODES, (what, problems)


CLOSED = [path for path, rules in PLACES.items() if rules.get("additionalProperties") is False and path]
MAPPINGS = [path for path in CLOSED if isinstance(value_at(EVERY_FIELD, path), dict)]  # not `retry: false`


def identify(path: Path) -> str:
    return ".".join(map(str, path)) or "file"


def test_the_file_with_every_field_is_valid_and_has_every_field() -> None:
    assert load(write(EVERY_FIELD).text).problems == []
    known = {path for path, rules in PLACES.items() for path in [(*path, name) for name in names_of(rules)]}
    assert known - set(PLACES) - OTHERWISE == set()


def names_of(rules: dict[str, Any]) -> list[str]:
    return [name for name, child in rules.get("properties", {}).items() if not is_reserved(child)]


# Fields that exclude one that stands there, or that stand in a sibling.
OTHERWISE: set[Path] = {
    *(("job_types", "fetch", "retry", name) for name in resolved(SCHEMA["definitions"]["retry"])["properties"]),
    *(("schedules", "nightly", name) for name in SCHEMA["definitions"]["schedule"]["properties"]),
    *(("schedules", "hourly", name) for name in ("workflow", "every")),
    *(("schedules", "hourly", "retry", name) for name in SCHEMA["definitions"]["retry"]["properties"]),
    *(("workflows", "digest", "steps", "one", name) for name in SCHEMA["definitions"]["step"]["properties"]),
    *(("workflows", "digest", "steps", "two", "retry", name) for name in SCHEMA["definitions"]["retry"]["properties"]),
}


@pytest.mark.parametrize("path", VALUES, ids=identify)
def test_a_wrong_value_is_found_where_it_stands(path: Path) -> None:
    for bad in bad_values(PLACES[path]):
        written = write(broken(path, bad))
        assert_only_at(written, written.values[path], bad)


@pytest.mark.parametrize("path", VALUES, ids=identify)
def test_a_wrong_value_behind_an_alias_is_found_at_the_anchor(path: Path) -> None:
    for bad in bad_values(PLACES[path]):
        written = write({"x-bad": bad, **broken(path, Raw("*bad"))}, {"x-bad": "bad"})
        if isinstance(bad, dict):
            written = write({"x-bad": Raw('{"a": 7}'), **broken(path, Raw("*bad"))}, {"x-bad": "bad"})
        assert_only_at(written, written.values[("x-bad",)], bad)


@pytest.mark.parametrize("path", [path for path in VALUES if isinstance(path[-1], str)], ids=identify)
def test_a_wrong_value_behind_a_merge_key_is_found_where_it_is_written(path: Path) -> None:
    for bad in bad_values(PLACES[path]):
        data = deepcopy(EVERY_FIELD)
        parent = value_at(data, path[:-1])
        del parent[path[-1]]
        parent["<<"] = Raw("*merged")
        written = write({"x-merged": {str(path[-1]): bad}, **data}, {"x-merged": "merged"})
        assert_only_at(written, written.values[("x-merged", path[-1])], bad)


@pytest.mark.parametrize("path", MAPPINGS, ids=identify)
def test_an_unknown_key_is_found_at_the_key(path: Path) -> None:
    written = write(broken((*path, "nonsense"), 1))
    assert_only_at(written, written.keys[(*path, "nonsense")], path)
    data = broken((*path, "<<"), Raw("*merged"))
    written = write({"x-merged": {"nonsense": 1}, **data}, {"x-merged": "merged"})
    assert_only_at(written, written.keys[("x-merged", "nonsense")], path)


def reserved_fields() -> list[Path]:
    return [
        (*path, name)
        for path, rules in PLACES.items()
        for name, child in rules.get("properties", {}).items()
        if is_reserved(child)
    ]


@pytest.mark.parametrize("path", reserved_fields(), ids=identify)
def test_a_reserved_name_comes_later(path: Path) -> None:
    data = broken(path[:-1], {path[-1]: 1}) if path[0] == "limits" else broken(path, 1)
    written = write(data)
    problems = load(written.text).problems
    assert [(p.code, (p.line, p.column)) for p in problems] == [("reserved", written.keys[path])]
    assert "comes later" in problems[0].message


RESERVED = """
    for_each max_parallel workflow rate by slots deadline quarantine max_queue_depth idempotent retention quotas
"""


def test_all_reserved_names_of_the_format_are_known() -> None:
    assert {path[-1] for path in reserved_fields()} == set(RESERVED.split())


def test_the_schema_is_a_draft_07_schema_and_its_examples_fit() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for path, rules in PLACES.items():
        for example in rules.get("examples", []):
            validator = jsonschema.Draft7Validator({"definitions": SCHEMA["definitions"], **rules})
            assert not list(validator.iter_errors(example)), (path, example)


def descriptions(node: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        yield (*path, name), child
        yield from descriptions(child, (*path, name))
    for name, child in node.get("definitions", {}).items():
        yield from descriptions(child, (name,))


def test_every_field_has_a_description() -> None:
    assert [path for path, rules in descriptions(SCHEMA) if len(rules.get("description", "")) < 10] == []


def test_no_unions_that_would_hide_the_reason() -> None:
    text = schema_path().read_text()
    assert '"oneOf"' not in text
    assert '"anyOf"' not in text


READ = {"priority": priority, "delay": lambda written: (parse_duration(written),)}
OF_JOB_TYPE = set(SCHEMA["definitions"]["defaults"]["properties"])


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ("runner", RunnerOptions),
        ("retry", RetryPolicy),
        ("defaults", JobType),
        ("job_type", JobType),
        ("schedule", Schedule),
        ("step", Step),
        ("workflow", Workflow),
        ("notify_target", NotifyTarget),
        ("unique", Unique),
    ],
)
def test_the_defaults_of_the_schema_are_those_of_the_objects(definition: str, kind: Any) -> None:
    rules = SCHEMA["definitions"][definition]["properties"]
    own = {field.name: field for field in fields(kind)}
    for name, described in rules.items():
        if is_reserved(described):
            continue
        field = own[{"from": "starts"}.get(name, name)]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        is_said_elsewhere = name == "retry" or (definition == "job_type" and name in OF_JOB_TYPE) or name == "timezone"
        if default in (MISSING, None) or is_said_elsewhere or name == "cron":
            assert "default" not in described, name
        else:
            assert same(name, described["default"], default), name


def same(name: str, written: Any, default: Any) -> bool:
    """Whether the text in the schema means the value in the object."""
    if name in READ:
        return READ[name](written) == default
    if isinstance(default, timedelta):
        return parse_duration(written) == default
    return written == (list(default) if isinstance(default, tuple) else default)


def test_the_defaults_at_the_top_are_those_of_the_definitions() -> None:
    assert SCHEMA["properties"]["version"]["default"] == Definitions().version
    assert SCHEMA["properties"]["timezone"]["default"] == Definitions().timezone


def test_every_field_of_the_objects_stands_in_the_schema() -> None:
    for definition, kind in (("job_type", JobType), ("schedule", Schedule), ("step", Step), ("workflow", Workflow)):
        names = {{"starts": "from"}.get(field.name, field.name) for field in fields(kind)} - {"name"}
        assert names == {
            n for n, rules in SCHEMA["definitions"][definition]["properties"].items() if not is_reserved(rules)
        }
