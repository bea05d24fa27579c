"""The command `init`: a small working set-up for somebody else's project."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.jobs import Output
from runner.cli.main import cli
from runner.cli.output import Format, print_json, print_line
from runner.domain.errors import Conflict, UsageError

TEMPLATES = {
    "schedules.yaml": "schedules.yaml",
    "handlers/words.py": "words.py.txt",
    "tests/test_words.py": "test_words.py.txt",
    "texts/hello.txt": "hello.txt",
}
CONFTEST = '''"""Lets the tests import `handlers` as `runner` does: from the folder of schedules.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
'''


@cli.command(short_help="Write a small working set-up to start from.")
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to write it; made if it is not there.")
    ] = Path(),
    output: Output = Format.TEXT,
) -> None:
    """Write a small working set-up: a schedules.yaml, a handler, its test. Never overwrites a file."""
    contents = _contents()
    there = [name for name in contents if (folder / name).exists()]
    if there:
        raise Conflict(f"{folder / there[0]} is there already; nothing was written", "runner init OTHER_FOLDER")
    try:
        for name, text in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}") from None
    if output is Format.JSON:
        print_json({"written": [str(folder / name) for name in contents]})
        return
    for name in contents:
        print_line(f"wrote {folder / name}")
    step = "" if folder == Path() else f"cd {folder} && "
    print_line(f"\nNext: {step}runner validate && runner run-once --trigger-all")


def _contents() -> dict[str, str]:
    from runner.config.schema import schema_text

    templates = files("runner") / "cli" / "templates"
    written = {name: (templates / template).read_text(encoding="utf-8") for name, template in TEMPLATES.items()}
    return written | {
        "handlers/__init__.py": "",
        "tests/conftest.py": CONFTEST,
        ".runner/schedules.schema.json": schema_text(),
    }
