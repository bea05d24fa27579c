"""YAML by the core rules of version 1.2, with the place of everything, and nothing that can be made to explode."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml

from runner.config import document as reading
from runner.config.document import read_document
from runner.config.places import Document, dotted


def read(text: str | bytes) -> Document:
    document, problems = read_document(text)
    assert document is not None
    assert problems == []
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("12:30:45", "12:30:45"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("+7", 7),
        ("-7", -7),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".", "."),
        ("-", ["-"]),
        ("+", "+"),
        ("2026-03-01", "2026-03-01"),
        ("2026-03-01T06:00:00Z", "2026-03-01T06:00:00Z"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("", None),
        ('"1"', "1"),
        ("'true'", "true"),
        ("=", "="),
        ("<<", "<<"),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_plain_text_is_what_the_core_rules_say(text: str, value: Any) -> None:
    if value == ["-"]:
        assert read(f"a: ['{text}']").data == {"a": value}
    else:
        assert read(f"a: {text}").data == {"a": value}


def test_both_parsers_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x [1, {b: on}]\nc: *x\nd: |\n  text\ne: {<<: {f: 1}, f: 2}\ncron: */5 * * * *\n"
    with_c = read_document(text)
    monkeypatch.setattr(reading, "_Loader", yaml.SafeLoader)
    without = read_document(text)
    assert with_c[1] == without[1] != []
    assert with_c[0] is not None
    assert without[0] is not None
    assert with_c[0].data == without[0].data
    assert places(with_c[0]) == places(without[0])


def places(document: Document) -> dict[str, tuple[int, int]]:
    return {dotted(path): tuple(document.place(path)) for path, _ in document.nodes()}


def test_every_key_and_value_has_its_place() -> None:
    document = read("top:\n  - one\n  - {a: 1,  b:   2}\n'q':   &x  7\nr: *x\n")
    assert places(document) == {
        "": (1, 1),
        "top": (2, 3),
        "top[0]": (2, 5),
        "top[1]": (3, 5),
        "top[1].a": (3, 9),
        "top[1].b": (3, 18),
        "q": (4, 12),
        "r": (4, 12),
    }
    assert document.key_place(("top", 1, "b")) == (3, 13)
    assert document.key_place(("r",)) == (5, 1)
    assert document.key_place(("top", 0)) == (2, 5)


def test_what_is_not_there_has_the_place_of_what_is_above_it() -> None:
    document = read("a:\n  b: {c: 1}\n")
    assert document.place(("a", "b", "x", "y")) == (2, 6)
    assert document.key_place(("a", "b", "x", "y")) == (2, 3)
    assert document.key_place(("x",)) == (1, 1)


def test_an_empty_value_is_pointed_at_by_its_key() -> None:
    assert read("a: 1\nbb:\n").place(("bb",)) == (2, 1)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_editors_do(newline: str) -> None:
    document = read(newline.join(["\ufeffa: 'x\u2028y'", "", "b: é😀", "c: [1, 😀, 2]"]))
    assert document.place(("b",)) == (3, 4)
    assert document.place(("c", 2)) == (4, 11)


def test_explicit_keys_win_over_merged_ones_and_earlier_sources_over_later_ones() -> None:
    document = read("x: &x {a: 1, b: 1, c: 1}\ny: &y {b: 2, c: 2, d: 2}\nz: {<<: [*y, *x], c: 3}\n")
    assert document.data["z"] == {"a": 1, "b": 2, "c": 3, "d": 2}
    assert [document.place(("z", key)) for key in "abcd"] == [(1, 11), (2, 11), (3, 22), (2, 23)]
    assert document.key_place(("z", "a")) == (1, 8)


def alias_bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


def merge_bomb() -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{n + 1}: &a{n + 1} {{k{n}: 1, <<: [{', '.join([f'*a{n}'] * 9)}]}}" for n in range(12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (alias_bomb(), "too-large"),
        (merge_bomb(), "too-large"),
        ("[" + "a," * 200_000 + "]", "too-large"),
        ("a: " + "x" * 1024 * 1024, "too-large"),
        ("[" * 100_000, "too-deep"),
        ("- " * 100_000, "too-deep"),
        ("{a: " * 100_000, "too-deep"),
        ("? " * 1000, "too-deep"),
    ],
    ids=["aliases", "merge keys", "a long list", "a long file", "brackets", "dashes", "braces", "question marks"],
)
def test_what_would_explode_is_refused_before_anything_is_built(text: str, code: str) -> None:
    document, problems = read_document(text)
    assert document is None
    assert [problem.code for problem in problems] == [code]


def test_depth_is_counted_through_aliases() -> None:
    lines = [f"a0: &a0 {'[' * 30}1{']' * 30}"]
    lines += [f"a{n + 1}: &a{n + 1} {'[' * 30}*a{n}{']' * 30}" for n in range(3)]
    _, problems = read_document("\n".join(lines))
    assert [(problem.code, problem.line) for problem in problems] == [("too-deep", 3)]


def test_64_levels_are_read() -> None:
    assert read("[" * 64 + "]" * 64).data


def test_reading_needs_no_deep_stack() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(__import__("inspect").stack()) + 60)
    try:
        assert read_document("[" * 5000)[1][0].code == "too-deep"
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"a: \xff", 1, 4),
        (b"\xef\xbb\xbfa: 1\r\nb: \xe9t\xe9", 2, 4),
        (b"a: b\n\x00", 2, 1),
        ("a: \ud800", 1, 4),
        ("a: 1\nb: \x1b[0m", 2, 4),
        ("a: 1".encode("utf-16"), 1, 1),
        (b"\xef\xbb\xbf\xef\xbb\xbfa: 1", 1, 1),
    ],
)
def test_characters_that_cannot_stand_in_a_file(raw: str | bytes, line: int, column: int) -> None:
    document, problems = read_document(raw)
    assert document is None
    assert [(problem.code, problem.line, problem.column) for problem in problems] == [("encoding", line, column)]


@pytest.mark.parametrize(
    ("line", "fixed"),
    [
        ("cron: */5 * * * *", 'cron: "*/5 * * * *"'),
        ("cron: * * * * *  # often", 'cron: "* * * * *"  # often'),
        ("cron: @daily", 'cron: "@daily"'),
        ("- */5 * * * mon-fri", '- "*/5 * * * mon-fri"'),
        ("cron: [*/5 * * * *, 0 6 * * *]", 'cron: ["*/5 * * * *", 0 6 * * *]'),
        ("s: {job: j, cron: */5 * * * *}", 's: {job: j, cron: "*/5 * * * *"}'),
        ("s: {cron: */5,10 * * * *, job: j}", 's: {cron: "*/5,10 * * * *", job: j}'),
        ("cron: *5 * * * *", 'cron: "*5 * * * *"'),
        ("cron: */2 * * * * *", 'cron: "*/2 * * * * *"'),
    ],
)
def test_a_cron_text_without_quotes_is_shown_with_them(line: str, fixed: str) -> None:
    document, problems = read_document(line)
    assert [(problem.code, problem.hint) for problem in problems] == [("unquoted-cron", f"write: {fixed}")]
    assert document is not None
    assert document.data == read(fixed).data
    first, _, rest = fixed.partition('"')
    assert (problems[0].line, problems[0].column) == (1, len(first) + 1)
    assert rest


def test_places_behind_a_repaired_line_are_those_of_the_file() -> None:
    document, problems = read_document("a: {cron: @daily, b: 1}\nc: {cron: */5 * * * *, d: 2}\ne: 3\n")
    assert document is not None
    assert [(problem.line, problem.column) for problem in problems] == [(1, 11), (2, 11)]
    assert [document.place(path) for path in (("a", "b"), ("c", "d"), ("e",))] == [(1, 22), (2, 27), (3, 4)]


def test_a_pile_of_repairs_ends() -> None:
    _, problems = read_document("\n".join(f"a{n}: */5 * * * *" for n in range(1000)))
    assert [problem.code for problem in problems] == ["unquoted-cron"] * reading.MAX_REPAIRS + ["yaml"]


def test_problems_are_capped() -> None:
    _, problems = read_document("\n".join("a: 1" for _ in range(5000)))
    assert len(problems) == reading.MAX_PROBLEMS
