"""Every mistake gets a stable code at the right place, all mistakes at once, in file order."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config import load as load_path
from runner.config import load_text
from runner.config.codes import CODES
from runner.domain.schedule import Definitions
from tests.unit.config_texts import found, load

TOP = "version: 1\njob_types: {j: {handler: handlers.a.b}, k: {handler: handlers.a.b}}\n"
DIGEST = f"{TOP}workflows: {{w: {{steps: {{a: {{job: j}}}}}}}}\n"
TWO_OF_ONE = f"""{TOP}schedules:
  a: {{job: j, every: 1h, renamed_from: x}}
  b: {{job: j, every: 1h, renamed_from: ¶x}}
"""


def schedule(fields: str, more: str = "") -> str:
    return f"{TOP}schedules: {{s: {{job: j, {fields}}}}}\n{more}"


def job_type(fields: str) -> str:
    return f"version: 1\njob_types: {{j: {{handler: handlers.a.b, {fields}}}}}\n"


def workflow(steps: str) -> str:
    return f"{TOP}workflows: {{w: {{steps: {{{steps}}}}}}}\n"


def payload(schema: str, text: str) -> str:
    head = f"version: 1\njob_types: {{j: {{handler: handlers.a.b, payload_schema: {schema}}}}}\n"
    return f"{head}schedules: {{s: {{job: j, every: 1h, payload: {text}}}}}\n"


# The code, and the text with a mark before the offending scalar or key.
MISTAKES = [
    ("empty", "¶"),
    ("empty", "¶# nothing but a comment\n"),
    ("encoding", "a: ¶\x07"),
    ("encoding", 'version: 1\nx-a: ¶"\\0"'),
    ("too-large", "¶" + "#" * 1024 * 1024 + "\n"),
    ("too-deep", "[" * 64 + "¶[" + "]" * 65),
    ("yaml", "a: ¶'b"),
    ("yaml", "a: b¶: c"),
    ("yaml", "¶\ta: b"),
    ("yaml", "a: {b: c\nd¶: e"),
    ("unquoted-cron", schedule("cron: ¶*/5 * * * *")),
    ("unquoted-cron", schedule("cron: ¶@daily")),
    ("unquoted-cron", f"{TOP}schedules:\n  s:\n    job: j\n    cron: ¶* * * * *   # often\n"),
    ("unquoted-cron", f"{TOP}schedules:\n  s:\n    job: j\n    cron:\n      - ¶*/7 * * * *\n"),
    ("unquoted-cron", schedule("cron: [¶@daily, '0 6 * * *']")),
    ("documents", "version: 1\n¶---\nversion: 1\n"),
    ("duplicate-key", "version: 1\nlimits: {a: 1, ¶a: 2}\n"),
    ("key", "version: 1\n¶12: x\n"),
    ("key", "version: 1\n¶yes: x\n".replace("yes", "true")),
    ("key", "version: 1\n? ¶[a, b]\n: x\n"),
    ("tag", "version: ¶!!int 1\n"),
    ("tag", "version: 1\nx-a: ¶!include other.yaml\n"),
    ("alias", "version: 1\nx-a: ¶*nowhere\n"),
    ("alias", "version: 1\nx-a: &a [¶*a]\n"),
    ("merge", "version: 1\nx-a: {<<: ¶3}\n"),
    ("number", "version: 1\nx-a: ¶.nan\n"),
    ("number", "version: 1\nx-a: ¶-.inf\n"),
    ("number", "version: 1\nx-a: ¶1e999\n"),
    ("number", f"version: 1\nx-a: ¶{'9' * 5000}\n"),
    ("number", "version: 1\nx-a: ¶9223372036854775808\n"),
    ("version", "version: ¶2\n"),
    ("wrong-type", 'version: ¶"1"\n'),
    ("wrong-type", "version: ¶true\n"),
    ("unknown-field", schedule('every: 1h, ¶crom: "0 6 * * *"')),
    ("reserved", job_type("¶deadline: 1h")),
    ("reserved", workflow("a: {¶workflow: w}")),
    ("missing-field", "version: 1\njob_types: {¶j: {}}\n"),
    ("missing-field", "¶limits: {}\n"),
    ("wrong-type", job_type("limit: ¶[a]")),
    ("wrong-type", f"{TOP}¶schedules:\n"),
    ("wrong-type", "¶[a, b]"),
    ("value", job_type("priority: ¶hihg")),
    ("value", job_type("retry: ¶true")),
    ("range", job_type("priority: ¶11")),
    ("range", job_type("max_stalls: ¶-1")),
    ("range", f"version: 1\nlimits: {{¶{'a' * 101}: 1}}\n"),
    ("empty-value", schedule("cron: ¶[]")),
    ("duplicate-item", job_type("steps: [a, b, ¶a]")),
    ("name", "version: 1\nlimits: {¶a b: 1}\n"),
    ("duration", job_type("timeout: ¶600")),
    ("duration", job_type("timeout: ¶0s")),
    ("duration", schedule("every: ¶500ms")),
    ("duration", schedule("every: ¶1s500ms")),
    ("duration", job_type("retry: {delay: [1s, ¶2]}")),
    ("duration", "version: 1\nrunner: {retention: ¶9999999d}\n"),
    ("size", job_type("isolation: process, memory_limit: ¶512")),
    ("size", job_type("isolation: process, memory_limit: ¶512Mb")),
    ("size", job_type("isolation: process, memory_limit: ¶63MB")),
    ("size", job_type("isolation: process, memory_limit: ¶9999TiB")),
    ("range", job_type("isolation: process, nice: ¶20")),
    ("range", job_type("isolation: process, nice: ¶-1")),
    ("timestamp", schedule("every: 1h, from: ¶tomorrow")),
    ("timestamp", schedule("every: 1h, from: ¶0001-01-01")),
    ("handler-path", "version: 1\njob_types: {j: {handler: ¶fetch}}\n"),
    ("handler-package", "version: 1\njob_types: {j: {handler: ¶os.system}}\n"),
    ("handler-package", "version: 1\njob_types: {j: {handler: ¶handlers_evil.run}}\n"),
    ("unknown-job", f"{TOP}schedules: {{s: {{job: ¶jj, every: 1h}}}}\n"),
    ("unknown-job", workflow("a: {job: ¶jj}")),
    ("unknown-workflow", f"{TOP}schedules: {{s: {{workflow: ¶w, every: 1h}}}}\n"),
    ("unknown-step", workflow("a: {job: j, needs: ¶b}")),
    ("unknown-step", workflow("a: {job: j, needs: [¶b]}")),
    ("unknown-step", workflow('a: {job: j, payload: {x: ¶"${{ steps.b.result }}"}}')),
    ("unknown-limit", job_type("limit: ¶l")),
    ("unknown-notify", job_type("notify: [¶n]")),
    ("unknown-notify", "version: 1\ndefaults: {notify: [¶n]}\n"),
    ("unknown-key", job_type("payload_schema: {properties: {feed: {}}}, unique: {by: [¶fed]}")),
    ("cycle", workflow("a: {job: j, needs: ¶b}, b: {job: j, needs: [a]}")),
    ("cycle", workflow("a: {job: j, needs: ¶a}")),
    ("choice", schedule('cron: "0 6 * * *", ¶every: 1h')),
    ("choice", f"{TOP}schedules: {{¶s: {{job: j}}}}\n"),
    ("choice", f"{TOP}schedules: {{¶s: {{every: 1h}}}}\n"),
    ("conflict", DIGEST + "schedules: {s: {workflow: w, every: 1h, ¶payload: {}}}"),
    ("conflict", schedule("every: 1h, ¶clock_change: skip")),
    ("conflict", schedule("every: 1h, ¶day_match: any")),
    ("conflict", schedule("every: 1h, ¶seconds: true")),
    ("conflict", job_type("retry: {delay: [1s, 2s], ¶factor: 3}")),
    ("conflict", job_type("retry: {¶backoff: fixed, delay: [1s]}")),
    ("conflict", job_type("retry: {backoff: linear, ¶factor: 3}")),
    (
        "conflict",
        job_type("retry: {¶factor: 3}").replace("job_types", "defaults: {retry: {backoff: fixed}}\njob_types"),
    ),
    ("conflict", schedule("every: 1h, retry: {¶factor: 3}").replace("a.b}", "a.b, retry: {delay: [1s]}}")),
    ("conflict", workflow("a: {job: j, retry: {delay: [1s], ¶factor: 3}}")),
    ("conflict", job_type("¶nice: 5")),
    ("conflict", job_type("isolation: thread, ¶memory_limit: 512MB")),
    ("conflict", job_type("¶nice: 5").replace("job_types", "defaults: {isolation: async}\njob_types")),
    ("max-delay", job_type("retry: {delay: ¶1h}")),
    ("max-delay", job_type("retry: {delay: [1s, ¶1h, 10m]}")),
    ("max-delay", "version: 1\ndefaults: {retry: {delay: ¶2s, max_delay: 1s}}\n"),
    ("timezone", schedule("every: 1h, timezone: ¶CET+1")),
    ("timezone", "version: 1\ntimezone: ¶Europe/Berln\n"),
    ("cron", schedule('cron: ¶"0 25 * * *"')),
    ("cron", schedule('cron: ¶"0 0 30 2 *"')),
    ("cron", schedule('cron: ["0 6 * * *", ¶"nonsense"]')),
    ("cron", schedule('cron: ¶"0 6 * * *", seconds: true')),
    ("cron", schedule('cron: ¶"0 0 29 2 *", from: 2026-01-01, until: 2027-12-31')),
    ("cron", schedule('cron: ["0 6 * * *", ¶"0 6 1 7 *"], from: 2026-01-01, until: 2026-06-30')),
    ("cron-unusual", schedule('cron: ¶"*/7 * * * *"')),
    ("interval", schedule("every: 1h, from: 2026-02-01, until: ¶2026-01-01")),
    ("jitter", schedule("every: 1h, jitter: ¶30m")),
    ("jitter", schedule('cron: ["0 9 * * *", "30 9 * * *"], jitter: ¶15m')),
    ("stalled-after", "version: 1\nrunner: {heartbeat: 10s, stalled_after: ¶29s}\n"),
    ("stalled-after", "version: 1\nrunner: {heartbeat: ¶30s}\n"),
    ("renamed-from", schedule("every: 1h, renamed_from: ¶s")),
    (
        "renamed-from",
        f"{TOP}schedules:\n  a: {{job: j, every: 1h, renamed_from: x}}\n  b: {{job: j, every: 1h, renamed_from: ¶x}}\n",
    ),
    ("webhook", "version: 1\nnotify: {n: {webhook: ¶example.org}}\n"),
    ("reference", job_type("description: ¶'${HOME}'")),
    ("reference", schedule("every: 1h, payload: {a: ¶'${not a name}'}")),
    ("reference", schedule("every: 1h, payload: {a: ¶'${{ steps.a.result }}'}")),
    ("reference", workflow("a: {job: j, payload: {x: ¶'${{ env.HOME }}'}}")),
    ("reference", workflow("a: {job: j}, b: {job: j, payload: {x: ¶'${{ steps.a.result.b }}'}}")),
    ("unset-variable", schedule("every: 1h, payload: {a: [¶'${NOT_SET}']}")),
    ("unset-variable", "version: 1\nnotify: {n: {webhook: ¶'${NOT_SET}'}}\n"),
    ("secret-in-payload", schedule("every: 1h, payload: {a: ¶'${API_KEY:-x}'}")),
    ("payload", payload("{properties: {a: {type: array}}}", "{a: ¶text}")),
    ("payload", payload("{properties: {a: {type: array}}}", "{¶b: 1}")),
    ("payload", payload("{required: [a], properties: {a: {}}}", "{}").replace("payload: {}", "¶payload: {}")),
    ("payload", payload("{properties: {a: {items: {enum: [x, y]}}}}", "{a: [x, ¶z]}")),
    ("payload", payload("{properties: {a: {type: string, pattern: '^a'}}}", "{a: ¶b}")),
    ("payload", payload("{properties: {n: {type: integer}}}", "{n: ¶'${N:-5}'}")),
    ("payload-schema", payload("{properties: {a: {type: ¶arry}}}", "{a: text}")),
    ("payload-schema", payload("{properties: {a: {$ref: ¶'https://example.org/s.json'}}}", "{}")),
    ("payload-schema", payload("{properties: {a: {$ref: ¶'#/$defs/none'}}}", "{}")),
    ("payload-schema", payload("{allOf: [{$ref: ¶'#'}]}", "{}")),
    ("payload-schema", payload("{type: ¶array}", "{}")),
    ("payload-schema", payload("{properties: {a: {pattern: ¶'('}}}", "{}")),
    ("payload-schema", payload("{properties: {a: {type: integer, default: ¶x}}}", "{}")),
    ("payload-schema", payload("{¶requird: [], properties: {}}", "{}")),
    ("payload-schema", payload("{properties: {a: {¶$id: x}}}", "{}")),
    ("payload-schema", payload("{$schema: ¶'http://json-schema.org/draft-07/schema#'}", "{}")),
]


def split_mark(text: str) -> tuple[str, int, int]:
    before = text.partition("¶")[0]
    return text.replace("¶", ""), before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


@pytest.mark.parametrize(("code", "marked"), MISTAKES, ids=[f"{code}-{n}" for n, (code, _) in enumerate(MISTAKES)])
def test_one_mistake_is_one_problem_at_its_place(code: str, marked: str) -> None:
    text, line, column = split_mark(marked)
    loaded = load(text)
    assert found(loaded) == [(code, line, column)], loaded.problems
    problem = loaded.problems[0]
    assert (loaded.definitions is None) == problem.is_error
    assert not any(word in problem.message for word in ("schema(", "ValidationError", "additionalProperties", "yaml."))


def test_every_code_is_reached_and_every_reached_code_is_listed() -> None:
    assert {code for code, _ in MISTAKES} | {"file"} == set(CODES)


@pytest.mark.parametrize("version", ['"1"', "true", "'2'"])
def test_a_version_of_another_type_is_told_how_it_is_written(version: str) -> None:
    problem = load(f"version: {version}\n").problems[0]
    assert problem.message.startswith("version must be a whole number, not ")
    assert problem.hint == "write version: 1"


@pytest.mark.parametrize(
    ("retry", "said"),
    [
        ("delay: 1h", "delay (1h) is longer than max_delay (5m if left out), which cuts it: every wait is 5m"),
        ("delay: 1h, max_delay: 2m", "delay (1h) is longer than max_delay (2m), which cuts it: every wait is 2m"),
        (
            "delay: [1s, 1h]",
            "delay[1] (1h) is longer than max_delay (5m if left out), which cuts it: that wait is 5m",
        ),
    ],
)
def test_a_delay_that_is_cut_is_a_warning_that_says_what_is_waited(retry: str, said: str) -> None:
    loaded = load(job_type(f"retry: {{{retry}}}"))
    assert [(problem.message, problem.hint) for problem in loaded.problems] == [
        (said, "write max_delay: 1h, or a shorter delay")
    ]
    assert loaded.ok


@pytest.mark.parametrize(
    "text",
    [
        job_type("retry: {delay: 5m}"),
        job_type("retry: {delay: 1h, max_delay: 1h}"),
        job_type("retry: {delay: [1s]}").replace("job_types", "defaults: {retry: {factor: 3}}\njob_types"),
        job_type("retry: {max_delay: 1s}"),
        job_type("retry: {factor: 3}").replace("job_types", "defaults: {retry: false}\njob_types"),
        schedule('cron: "0 0 29 2 *", from: 2028-02-29, until: "2028-02-29T00:01"'),
        schedule('cron: "0 0 29 2 *", from: "2028-02-28T23:59:59.5", until: "2028-02-29T00:00:00"'),
        schedule('cron: "0 0 1 1 *", timezone: Asia/Tokyo, from: "2026-12-31T15:00Z", until: "2026-12-31T15:00:01Z"'),
        schedule('cron: "0 0 1 1 *", until: 2026-06-30'),
        schedule("every: 1h, from: 2026-01-01, until: 2026-01-02, timezone: Europe/Berlin"),
    ],
)
def test_settings_that_have_a_meaning_are_not_complained_about(text: str) -> None:
    assert load(text).problems == []


def test_a_window_without_a_run_is_told_the_first_one_after_it() -> None:
    problem = load(schedule('cron: "0 0 29 2 *", from: 2026-01-01, until: 2027-12-31')).problems[0]
    assert problem.message == "cron never fires between from (2026-01-01) and until (2027-12-31)"
    assert problem.hint == "its first time after from is 2028-02-29 00:00 UTC: write a later until"


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3 * 1024 * 1024])
def test_a_file_that_is_too_large_is_told_the_limit_not_what_was_read_of_it(tmp_path: Path, size: int) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_bytes(b"#" * size)
    for loaded in (load_path(path, environ={}), load(b"#" * size)):
        assert [problem.message for problem in loaded.problems] == ["the file is larger than 1 MiB (1,048,576 bytes)"]


@pytest.mark.parametrize("name", ["missing.yaml", "", "nul\0.yaml"])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    loaded = load_path(tmp_path / name, environ={})
    assert found(loaded) == [("file", 1, 1)]
    assert loaded.definitions is None


def test_the_hash_is_the_one_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_bytes(b"version: 1\r\n")
    assert load_path(path, environ={}).sha256 == load(b"version: 1\r\n").sha256 == load("version: 1\r\n").sha256


EIGHT = """\
version: 1
x-slow: &slow
  timeout: 600                 # 1: no unit, once, though two types inherit it
job_types:
  fetch:
    <<: *slow
    handler: handlers.news.fetch
  digest: {<<: *slow, handler: handlers.news.digest, priorty: high}     # 2: unknown key
schedules:
  a:
    job: fetsh                 # 3: no such job type
    cron: */5 * * * *          # 4: no quotes
  b:
    job: fetch
    cron: "0 25 * * *"         # 5: hour 25
    timezone: Europe/Berln     # 6: no such zone
  b: {job: digest, every: 1h}  # 7: again
limits: {youtube: 0}           # 8: no slots
"""


def test_eight_mistakes_are_eight_problems_in_file_order() -> None:
    loaded = load(EIGHT)
    assert found(loaded) == [
        ("duration", 3, 12),
        ("unknown-field", 8, 54),
        ("unknown-job", 11, 10),
        ("unquoted-cron", 12, 11),
        ("cron", 15, 11),
        ("timezone", 16, 15),
        ("duplicate-key", 17, 3),
        ("range", 18, 19),
    ]
    assert [problem.hint for problem in loaded.problems][:4] == [
        "write 10m (600 seconds)",
        'did you mean "priority"?',
        'did you mean "fetch" (line 5)?',
        'write: cron: "*/5 * * * *"          # 4: no quotes',
    ]
    assert loaded.problems[2].path == "schedules.a.job"


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("version: 1\njob_type: {j: {handler: handlers.a.b}}\nschedules: {s: {job: j, every: 1h}}", ["unknown-field"]),
        ("version: 1\njob_types: {j: {handlr: handlers.a.b}}\n", ["unknown-field"]),
        (schedule('crom: "0 6 * * *"'), ["unknown-field"]),
        (schedule("every: 1h", "limit: {a: 1}\n").replace("j: {", "j: {limit: a, "), ["unknown-field"]),
        ("version: 1\njob_types: 5\nschedules: {s: {job: j, every: 1h}}", ["wrong-type"]),
        (workflow("a: {job: j, needs: 5}, b: {job: j, needs: a}"), ["wrong-type"]),
        (payload("{type: 5}", "{a: 1}"), ["payload-schema"]),
    ],
)
def test_what_follows_from_a_mistake_is_not_a_second_one(text: str, codes: list[str]) -> None:
    assert [code for code, _, _ in found(load(text))] == codes


HANDLERS = """\
version: 1
job_types:
  a: {handler: handlers.a.b, priority: 99}
  b: {handler: os.system}
  c: {handler: handlers.c.d}
"""


def test_handler_problems_stand_at_the_handler_beside_all_others() -> None:
    asked: list[str] = []

    def check(definitions: Definitions) -> list[tuple[str, str, str, str | None]]:
        asked.extend(definitions.job_types)
        return [("a", "handler", "module handlers.a has no attribute 'b'", None)]

    loaded = load_text(HANDLERS, environ={}, check_handlers=check)
    assert found(loaded) == [("handler", 3, 16), ("range", 3, 40), ("handler-package", 4, 16)]
    assert asked == ["a", "c"], "nothing outside of the allowed packages is looked at"
