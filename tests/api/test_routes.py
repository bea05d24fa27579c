"""How a route is found; reads are answered one after the other, and nobody waits for one that lasts."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path

import httpx
from starlette.responses import Response
from starlette.routing import Match, Route

from runner.api.routing import router
from runner.http.routes import READS
from runner.http.table import CHOSEN, Table
from tests.api.site import HERE, made_site
from tests.engine.bench import DEADLINE


def test_a_few_reads_at_once_where_they_last(tmp_path: Path) -> None:
    """Of those that last, one after the other; a job is created meanwhile, and the process says that it lives."""
    going, gate = [], threading.Event()

    def slow() -> Response:
        going.append(1)
        gate.wait(DEADLINE)
        return Response()

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(site.app), base_url=HERE) as client:
            reads = [asyncio.create_task(client.get("/slow")) for _ in range(READS + 2)]
            async with asyncio.timeout(DEADLINE):
                while len(going) < READS:
                    await asyncio.sleep(0)
            answers = [await client.get("/healthz"), await client.post("/api/jobs", json={"type": "echo"})]
            assert len(going) == READS  # and the others wait
            gate.set()
            return [one.status_code for one in [*answers, *await asyncio.gather(*reads)]]

    with made_site(tmp_path) as site:
        reads = router("", "test")
        reads.get("/slow")(slow)
        site.inner.include_router(reads)
        assert asyncio.run(ask()) == [200, 201, *[200] * (READS + 2)]


def test_quick_reads_are_answered_one_after_the_other(tmp_path: Path) -> None:
    """Side by side they would take twice the time. One that is left alone by its client gives its turn back."""
    going, most = [], []

    def quick() -> Response:
        going.append(1)
        most.append(len(going))
        threading.Event().wait(0.001)
        going.pop()
        return Response()

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(site.app), base_url=HERE) as client:
            reads = [asyncio.create_task(client.get("/quick")) for _ in range(20)]
            while not going:
                await asyncio.sleep(0)
            for one in reads[5:10]:
                one.cancel()
            async with asyncio.timeout(DEADLINE):
                await asyncio.gather(*reads, return_exceptions=True)
                assert (await client.get("/quick")).status_code == 200

    with made_site(tmp_path) as site:
        reads = router("", "test")
        reads.get("/quick")(quick)
        site.inner.include_router(reads)
        asyncio.run(ask())
    assert max(most) == 1


def test_the_table_finds_every_route(tmp_path: Path) -> None:
    """The same that a walk through all of them finds first."""
    with made_site(tmp_path) as site:
        table, *routes = site.inner.routes
        assert isinstance(table, Table)
        for route in routes:
            assert isinstance(route, Route)
            path = "/runner" + re.sub(r"{\w+(:int)?}", "17", route.path)
            for method in route.methods or ():
                scope = {"type": "http", "path": path, "root_path": "/runner", "method": method}
                walked = next(one for one in routes if one.matches(dict(scope))[0] is Match.FULL)
                assert table.matches(scope)[1][CHOSEN] is walked is route
    assert len(routes) > 60
