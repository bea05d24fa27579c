"""The live server holds what its OpenAPI document says, whatever it is sent: schemathesis asks, from a fixed seed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interfaces.test_serve_observed import Service
from tests.waiting import eventually

FILE = """version: 1
job_types:
  rag_sync_news:
    handler: handlers.echo.echo
    payload_schema: {properties: {n: {type: integer}}}
schedules:
  hourly: {job: rag_sync_news, cron: "0 * * * *"}
"""
HANDLER = """
def echo(ctx, payload):
    ctx.log("said")
    ctx.output("page", "text/plain", "shown")
    return payload
"""
EXAMPLES, LONGEST = 4, 300  # of each operation: so many, not for so long, which would be others on each machine
LINE = 1000  # characters of it that are shown
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "schedules.yaml").write_text(FILE, encoding="utf-8")
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").touch()
    (tmp_path / "handlers" / "echo.py").write_text(HANDLER, encoding="utf-8")
    made = Service(tmp_path, "--port", "0", RUNNER_HTTP="on", RUNNER_SHUTDOWN_GRACE="1s")
    yield made
    made.stop()


def test_the_server_is_as_its_document_says(service: Service, tmp_path: Path) -> None:
    """With an administrator's key. What is not asked, and why, is in schemathesis.toml."""
    url = service.told("serving")["address"]
    key = json.loads(service.run("keys", "create", "--role", "admin", "-o", "json"))["key"]
    for n in range(3):
        service.run("enqueue", "rag_sync_news", "--payload", json.dumps({"n": n}))
    eventually(lambda: len([one for one in service.lines() if one["event"] == "job completed"]) == 3, "three jobs")
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/api/openapi.json",
        "--header", f"Authorization: Bearer {key}", "--seed", "20261122", "--max-examples", str(EXAMPLES),
        "--request-timeout", "15", "--continue-on-failure", "--suppress-health-check", "filter_too_much",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST, check=False)
    told = "\n".join(line[:LINE] for line in done.stdout.splitlines()[-200:])
    assert done.returncode == 0, told + done.stderr[-2_000:]
    assert "Tested: " in done.stdout
    assert not [line for line in service.lines() if line["level"] == "error"]
