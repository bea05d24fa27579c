"""What every request passes first: the host's name, the browser's word on where it comes from, its rate, its key."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.domain.access import Caller, Role
from runner.domain.errors import RunnerError
from runner.http.callers import STATE
from runner.http.keyring import KeyRing, is_loopback
from runner.http.limits import Buckets
from runner.http.problems import Refused, answer_with

PUBLIC = frozenset({"/healthz", "/readyz"})  # for supervisors, who have no key
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ACTING = frozenset({"/api/jobs/process"})  # acts on GET too
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
ANY = "*"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
MOST_BYTES = 1024 * 1024  # of a body
TOO_LARGE = "a body may have {most:,} bytes at most"
LARGER = {"/api/jobs/bulk": 16 * 1024 * 1024}


@dataclass(slots=True)
class Guard:
    """ASGI middleware around the application. `hosts` are the names by which it may be called."""

    app: ASGIApp
    ring: KeyRing
    now: Callable[[], datetime]
    hosts: Collection[str] = LOCAL
    root_path: str = ""
    requests: Buckets = field(default_factory=lambda: Buckets(rate=500, burst=2000))
    failures: Buckets = field(default_factory=lambda: Buckets(rate=0.5, burst=20))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        try:
            scope.setdefault("state", {})[STATE] = await self._admitted(scope)
        except RunnerError as error:
            await answer_with(error)(scope, receive, send)
            return
        await self.app(scope, _limited(receive, _most_of(scope)), send)

    async def _admitted(self, scope: Scope) -> Caller:
        headers, address = Headers(scope=scope), (scope.get("client") or ("",))[0]
        path = _path(scope)
        _check_length(headers, _most_of(scope))
        self._check_host(headers)
        if scope["method"] not in SAFE or path in ACTING:
            _check_origin(headers)
        if path in PUBLIC:
            return await self._maybe(headers, address)
        self.requests.take(address or "an unknown address")
        return await self._caller(headers, address)

    async def _caller(self, headers: Headers, address: str) -> Caller:
        self.failures.look(address, "wrong keys")
        text = _bearer(headers)
        try:
            caller = await run_sync(self.ring.caller, text, address, self.now())
        except Refused:
            if text is not None:
                self.failures.take(address, "wrong keys")
            raise
        if caller.key_id is not None:
            self.requests.take(caller.name)
        return caller

    async def _maybe(self, headers: Headers, address: str) -> Caller:
        """Where no key is needed; one that is there tells more."""
        try:
            return await self._caller(headers, address)
        except RunnerError:
            return Caller(Role.VIEWER, (), None, address)

    def _check_host(self, headers: Headers) -> None:
        """A page of somebody else must not reach us by a name that it has pointed here."""
        name = host_of(headers.get("host", ""))
        if ANY not in self.hosts and name not in self.hosts:
            raise Refused(421, f"this server does not answer to {name!r}", "RUNNER_ALLOWED_HOSTS names others")


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _most_of(scope: Scope) -> int:
    return LARGER.get(_path(scope), MOST_BYTES)


def _check_length(headers: Headers, most: int) -> None:
    told = headers.get("content-length", "0")
    if not told.isdecimal() or int(told) > most:
        raise Refused(413, TOO_LARGE.format(most=most), "send it in parts")


def _limited(receive: Receive, most: int) -> Receive:
    """Who does not say how much it is cannot send more either."""
    left = most

    async def receiving() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, TOO_LARGE.format(most=most))
        return message

    return receiving


def _check_origin(headers: Headers) -> None:
    """Browsers say where a request comes from, other clients say nothing: no token is needed."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        origin = headers.get("origin")
        is_ours = origin is None or urlsplit(origin).netloc == headers.get("host")
    if not is_ours:
        raise Refused(403, "a page of another site may not do this", "call it from a program, or from our own pages")


def _bearer(headers: Headers) -> str | None:
    given = headers.get("authorization")
    if given is None:
        return None
    scheme, _, text = given.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def host_of(given: str) -> str:
    """The name in a Host header, without its port.

    >>> [host_of(one) for one in ("localhost:8080", "[::1]:8080", "Example.org", "")]
    ['localhost', '::1', 'example.org', '']
    """
    if given.startswith("["):
        return given[1:].partition("]")[0].lower()
    return given.partition(":")[0].lower()


def allowed_hosts(host: str, given: Collection[str]) -> frozenset[str]:
    """The names that we answer to: those that are given; else, on loopback, its own; else any."""
    if given:
        return frozenset(given) | LOCAL
    return LOCAL | {host} if is_loopback(host) else frozenset({ANY})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
