"""The wheel: what it carries, and that it works alone in an empty environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.interfaces.cli_project import ROOT

LIMIT = 300  # seconds; a build and an environment on a busy machine


def call(*words: object, cwd: Path, **env: str) -> str:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=kept | env, capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the working tree without a network."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `runner` command of an empty environment that holds the wheel and, by links, its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    call(*_installer(python), wheel, cwd=folder)
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (folder / "dependencies").mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("_editable_impl_", "yaml_job_runner", "__pycache__")) and entry.suffix != ".pth":
            (folder / "dependencies" / entry.name).symlink_to(entry)
    (site / "dependencies.pth").write_text(f"{folder / 'dependencies'}\n", encoding="utf-8")
    return folder / "venv" / "bin" / "runner"


def _installer(python: Path) -> tuple[object, ...]:
    uv = ROOT / ".tools" / "bin" / "uv"
    if uv.exists():
        return (uv, "pip", "install", "--offline", "--no-deps", "--python", python)
    if find_spec("pip") is None:
        pytest.skip("there is neither uv in .tools, where `make setup` puts it, nor pip")
    return (sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps")


def test_the_wheel_carries_runner_and_nothing_else(wheel: Path) -> None:
    """`runner` with schema, migrations, templates and py.typed; never handlers, tests, examples or databases."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"runner", "yaml_job_runner-0.1.0.dist-info"}
    assert {
        "runner/py.typed", "runner/schemas/schedules.schema.json", "runner/storage/migrations/env.py",
        "runner/storage/migrations/versions/0001_the_first_schema.py", "runner/cli/templates/schedules.yaml",
        "runner/cli/templates/words.py.txt", "runner/cli/templates/test_words.py.txt", "runner/cli/templates/hello.txt",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".db", ".pyc", ".ambr")) or "/handlers/" in name]
    pages = [path for folder in ("templates", "static") for path in (ROOT / "runner" / "web" / folder).iterdir()]
    assert len(pages) > 10
    assert {path.relative_to(ROOT).as_posix() for path in [*(ROOT / "runner").rglob("*.py"), *pages]} <= names


def test_the_wheel_works_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    """`runner init && runner run-once --trigger-all` from another folder: schema and migrations are in the wheel."""
    call(installed, "init", "new", cwd=tmp_path)
    where = call(installed.with_name("python"), "-c", "import runner; print(runner.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    new = tmp_path / "new"
    call(installed, "validate", cwd=new)
    ran = json.loads(call(installed, "run-once", "--trigger-all", "-o", "json", cwd=new))
    assert [(job["status"], job["result"]) for job in ran["jobs"]] == [("completed", {"files": 1, "words": 9})]
    assert json.loads(call(installed, "schema", cwd=new))["$schema"].startswith("http")
    assert call(installed, "migrate", "check", cwd=new) == "no differences\n"
