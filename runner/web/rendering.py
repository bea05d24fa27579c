"""From a template to an answer: the frame of every page, its headers, and errors that people can read."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from runner.domain.access import Role
from runner.domain.errors import RunnerError
from runner.domain.failures import first_line
from runner.domain.plain import plain
from runner.http.callers import STATE
from runner.http.problems import Refused, answer_with
from runner.http.routes import Route
from runner.web import zones
from runner.web.assets import HASHES
from runner.web.filters import typed

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A form that is sent without a referrer says "Origin: null", and where there is no TLS nothing else says whose it is.
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
MOST_FIELDS = 10_000
LONGEST_REASON = 500
MEDIA_TYPE = "text/html; charset=utf-8"


class PageRoute(Route):
    """What a page refuses is told as a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answered = super().get_route_handler()

        async def answering(request: Request) -> Response:
            try:
                return await answered(request)
            except RunnerError as error:
                return _refusal(request, error)
            except RequestValidationError:
                return page(request, "error.html", 404, status=404, title="There is no such page", detail="", hint=None)

        return answering


def pages() -> APIRouter:
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def page(request: Request, template: str, status_code: int = 200, **values: Any) -> Response:
    """A page of ours. `zone` and `url` are bound to this reader."""
    root, zone = request.scope.get("root_path", ""), zones.chosen(request)
    caller = request.scope["state"][STATE]
    frame = {
        "zone": zone, "url": lambda path: f"{root}{path}", "when": lambda value: zones.when(value, zone),
        "here": here(request),
        "asset": lambda name: f"{root}/static/{name}?v={HASHES[name]}",
        "may_act": caller.role.may(Role.OPERATOR), "caller": caller,
    }  # fmt: skip
    text = TEMPLATES.get_template(template).render(frame | values)
    return Response(text.encode("utf-8", "replace"), status_code, headers=HEADERS, media_type=MEDIA_TYPE)


def here(request: Request) -> str:
    """The address that is shown, as the application knows it."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return path + (f"?{request.url.query}" if request.url.query else "")


def to(request: Request, path: str) -> RedirectResponse:
    """After something was done: the page that shows it."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", 303)


def back(request: Request, given: Mapping[str, str], otherwise: str) -> RedirectResponse:
    """After something was done: to where it was asked."""
    return to(request, own(given["next"]) if "next" in given else otherwise)


def reason(given: Mapping[str, str]) -> str | None:
    """Why, as a form says it."""
    return typed(given, "reason")[:LONGEST_REASON] or None


def own(path: str | None) -> str:
    """Where to go next, if it is one of our pages.

    >>> [own(path) for path in ("/jobs?q=a", "//evil.example", "https://evil.example", "/\\\\\\\\evil.example", None)]
    ['/jobs?q=a', '/', '/', '/', '/']
    """
    is_ours = path is not None and path.startswith("/") and not path.startswith("//") and "\\" not in path
    is_clean = is_ours and path is not None and path.isprintable() and not urlsplit(path).netloc
    return path if is_clean and path is not None else "/"


async def _sent(request: Request) -> list[tuple[str, str]]:
    """The fields of a form that was sent, in order."""
    body = await request.body()
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refused(413, f"a form may have {MOST_FIELDS:,} fields at most") from None


Sent = Depends(_sent)


def _refusal(request: Request, error: RunnerError) -> Response:
    told = answer_with(error)
    body = json.loads(bytes(told.body))
    values = {"status": told.status_code, "title": body["title"], "detail": body["detail"], "hint": body.get("help")}
    if request.method not in ("GET", "HEAD"):
        values["here"] = "/"  # what was asked for cannot be opened again
    answer = page(request, "error.html", told.status_code, **values)
    for name in ("retry-after", "www-authenticate"):
        if name in told.headers:
            answer.headers[name] = told.headers[name]
    return answer


def _words(state: str) -> str:
    return state.replace("_", " ")


def gist(error: str | None) -> str:
    """What an error says before its traceback.

    >>> gist("OSError: no disk\\nat all\\n\\nTraceback ..."), gist(" "), gist(None)
    ('OSError: no disk', '–', '–')
    """
    return first_line(error or "") or "–"


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=plain)


def length(value: timedelta | None) -> str:
    """Of something that lasted.

    >>> [length(timedelta(seconds=one)) for one in (0.25, 7, 75, 3700, 100_000)]
    ['0.2 s', '7 s', '1 min 15 s', '1 h 1 min', '1 d 3 h']
    """
    if value is None:
        return "–"
    seconds = max(value.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 5 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _lasted(start: datetime | None, end: datetime | None) -> str:
    return length(end - start) if start is not None and end is not None else "–"


TEMPLATES = Environment(
    loader=PackageLoader("runner.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"words": _words, "pretty": _pretty, "duration": length, "gist": gist}
TEMPLATES.globals |= {"lasted": _lasted}
