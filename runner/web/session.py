"""Signing in with a key, signing out, and the choice of a time zone."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from starlette.responses import Response

from runner.http.callers import Viewer
from runner.http.problems import Refused
from runner.http.sessions import COOKIE, LASTS, SignIn
from runner.web import zones
from runner.web.rendering import Sent, own, page, pages, to

session = pages()
Form = Annotated[list[tuple[str, str]], Sent]
YEAR = 365 * 24 * 3600


@session.get("/sign-in")
def ask(request: Request, caller: Viewer, next: str = "/") -> Response:  # noqa: A002 (the name in the address)
    return page(request, "sign_in.html", next=own(next), problem=None)


@session.post("/sign-in")
def sign_in(request: Request, caller: Viewer, form: Form) -> Response:
    """A session that stands for the key. The key itself is not kept by the browser."""
    given = dict(form)
    door: SignIn = request.app.state.sign_in
    try:
        value = door.begin(given.get("key", "").strip(), caller.address)
    except Refused as error:
        next_page = own(given.get("next"))
        return page(request, "sign_in.html", error.status, next=next_page, problem=error.message)
    answer = to(request, own(given.get("next")))
    answer.set_cookie(
        COOKIE, value, max_age=int(LASTS.total_seconds()), path=_path(request), httponly=True, samesite="lax",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@session.post("/sign-in/end")
def sign_out(request: Request, caller: Viewer) -> Response:
    answer = to(request, "/sign-in")
    answer.delete_cookie(COOKIE, path=_path(request), httponly=True, samesite="lax")
    return answer


@session.get("/zone")
def zone(request: Request, caller: Viewer, next: str = "/") -> Response:  # noqa: A002
    return page(request, "zone.html", next=own(next), names=zones.names())


@session.post("/sign-in/zone")
def choose_zone(request: Request, caller: Viewer, form: Form) -> Response:
    """Kept by the browser alone."""
    given = dict(form)
    name = given.get("zone", "")
    answer = to(request, own(given.get("next")))
    if name in zones.names():
        answer.set_cookie(zones.COOKIE, name.replace("/", "%2F"), max_age=YEAR, path=_path(request), samesite="lax")
    return answer


def _path(request: Request) -> str:
    return request.scope.get("root_path", "") or "/"
