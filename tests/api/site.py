"""The jobs API on a database of its own, asked in this process: the real application behind its real guard."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp

from runner.domain.access import Role, new_key
from runner.domain.retry import RetryPolicy
from runner.http.doors import Engine
from runner.http.guard import Guard
from runner.http.keyring import KeyRing
from runner.serving import key_ring, site
from runner.storage.access import AccessStore
from tests.engine.bench import Bench, kind, make_bench
from tests.factories import make_schedule

HERE = "http://127.0.0.1:8080"
SCHEMA = {"required": ["name"], "properties": {"name": {"type": "string"}, "days": {"type": "integer", "default": 7}}}


@dataclass(frozen=True)
class Client:
    """Asks the application in this process, one request after the other."""

    app: ASGIApp
    headers: dict[str, str]
    address: str

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            way = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(self.address, 50_000))
            async with httpx.AsyncClient(transport=way, base_url=HERE, headers=self.headers) as client:
                return await client.request(method, url, **options)

        return asyncio.run(ask())

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", url, **options)


@dataclass
class Site:
    """`client` asks without a key; `with_key` makes one and asks with it."""

    bench: Bench
    app: ASGIApp
    inner: FastAPI
    reloads: list[bool] = field(default_factory=list)

    def client(self, headers: Mapping[str, str] | None = None, address: str = "127.0.0.1") -> Client:
        return Client(self.app, dict(headers or {}), address)

    def with_key(self, role: Role = Role.ADMIN, *projects: str) -> Client:
        return self.client({"Authorization": f"Bearer {self.key(role, *projects)}"})

    def key(self, role: Role = Role.ADMIN, *projects: str) -> str:
        made = new_key()
        store = AccessStore(self.bench.app.database)
        store.add(made, role, projects or None, self.bench.clock.now(), by="test")
        return made.text

    def finish(self, *job_ids: int) -> None:
        with self.bench.worker() as worker:
            self.bench.run(worker, *job_ids)


def ring_of(site: Site) -> KeyRing:
    assert isinstance(site.app, Guard)
    return site.app.ring


def pass_time(site: Site, seconds: float) -> None:
    """For what is known of the keys."""
    clock = ring_of(site)._clock
    ring_of(site)._clock = lambda: clock() + seconds


@contextmanager
def made_site(folder: Path, first: str | None = None, **engine: Any) -> Iterator[Site]:
    bench = make_bench(folder)
    bench.app.now = bench.clock.now  # type: ignore[method-assign]
    bench.app.environ = {"RUNNER_API_KEY": first} if first else {}
    bench.define(
        kind("echo"), kind("strict", "echo", payload_schema=SCHEMA), kind("urgent", "echo", priority=1, queue="fast"),
        kind("hold"), kind("work"), kind("fail", retry=RetryPolicy(max_attempts=1)),
        schedules=[make_schedule("hourly", job="echo"), make_schedule("shopping", job="echo", project_id="shop")],
    )  # fmt: skip
    scheduler = bench.app.scheduler()
    reloads: list[bool] = []
    made = Engine(scheduler.trigger, scheduler.backfill, lambda: reloads.append(True), **engine)
    outer, inner = site(bench.app, made, key_ring(bench.app))
    yield Site(bench, outer, inner, reloads)
    bench.app.close()
