"""The documentation says what is so: its commands run, its generated pages are fresh, its numbers are the code's."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_commands_of_the_readme_run_as_written(tmp_path: Path) -> None:
    """Every `sh` block of the README, in order, in an empty folder, each command ending well."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], check=False, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("name", ["file.md", "commands.md"])
def test_generated_pages_are_fresh(name: str) -> None:
    """`make docs` would change nothing."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generator().pages()[name], "run: make docs"


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file or folder of the project."""
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_settings_and_file_have_the_same_defaults() -> None:
    """What `settings.py` falls back to is what the schema and `RunnerOptions` say."""
    from runner.domain.schedule import RunnerOptions
    from runner.settings import SETTINGS, Settings

    settings = Settings(config=Path("schedules.yaml"), database_url="")
    for name, setting in SETTINGS.items():
        if setting.in_file:
            assert getattr(settings, name) == getattr(RunnerOptions(), name), name


def test_no_machine_path_or_registry_stands_in_the_project() -> None:
    """Nothing that is tracked names a machine's folder or a download address."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    forbidden = re.compile(r"https?://[^ ]*/(simple|packages)/|/home/[a-z]+/|files\.pythonhosted")
    this = Path(__file__).relative_to(ROOT)
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and Path(name) != this:
            assert not forbidden.search(path.read_text(encoding="utf-8", errors="replace")), name
