"""What every request passes first: the host's name, the browser's word on where it comes from, its rate, its key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import quote, urlsplit

from anyio.to_thread import run_sync
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.domain.access import INTERFACE, INTERFACE_HEADER, Caller, Role
from runner.domain.errors import RunnerError, UsageError
from runner.domain.urls import is_loopback
from runner.http import sessions, shares
from runner.http.body import Body, check_length
from runner.http.callers import STATE
from runner.http.keyring import KeyRing
from runner.http.limits import Buckets
from runner.http.problems import Refused, answer_with

PUBLIC = frozenset({"/healthz", "/readyz"})  # for supervisors, who have no key
SIGN_IN = "/sign-in"
SHARED = "/shared"
OPEN = (SIGN_IN, SHARED, "/static/")  # how these addresses begin: what is needed to show a key, or a link
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
    INTERFACE_HEADER: INTERFACE,
}
MOST_BYTES = 1024 * 1024  # of a body
LARGER = {"/api/jobs/bulk": 16 * 1024 * 1024}


@dataclass(slots=True)
class Guard:
    """ASGI middleware around the application. `hosts` are the names by which it may be called."""

    app: ASGIApp
    ring: KeyRing
    now: Callable[[], datetime]
    hosts: Collection[str] = LOCAL
    requests: Buckets = field(default_factory=lambda: Buckets(rate=500, burst=2000))
    failures: Buckets = field(default_factory=lambda: Buckets(rate=0.5, burst=20))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        _strip_twice(scope)
        body = Body.of(scope, receive, _most_of(scope))
        send = _with_headers(send, body)
        try:
            scope.setdefault("state", {})[STATE] = await self._admitted(scope)
        except RunnerError as error:
            answer = _to_sign_in(scope) if _is_for_people(scope, error) else answer_with(error)
            await answer(scope, receive, send)
            return
        await self.app(scope, body, send)

    async def _admitted(self, scope: Scope) -> Caller:
        headers, address = Headers(scope=scope), (scope.get("client") or ("",))[0]
        path = _path(scope)
        check_length(headers, _most_of(scope))
        self._check_host(headers)
        if scope["method"] not in SAFE or path in ACTING:
            _check_origin(headers)
        if path in PUBLIC or path.startswith(OPEN):
            return await self._maybe(headers, address)
        self.requests.take(address or "an unknown address")
        return await self._caller(headers, address)

    async def _caller(self, headers: Headers, address: str) -> Caller:
        self.failures.look(address, sessions.WRONG_KEYS)
        text = _bearer(headers)
        try:
            caller = await self._found(text, headers, address)
        except Refused:
            if text is not None:
                self.failures.take(address, sessions.WRONG_KEYS)
            raise
        if self.ring.has_uses:
            await run_sync(self.ring.write_uses)
        if caller.key_id is not None:
            self.requests.take(caller.name)
        return caller

    async def _found(self, text: str | None, headers: Headers, address: str) -> Caller:
        """From what is known of the keys. They are read where that is old, or where the key may be a new one."""
        if self.ring.is_fresh:
            try:
                return self._of(text, headers, address)
            except Refused:
                if text is None and sessions.cookie_of(headers) is None and shares.cookie_of(headers) is None:
                    raise
        await run_sync(self.ring.refresh)
        return self._of(text, headers, address)

    def _of(self, text: str | None, headers: Headers, address: str) -> Caller:
        """A key, or a link in its place; else a session; and what a link shows besides."""
        ring, now = self.ring, self.now()
        if text is not None:
            is_link = text.startswith(shares.PREFIX)
            return ring.guest(text, address, now) if is_link else ring.caller(text, address, now)
        cookie, link = sessions.cookie_of(headers), shares.cookie_of(headers)
        try:
            caller = ring.caller(None, address, now) if cookie is None else ring.of_session(cookie, address, now)
        except Refused:
            if link is None:
                raise
            return ring.guest(link, address, now)
        found = ring.link(link, now) if link is not None else None
        return caller if found is None else replace(caller, shared=found.job_id, shared_until=found.until)

    async def _maybe(self, headers: Headers, address: str) -> Caller:
        """Where no key is needed; one that is there tells more."""
        nobody = Caller(Role.VIEWER, (), None, address)
        try:
            caller = await self._caller(headers, address)
        except RunnerError:
            return nobody
        return nobody if caller.is_guest else caller

    def _check_host(self, headers: Headers) -> None:
        """A page of somebody else must not reach us by a name that it has pointed here."""
        name = host_of(headers.get("host", ""))
        if ANY not in self.hosts and name not in self.hosts:
            raise Refused(421, f"this server does not answer to {name!r}", "RUNNER_ALLOWED_HOSTS names others")


def _strip_twice(scope: Scope) -> None:
    """The server puts the prefix before each path; some proxies have left it there."""
    root: str = scope.get("root_path", "")
    if root and f"{scope['path']}/".startswith(f"{root}{root}/"):
        scope["path"] = scope["path"].removeprefix(root)


def require_prefix(root: str, paths: Iterable[str]) -> None:
    """An address that may begin with the prefix by itself cannot be told from one to which a proxy has left it.

    >>> require_prefix("/runner", ["/jobs/{job_id}"])
    >>> require_prefix("/jobs", ["/jobs/{job_id}"])
    Traceback (most recent call last):
    runner.domain.errors.UsageError: /jobs cannot be the path before ours: /jobs/{job_id} is an address of runner's own
    """
    wanted = root.strip("/").split("/")
    for path in paths if root else ():
        parts = path.strip("/").split("/")[: len(wanted)]
        if len(parts) == len(wanted) and all(map(_fits, parts, wanted)):
            said = f"{root} cannot be the path before ours: {path} is an address of runner's own"
            raise UsageError(said, "RUNNER_ROOT_PATH=/runner, or any other that none of ours begins with")


def _fits(own: str, given: str) -> bool:
    return own == given or own.startswith("{")


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _most_of(scope: Scope) -> int:
    return LARGER.get(_path(scope), MOST_BYTES)


def _check_origin(headers: Headers) -> None:
    """Browsers say where a request comes from, other clients say nothing and have no session: no token is needed."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        origin = headers.get("origin")
        is_program = origin is None and sessions.cookie_of(headers) is None
        is_ours = is_program or (origin is not None and urlsplit(origin).netloc == headers.get("host"))
    if not is_ours:
        raise Refused(403, "a page of another site may not do this", "call it from a program, or from our own pages")


def _is_for_people(scope: Scope, error: RunnerError) -> bool:
    """A browser that asks for a page, and lacks a key."""
    wants_page = "text/html" in Headers(scope=scope).get("accept", "") and not _path(scope).startswith("/api/")
    return isinstance(error, Refused) and error.status == 401 and scope["method"] in SAFE and wants_page


def _to_sign_in(scope: Scope) -> RedirectResponse:
    asked = _path(scope) + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else "")
    return RedirectResponse(f"{scope.get('root_path', '')}{SIGN_IN}?next={quote(asked, safe='')}", 303)


def _bearer(headers: Headers) -> str | None:
    given = headers.get("authorization")
    if given is None:
        return None
    scheme, _, text = given.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def host_of(given: str) -> str:
    """The name in a Host header, without its port.

    >>> [host_of(one) for one in ("localhost:8080", "[::1]:8080", "Example.org", "", "[::1")]
    ['localhost', '::1', 'example.org', '', '']
    """
    if given.startswith("["):
        name, closed, _ = given[1:].partition("]")
        return name.lower() if closed else ""
    return given.partition(":")[0].lower()


def allowed_hosts(host: str, given: Collection[str]) -> frozenset[str]:
    """The names that we answer to: those that are given; else, on loopback, its own; else any."""
    if given:
        return frozenset(given) | LOCAL
    return LOCAL | {host} if is_loopback(host) else frozenset({ANY})


def _with_headers(send: Send, body: Body) -> Send:
    """What is answered before the body is whole ends the connection: nobody reads the rest of it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if not body.is_whole:
                headers["Connection"] = "close"
        await send(message)

    return sending
