"""The clients of the measurement of HTTP, each in a process of its own: one asks, one reads many streams.

`python -m benchmarks.http_clients ask|read '{...}'`; what was found is one JSON object on stdout.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

GONE = (ConnectionError, asyncio.IncompleteReadError)


@dataclass
class Asked:
    """What one process asks: the routes in turn, by so many connections; `rate` 0: as fast as it is answered."""

    port: int
    key: str
    routes: list[tuple[str, str, str | None]]
    seconds: float
    rate: float = 0
    connections: int = 8


@dataclass
class Answers:
    """Seconds from the moment at which a request was due until the whole answer was there, by status."""

    seconds: float = 0.0
    lasted: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)


async def ask(asked: Asked) -> Answers:
    found = Answers()
    began = time.perf_counter()
    chance = random.Random(1)
    order = [chance.choice(asked.routes) for _ in range(997)]
    turns = iter(range(sys.maxsize))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
        while (turn := next(turns)) is not None:
            due = began + turn / asked.rate if asked.rate else time.perf_counter()
            if due - began >= asked.seconds:
                break
            await asyncio.sleep(max(due - time.perf_counter(), 0)) if asked.rate else None
            writer.write(_request(asked, *order[turn % len(order)]))
            status = await _answer(reader)
            found.lasted.append(time.perf_counter() - due)
            found.statuses[status] = found.statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(asked.connections)))
    found.seconds = time.perf_counter() - began
    return found


def _request(asked: Asked, method: str, path: str, body: str | None = None) -> bytes:
    accept = "application/json" if path.startswith("/api") else "text/html"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{asked.port}\r\nAuthorization: Bearer {asked.key}\r\n"
    head += f"Accept: {accept}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body or ''}".encode()


async def _answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:"))
    await reader.readexactly(length)
    return lines[0].split()[1].decode()


# ---- streams


@dataclass
class Watched:
    """So many streams, spread over these jobs. It says `open` when each has had its snapshot."""

    port: int
    key: str
    jobs: list[int]
    streams: int


@dataclass
class Heard:
    """Milliseconds from the call of `ctx.log` to the reader, of each line and each stream; how many were cut off."""

    delays: list[float] = field(default_factory=list)
    broken: int = 0


async def read(watched: Watched) -> Heard:
    """Until the server ends them all. Each line on stdin asks for the delays since the one before."""
    found, is_open = Heard(), [0]
    streams = [
        asyncio.create_task(_stream(watched, watched.jobs[n % len(watched.jobs)], found, is_open))
        for n in range(watched.streams)
    ]
    while is_open[0] < watched.streams and not all(one.done() for one in streams):
        await asyncio.sleep(0.02)
    print("open", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(found.delays), flush=True)
        found.delays.clear()
    await asyncio.gather(*streams)
    return found


async def _stream(watched: Watched, job: int, found: Heard, is_open: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", watched.port)
    asked = Asked(watched.port, watched.key, [], 0)
    writer.write(_request(asked, "GET", f"/api/jobs/{job}/events?last_event_id={2**62}"))
    try:
        while line := await reader.readline():
            if line.startswith(b"HTTP/") and b" 200 " not in line:
                raise ConnectionError(line)
            if line.startswith(b"event: snapshot"):
                is_open[0] += 1
            if line.startswith(b"data: {") and b'"message":"at ' in line:
                said = int(line.partition(b'"message":"at ')[2].partition(b'"')[0])
                found.delays.append((time.monotonic_ns() - said) / 1e6)
    except GONE:
        found.broken += 1
    writer.close()


def main() -> None:
    what, given = sys.argv[1], json.loads(sys.argv[2])
    found: Any = asyncio.run(ask(Asked(**given)) if what == "ask" else read(Watched(**given)))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
