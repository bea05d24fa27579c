"""What handlers print never mixes with the data on stdout, and how they take the command down with them: not."""

from __future__ import annotations

import json

import pytest

from tests.interfaces.cli_project import Project

LOUD = """\
import asyncio, os
print("print at import")
os.write(1, b"write at import\\n")


def plain(ctx, payload):
    print("print in a thread")
    os.system("echo echo in a thread")


def apart(ctx, payload):
    print("print in a process")
    os.system("echo echo in a process")


async def stubborn(ctx, payload):
    while True:
        try:
            await asyncio.sleep(100)
        except BaseException:
            pass
"""
FILE = """\
version: 1
job_types:
  plain: {handler: handlers.loud.plain}
  apart: {handler: handlers.loud.apart, isolation: process}
  stubborn: {handler: handlers.loud.stubborn, timeout: 1s, retry: false}
schedules:
  plain: {job: plain, cron: "0 0 1 1 *"}
  apart: {job: apart, cron: "0 0 1 1 *"}
  stubborn: {job: stubborn, cron: "0 0 1 1 *", enabled: false}
"""


@pytest.fixture
def loud(project: Project) -> Project:
    project.write(FILE)
    project.write("", "handlers/__init__.py")
    project.write(LOUD, "handlers/loud.py")
    return project


@pytest.mark.parametrize(
    "command", ["validate -o json", "plan -o json", "apply -o json", "run-once -o json --trigger-all"]
)
def test_stdout_is_one_document_whatever_handlers_print(loud: Project, command: str) -> None:
    """The prints of handlers, of their imports and of the processes that they start are on stderr."""
    answer = loud.process(*command.split())

    assert (answer.code, answer.json["format_version"]) == (0, 1)
    assert {"print at import", "write at import"} <= set(answer.err.splitlines())
    if "run-once" in command:
        said = {"print in a thread", "echo in a thread", "print in a process", "echo in a process"}
        assert said <= set(answer.err.splitlines())


def test_each_line_of_jsonl_is_an_event(loud: Project) -> None:
    """Also while handlers print."""
    answer = loud.process("run-once", "--trigger-all", "-o", "jsonl")

    assert [json.loads(line)["event"] for line in answer.out.splitlines()][-1] == "summary"


def test_a_coroutine_that_catches_everything_does_not_hold_the_command(loud: Project) -> None:
    """It is settled as failed, the command ends, and asyncio does not complain."""
    answer = loud.process("run-once", "--trigger", "stubborn", "-o", "json")

    assert (answer.code, answer.json["jobs"][0]["status"]) == (1, "failed")
    assert "Task was destroyed" not in answer.err


def test_an_import_that_interrupts_is_told(loud: Project) -> None:
    """A module that raises KeyboardInterrupt does not end the command without a word."""
    loud.write("raise KeyboardInterrupt", "handlers/loud.py")

    answer = loud.process("validate")

    assert (answer.code, answer.err) == (130, "error: interrupted while importing handlers.loud\n")
