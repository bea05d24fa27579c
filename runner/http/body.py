"""The body of a request as it comes in: so much of it, and within so long."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from runner.http.problems import Refused

WHOLE = 60.0  # seconds until it is there
TOO_LARGE = "a body may have {most:,} bytes at most"


@dataclass(slots=True)
class Body:
    """Stands for the `receive` of the server. Who does not say how much it is cannot send more either."""

    receive: Receive
    most: int
    left: int
    ends: float
    is_whole: bool

    @classmethod
    def of(cls, scope: Scope, receive: Receive, most: int) -> Body:
        headers = Headers(scope=scope)
        has_one = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        return cls(receive, most, most, time.monotonic() + WHOLE, is_whole=not has_one)

    async def __call__(self) -> Message:
        if self.is_whole:
            return await self.receive()
        try:
            async with asyncio.timeout(self.ends - time.monotonic()):
                message = await self.receive()
        except TimeoutError:
            raise HTTPException(408, f"the body was not there after {WHOLE:g} s") from None
        self.left -= len(message.get("body", b""))
        if self.left < 0:
            raise HTTPException(413, TOO_LARGE.format(most=self.most))
        self.is_whole = not message.get("more_body", False)
        return message


def check_length(headers: Headers, most: int) -> None:
    told = headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > most:
        raise Refused(413, TOO_LARGE.format(most=most), "send it in parts")
