"""Examples are programs: each set-up in examples/ validates and runs, and so does the shipped one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPS = sorted(path.parent for path in (ROOT / "examples").glob("*/schedules.yaml"))


def run(file: Path, folder: Path, *words: str) -> dict[str, Any]:
    environ = os.environ | {
        "CONTENT_DATABASE_URL": f"sqlite:///{folder}/content.db",
        "CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "runner", "-c", str(file), "--database-url", f"{folder}/runner.db", *words]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("setup", SETUPS, ids=lambda path: path.name)
def test_an_example_runs(setup: Path, tmp_path: Path) -> None:
    """`run-once --trigger-all` ends with every job completed, or cancelled by its own handler."""
    report = run(setup / "schedules.yaml", tmp_path, "run-once", "--trigger-all", "-o", "json")
    assert report["jobs"]
    assert {job["status"] for job in report["jobs"]} <= {"completed", "cancelled"}


def test_every_example_is_listed() -> None:
    """The table in examples/README.md names each folder."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [setup.name for setup in SETUPS if f"`{setup.name}`" not in text] == []


def test_the_shipped_file_runs_and_a_second_run_adds_nothing(tmp_path: Path) -> None:
    """Three job types completed on the shipped input; running again stores no document twice."""
    first = run(ROOT / "schedules.yaml", tmp_path, "run-once", "--trigger-all", "-o", "json")
    assert {job["type"]: job["status"] for job in first["jobs"]} == {
        "rag_sync_channel": "completed",
        "rag_sync_news": "completed",
        "cache_cleanup": "completed",
    }
    added = {job["type"]: job["result"].get("documents_added") for job in first["jobs"]}
    assert added["rag_sync_channel"] > 0
    assert added["rag_sync_news"] > 0
    again = run(ROOT / "schedules.yaml", tmp_path, "run-once", "--trigger-all", "-o", "json")
    assert [job["result"].get("documents_added", 0) for job in again["jobs"]] == [0, 0, 0]


def test_the_shipped_file_holds_the_default_schedules_of_the_requirements(tmp_path: Path) -> None:
    """Daily at 6, every four hours, Sunday at 3, in UTC; scheduled types are high, maintenance is low."""
    shown = run(ROOT / "schedules.yaml", tmp_path, "config", "-o", "json")["definitions"]
    found = {one["job"]: (one["cron"], one["timezone"]) for one in shown["schedules"].values()}
    assert found == {
        "rag_sync_channel": (["0 6 * * *"], "UTC"),
        "rag_sync_news": (["0 */4 * * *"], "UTC"),
        "cache_cleanup": (["0 3 * * 0"], "UTC"),
    }
    priorities = {name: one["priority"] for name, one in shown["job_types"].items()}
    assert (priorities["rag_sync_channel"], priorities["rag_sync_news"], priorities["cache_cleanup"]) == (2, 2, 8)
