"""docs/testing.md says what is so: its files, in a folder that `runner init` wrote, pass as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_files_of_the_page_pass_as_written(tmp_path: Path) -> None:
    """Every python block names its file; the ini block is the project's; the command is the page's own."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    files = dict(NAMED.findall(page))
    assert len(files) == page.count("```python") == 3
    ((ini),) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    ((command),) = re.findall(r"```sh\n(.*?)\n```", page, re.DOTALL)

    run(tmp_path, "runner", "init", ".")
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(ini, encoding="utf-8")
    told = run(tmp_path, *command.split(), "-p", "no:cacheprovider", "-W", "error")
    tests = sum(text.count("def test_") for text in files.values())
    assert f"{tests + 2} passed" in told, told  # and the test that init wrote, and schedules.yaml itself
