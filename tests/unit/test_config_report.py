"""Problems as people and programs read them."""

from __future__ import annotations

import json

from syrupy.assertion import SnapshotAssertion

from runner.config.report import as_github, as_json, as_text
from runner.domain.problem import Problem
from tests.unit.config_texts import load
from tests.unit.test_config_problems import EIGHT


def test_the_text_of_eight_mistakes(snapshot: SnapshotAssertion) -> None:
    loaded = load(EIGHT)
    assert as_text(loaded.problems, loaded.source, "schedules.yaml") == snapshot


def test_the_annotations_of_eight_mistakes(snapshot: SnapshotAssertion) -> None:
    assert as_github(load(EIGHT).problems, "schedules.yaml") == snapshot


def test_the_json_of_eight_mistakes(snapshot: SnapshotAssertion) -> None:
    document = as_json(load(EIGHT).problems)
    assert json.loads(json.dumps(document)) == document
    assert document == snapshot


def test_no_problems_are_no_text() -> None:
    assert as_text([], "version: 1\n", "f") == ""
    assert as_github([], "f") == ""
    assert as_json([]) == {"format_version": 1, "problems": []}


def test_the_caret_stands_under_the_column_behind_tabs_and_wide_characters() -> None:
    source = "a:\t日本: x\n"
    text = as_text([Problem("code", "m", 1, 8)], source, "f")
    assert text.splitlines()[1:] == ["  1 | a:\t日本: x", "    |   \t      ^"]


def test_a_long_line_is_shown_around_the_column() -> None:
    source = "a: [" + "x, " * 50_000 + "]"
    _, line, caret = as_text([Problem("code", "m", 1, 90_001)], source, "f").splitlines()
    assert len(line) < 200
    assert line[caret.index("^")] == source[90_000]


def test_what_stands_in_the_file_cannot_drive_the_terminal() -> None:
    text = as_text([Problem("code", "bad \x1b[31mname", 1, 1, hint="a\x07b")], "a: \x1b[31m\n", "f\x1b")
    assert not any(char in text for char in "\x1b\x07")


def test_a_place_behind_the_end_of_the_source_has_no_excerpt() -> None:
    assert as_text([Problem("file", "there is no file x")], "", "x") == "x:1:1: error[file]: there is no file x\n"


def test_more_problems_than_anyone_reads_are_counted() -> None:
    problems = [Problem("code", f"number {n}", n) for n in range(1, 100)]
    assert as_text(problems, "a\n" * 100, "f").endswith("\nf: and 49 more\n")


def test_annotations_are_escaped_and_errors_come_first() -> None:
    problems = [
        Problem("w", "100% a,b:c", 1, 2, severity="warning"),
        Problem("e", "two\nlines", 3, 4, hint="help\r"),
    ]
    assert as_github(problems, "dir,1/a:b.yaml").splitlines() == [
        "::error file=dir%2C1/a%3Ab.yaml,line=3,col=4,title=runner%3A e::two%0Alines%0Ahelp%0D",
        "::warning file=dir%2C1/a%3Ab.yaml,line=1,col=2,title=runner%3A w::100%25 a,b:c",
    ]
