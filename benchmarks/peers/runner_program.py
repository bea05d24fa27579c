"""Ours, the side that enqueues. `runner serve` is what works: it needs no program.

`one` is the public call, `runner.enqueue`. `store` is the same without the look-up of the revision: what the engine
itself does when a schedule fires.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from program import main

import runner
from runner.config.intake import Intake
from runner.storage.database import Database
from runner.storage.jobs import JobStore
from runner.storage.revisions import RevisionStore


class Client:
    def __init__(self, database: Database) -> None:
        self._database, self._jobs = database, JobStore(database)
        revision = RevisionStore(database).current()
        assert revision is not None
        self._intake = Intake(revision.definitions, revision.number, os.environ)

    async def one(self, n: int) -> None:
        runner.enqueue("due", {"n": n}, database_url=self._database.url)

    async def many(self, numbers: range) -> None:
        now = self._database.now()
        self._jobs.enqueue_many([self._intake.job("due", {"n": n}, now) for n in numbers], now)

    def by_store(self, n: int) -> None:
        now = self._database.now()
        self._jobs.enqueue(self._intake.job("due", {"n": n}, now), now)


class Ours:
    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        database = Database(url)
        yield Client(database)
        database.close()

    async def store(self, url: str, count: str) -> float:
        """Jobs a second, one call of `JobStore.enqueue` each; the first is not counted."""
        async with self.client(url) as client:
            client.by_store(0)
            began = time.perf_counter()
            for n in range(1, int(count)):
                client.by_store(n)
            return (int(count) - 1) / (time.perf_counter() - began)


if __name__ == "__main__":
    main(Ours())
