"""How a route is answered: what only reads, one after the other, and no quick one behind one that lasts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

from anyio.lowlevel import RunVar
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

PATIENCE = 0.05  # seconds that a read has for itself
READS = 8  # at once, of such as last longer


class Route(APIRoute):
    """What writes is not held up here: it waits for its turn at the database, and holds no turn of a read's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answered = super().get_route_handler()
        if self.methods != {"GET"} or iscoroutinefunction(self.endpoint):
            return answered

        async def answering(request: Request) -> Response:
            turns = _turns()
            mine = await turns.take()
            try:
                return await answered(request)
            finally:
                turns.give_back(mine)

        return answering


@dataclass(eq=False, slots=True)
class Turn:
    """Of a read. One that lasts hands on what it holds, and only counts as one of those that last."""

    late: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Turns:
    """Of one loop. Threads that all want the interpreter take twice the time, each and together: so it is one at a
    time, and another begins where one lasts.
    """

    loop: asyncio.AbstractEventLoop
    going: int = 0
    lasting: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def take(self) -> Turn:
        if not self._has_place():
            place: asyncio.Future[None] = self.loop.create_future()
            self.waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._end()
                raise
        else:
            self.going += 1
        turn = Turn()
        turn.late = self.loop.call_later(PATIENCE, self._lasts, turn)
        return turn

    def give_back(self, turn: Turn) -> None:
        if turn.late is None:
            self.lasting -= 1
        else:
            turn.late.cancel()
        self._end()

    def _has_place(self) -> bool:
        return self.going <= self.lasting and self.going < READS

    def _lasts(self, turn: Turn) -> None:
        turn.late = None
        self.lasting += 1
        self._let_in()

    def _end(self) -> None:
        self.going -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self.waiting and self._has_place():
            place = self.waiting.popleft()
            if not place.done():
                self.going += 1
                place.set_result(None)


_of_loop: RunVar[Turns] = RunVar("turns of reads")


def _turns() -> Turns:
    """Of the loop that asks."""
    found = _of_loop.get(None)
    if found is None:
        found = Turns(asyncio.get_running_loop())
        _of_loop.set(found)
    return found
