"""No input makes the loader raise: there are definitions, or there are problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.config import Loaded
from runner.config.codes import CODES
from runner.config.document import MAX_PROBLEMS
from runner.config.payload import check, complete
from runner.config.payload_schema import check_schema
from runner.config.report import as_github, as_json, as_text
from tests.unit.config_texts import EVERY_FIELD, load, write

SAMPLE = Path(__file__).with_name("config_files") / "sample.yaml"
VALID = [SAMPLE.read_text(), write(EVERY_FIELD).text]
SOME = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def assert_sound(loaded: Loaded) -> None:
    """Definitions exactly where nothing is an error; each problem inside of the text, with a listed code, in order."""
    lines = loaded.source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert (loaded.definitions is None) == any(problem.is_error for problem in loaded.problems)
    assert len(loaded.problems) <= MAX_PROBLEMS
    assert [(p.line, p.column) for p in loaded.problems] == sorted((p.line, p.column) for p in loaded.problems)
    for problem in loaded.problems:
        assert problem.code in CODES
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, (problem, lines[problem.line - 1])
    as_text(loaded.problems, loaded.source, "f").encode()
    as_github(loaded.problems, "f")
    as_json(loaded.problems)


@SOME
@given(st.text())
def test_any_text(text: str) -> None:
    assert_sound(load(text))


@SOME
@given(st.binary())
def test_any_bytes(raw: bytes) -> None:
    assert_sound(load(raw))


@SOME
@given(st.text(alphabet="ab:- \n\t{}[]&*!|>'\"#%@`,?<~0.$", max_size=80))
def test_any_text_of_the_characters_of_yaml(text: str) -> None:
    assert_sound(load(text))
    assert_sound(load(f"version: 1\nx-a: {text}"))


@SOME
@given(st.sampled_from(VALID), st.data())
def test_a_valid_file_with_pieces_cut_moved_and_put_in(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 60)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:]
    assert_sound(load(text))


PIECES = [
    *("", "", "\n", "  ", "\t", "{", "}", "[", "]", ": ", "&a ", "*a", "<<: ", "- ", "'", '"', "${", "${{ steps.a }}"),
    *("null", "~", "[]", "{}", "0", "-1", "1e400", ".nan", "x" * 300, "\ufeff", "\u2028", "\0", "é", "*/5 * * * *"),
]
TEXTS = ["", "1h", "fetch", "ops", "one", "high", "false", "* * * * *", "${A}", "${{ steps.one.result }}"]
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.sampled_from(TEXTS) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@SOME
@given(st.data())
def test_any_value_in_any_field(data: st.DataObject) -> None:
    copy = yaml.safe_load(write(EVERY_FIELD).text)
    node, parent, key = copy, copy, "version"
    while isinstance(node, dict | list) and node:
        parent = node
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        node = parent[key]
        if data.draw(st.integers(0, 3)) == 0:
            break
    parent[key] = data.draw(values)
    assert_sound(load(yaml.safe_dump(copy, allow_unicode=data.draw(st.booleans()))))


KEYWORDS = """
    type properties required items $ref $defs allOf anyOf not if then enum const pattern default minimum prefixItems
    additionalProperties unevaluatedProperties uniqueItems
"""
WORDS = ["object", "string", "#", "#/$defs/a", "#/properties/a", "^a", "(", "a{9999999999}", True, False, 1, None]
keywords = st.sampled_from(KEYWORDS.split())
schema_values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords | st.sampled_from("ab"), inner, max_size=4),
    max_leaves=12,
)


@SOME
@given(st.dictionaries(keywords, schema_values, max_size=5), st.dictionaries(st.sampled_from("ab"), values, max_size=3))
def test_any_payload_schema_is_refused_or_can_be_used(schema: dict[str, Any], payload: dict[str, Any]) -> None:
    types = {"fetch": {"handler": "handlers.a.b", "payload_schema": schema}}
    assert_sound(load(yaml.safe_dump({**EVERY_FIELD, "job_types": types})))
    if not check_schema(schema):
        check(schema, complete(schema, payload))
