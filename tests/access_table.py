"""Asks each route of a real `runner serve` without a key, with a viewer's, and with one of another project.

`python -m tests.access_table` prints the answers, and fails where one is not as it should be. The routes are those of
the application, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from runner.domain.access import Role
from runner.http.guard import OPEN
from tests.api.test_access import BODIES, TABLE, Entry
from tests.interfaces.test_serve_observed import Service
from tests.waiting import eventually
from tests.web.test_session import TABLE as PAGES

FILE = """version: 1
job_types:
  echo: {handler: handlers.echo.echo}
schedules:
  shopping: {job: echo, cron: "0 0 1 1 *", project_id: shop}
"""
HANDLER = "def echo(ctx, payload):\n    return payload\n"
THEIRS = "of the shop"
KEYS = {"no key": None, "viewer": ("--role", "viewer"), "admin of blog": ("--role", "admin", "--project", "blog")}
Answers = dict[str, tuple[int, str]]  # by whose key: the status, and what is wrong with the answer


@dataclass(frozen=True)
class Asked:
    entry: Entry
    answers: Answers

    @property
    def wrong(self) -> list[str]:
        name = f"{self.entry.method} {self.entry.route.path}"
        return [f"{name}, {who}: {status}, {why}" for who, (status, why) in self.answers.items() if why]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    """The URL and the keys. Job 1 and the schedule `shopping` are of the project `shop`; the job has ended."""
    (folder / "handlers").mkdir()
    (folder / "handlers" / "__init__.py").touch()
    (folder / "handlers" / "echo.py").write_text(HANDLER, encoding="utf-8")
    (folder / "schedules.yaml").write_text(FILE, encoding="utf-8")
    service = Service(folder, "--port", "0", RUNNER_HTTP="on", RUNNER_SHUTDOWN_GRACE="1s")
    try:
        url = service.told("serving")["address"]
        job = {"type": "echo", "payload": {"said": THEIRS}, "project_id": "shop"}
        httpx.post(f"{url}/api/jobs", json=job).raise_for_status()
        eventually(lambda: any(one["event"] == "job completed" for one in service.lines()), "the job")
        yield url, {who: words and _key(service, *words) for who, words in KEYS.items()}
    finally:
        service.stop()


def _key(service: Service, *words: str) -> str:
    return str(json.loads(service.run("keys", "create", *words, "-o", "json"))["key"])


def ask_all(folder: Path) -> list[Asked]:
    with serving(folder) as (url, keys), httpx.Client(base_url=url, timeout=60) as client:
        return [Asked(one, {who: _ask(client, one, who, key) for who, key in keys.items()}) for one in everything()]


def everything() -> list[Entry]:
    return [*TABLE, *PAGES]


def _ask(client: httpx.Client, entry: Entry, who: str, key: str | None) -> tuple[int, str]:
    headers = {"Accept": "*/*" if is_of_api(entry) else "text/html"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = BODIES.get(entry.route.name) if is_of_api(entry) else None
    url = entry.route.path_format.format_map(defaultdict(lambda: "1", name="shopping"))
    answer = client.request(entry.method, url, headers=headers, json=body)
    status = answer.status_code
    if THEIRS in answer.text and who != "viewer":
        return status, "it tells what belongs to another"
    return status, "" if status in _expected(entry, who) else f"expected {' or '.join(map(str, _expected(entry, who)))}"


def is_of_api(entry: Entry) -> bool:
    return entry in TABLE


GOOD = (200, 201, 202, 303)
TOO_LATE = (404, 409, 422)  # admitted, and then told that there is no such thing, or that it cannot be now


def _expected(entry: Entry, who: str) -> tuple[int, ...]:
    path = entry.route.path
    if entry.is_public:
        return (200,)
    if path.startswith(OPEN):  # what is needed to show a key
        return (200, 303, 401, 404)
    if who == "no key":
        return (401,) if is_of_api(entry) or entry.method != "GET" else (303,)
    if who == "viewer":
        return (*GOOD, *TOO_LATE) if entry.needed.role is Role.VIEWER else (403,)
    if not entry.needed.bound:
        return (403,)
    if "{" in path:
        return (404,)
    return (*GOOD, *TOO_LATE) if entry.method == "GET" else (*GOOD, 403, *TOO_LATE)


def table(found: list[Asked]) -> str:
    width = max(len(one.entry.route.path) for one in found)
    lines = [f"{'':7}{'':{width}}  " + "".join(f"{who:>15}" for who in KEYS) + "   needs"]
    for one in found:
        answers = "".join(f"{f'{status}!' if why else status:>15}" for status, why in one.answers.values())
        lines.append(f"{one.entry.method:7}{one.entry.route.path:{width}}  {answers}   {_needs(one.entry)}")
    return "\n".join(lines)


def _needs(entry: Entry) -> str:
    if entry.is_public:
        return "nothing"
    return f"{entry.needed.role}{'' if entry.needed.bound else ', of all projects'}"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="runner-access-") as place:
        found = ask_all(Path(place))
    print(table(found))
    wrong = [line for one in found for line in one.wrong]
    print("\n".join(["", *wrong, f"{len(found)} routes, {len(wrong)} wrong answers"]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
