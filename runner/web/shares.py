"""Links that show one job: made on its page by who may act, opened by who has no key."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from fastapi import Request
from starlette.responses import Response

from runner.domain.access import Caller
from runner.domain.errors import NotFound, UsageError
from runner.http.callers import Operator, Viewer
from runner.http.doors import Doors, In
from runner.http.guard import SHARED
from runner.http.problems import Refused
from runner.http.sessions import SignIn
from runner.http.shares import COOKIE, LENGTHS, Link
from runner.web.rendering import page, pages, to
from runner.web.session import Form
from runner.web.status import Id

shares = pages()


@shares.post("/jobs/{job_id}/share")
def make(request: Request, doors: In, caller: Operator, job_id: Id, form: Form) -> Response:
    """The text stands after # in the link: browsers keep that to themselves, so no log of a server has it."""
    job, lasts = doors.job(job_id, caller), LENGTHS.get(dict(form).get("lasts", ""))
    if lasts is None:
        raise UsageError("a link needs an end", ", ".join(LENGTHS))
    until = (doors.now() + lasts).replace(microsecond=0)
    door: SignIn = request.app.state.sign_in
    text = door.ring.share(caller, job_id, until)
    doors.audit(caller, "share", f"job {job_id}", detail=f"until {until.isoformat()}")
    base = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
    return page(request, "share.html", job=job, link=f"{base}{SHARED}#{text}", until=until)


@shares.get(SHARED)
def arrive(request: Request, caller: Viewer) -> Response:
    return page(request, "shared.html", problem=None)


@shares.post(SHARED)
def open_link(request: Request, doors: In, caller: Viewer, form: Form) -> Response:
    """From here on a cookie says it, which browsers send to the addresses of this job alone."""
    door: SignIn = request.app.state.sign_in
    text = dict(form).get("link", "").strip().rpartition("#")[2]
    try:
        link = door.link(text, caller.address)
    except Refused as error:
        return page(request, "shared.html", error.status, problem=error.message)
    answer = to(request, f"/jobs/{link.job_id}")
    if not _sees(doors, caller, link):
        _keep(request, answer, text, link, doors.now())
    return answer


def _sees(doors: Doors, caller: Caller, link: Link) -> bool:
    """Who is signed in and sees the job anyhow needs no link."""
    with suppress(NotFound):
        doors.job(link.job_id, caller)
        return True
    return False


def _keep(request: Request, answer: Response, text: str, link: Link, now: datetime) -> None:
    root, left = request.scope.get("root_path", ""), int((link.until - now).total_seconds())
    for path in (f"{root}/jobs/{link.job_id}", f"{root}/api/jobs/{link.job_id}"):
        answer.set_cookie(
            COOKIE, text, max_age=left, path=path, httponly=True, samesite="lax", secure=request.url.scheme == "https"
        )  # fmt: skip
