"""One bounded download: a time for everything, a number of bytes, a number of redirects, and nothing beyond them."""

from __future__ import annotations

import asyncio
import functools
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

USER_AGENT = "yaml-job-runner-handlers/1 (+feed reader)"
TEMPORARY = frozenset({408, 425, 429, *range(500, 600)})
WATCH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one download may take at most; `seconds` counts from the first look-up to the last byte."""

    seconds: float = 20.0
    max_bytes: int = 10 * 1024 * 1024
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer that ended the redirects: its body unpacked, its URL without user name and password."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class FetchError(Exception):
    """Nothing usable came. `temporary` is True where the same request may work later, `after` is the server's wish."""

    def __init__(self, message: str, *, temporary: bool, after: float | None = None) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.after = after


def fetch(url: str, bounds: Bounds, *, headers: Mapping[str, str] | None = None, check: Callable[[], None]) -> Fetched:
    """GET `url`. Answers 200 and 304 return, everything else is a FetchError; `check` is called while waiting."""
    try:
        return asyncio.run(_watched(_get(url, bounds, dict(headers or {})), bounds.seconds, check))
    except httpx.InvalidURL as error:
        raise FetchError(f"not a URL: {error}", temporary=False) from error
    except httpx.UnsupportedProtocol as error:
        raise FetchError(str(error), temporary=False) from error
    except httpx.TransportError as error:
        raise FetchError(f"{type(error).__name__}: {error}".rstrip(": "), temporary=True) from error


async def _watched(work: Coroutine[Any, Any, Fetched], seconds: float, check: Callable[[], None]) -> Fetched:
    # Time limits of the HTTP client begin anew with each read, so a server that drips bytes outlives them; this one
    # does not. A cancelled job is noticed here too, however long the server keeps silent.
    task = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(seconds):
            while not (await asyncio.wait({task}, timeout=WATCH_SECONDS))[0]:
                check()
    except TimeoutError:
        raise FetchError(f"no complete answer within {seconds:g} s", temporary=True) from None
    finally:
        if not task.done():
            task.cancel()
    return task.result()


async def _get(url: str, bounds: Bounds, headers: dict[str, str]) -> Fetched:
    base = {"user-agent": USER_AGENT, "accept-encoding": "gzip"}
    async with httpx.AsyncClient(verify=_tls(), timeout=bounds.seconds, headers=base) as client:
        request = client.build_request("GET", url, headers=headers)
        for _ in range(bounds.redirects + 1):
            response = await client.send(request, stream=True)
            try:
                if response.next_request is None:
                    return await _answer(response, bounds)
                request = response.next_request
            finally:
                await response.aclose()
    raise FetchError(f"more than {bounds.redirects} redirects", temporary=False)


async def _answer(response: httpx.Response, bounds: Bounds) -> Fetched:
    status = response.status_code
    if status not in (200, 304):
        phrase = f"{status} {response.reason_phrase}".strip()
        raise FetchError(f"the server answered {phrase}", temporary=status in TEMPORARY, after=_retry_after(response))
    body = b"" if status == 304 else await _body(response, bounds.max_bytes)
    return Fetched(str(response.url.copy_with(userinfo=b"")), status, response.headers, body)


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in _decoded(response, max_bytes + 1):
        body += chunk
        if len(body) > max_bytes:
            raise FetchError(f"the answer is larger than {max_bytes} bytes", temporary=False)
    return bytes(body)


async def _decoded(response: httpx.Response, at_once: int) -> AsyncIterator[bytes]:
    # httpx unpacks any number of nested encodings without a limit, and a few kilobytes can be gigabytes then. Here one
    # encoding is unpacked, never by more than the limit at once.
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        async for chunk in response.aiter_raw():
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise FetchError(f"the answer has a content-encoding that was not asked for: {encoding[:40]}", temporary=False)
    unpack = _unpacker()
    try:
        async for chunk in response.aiter_raw():
            while chunk:
                unpack = _unpacker() if unpack.eof else unpack
                yield unpack.decompress(chunk, at_once)
                chunk = unpack.unused_data
    except zlib.error as error:
        raise FetchError(f"the answer is not valid {encoding}: {error}", temporary=True) from error
    if not unpack.eof:
        raise FetchError(f"the {encoding} answer ends too early", temporary=True)


def _unpacker() -> Any:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()
