"""The page of what a job has shown, and HTML of handlers in its sandbox."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from runner.domain.errors import NotFound
from runner.http.callers import Reader
from runner.http.doors import In
from runner.http.masking import masked
from runner.web.previews import previews, way_of
from runner.web.rendering import page, pages
from runner.web.status import Id

outputs = pages()

# What a handler wrote runs nothing, sends nothing, loads nothing, and belongs to no site.
SANDBOX = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}


@outputs.get("/jobs/{job_id}/output")
def output(request: Request, doors: In, caller: Reader, job_id: Id) -> Response:
    with doors.reading():
        job, outputs = doors.job(job_id, caller), previews(doors, job_id)
    return page(request, "output.html", job=job, outputs=outputs, result=masked(job.result))


@outputs.get("/jobs/{job_id}/output/{name:path}")
def framed(doors: In, caller: Reader, job_id: Id, name: str) -> Response:
    """HTML for the frame of the page; an image for the page."""
    doors.job(job_id, caller)
    found = doors.logs.output(job_id, name)
    if found is None or way_of(found[0]) not in ("html", "image"):
        raise NotFound(f"job {job_id} shows no page or image {name!r}", f"/jobs/{job_id}/output")
    media_type = "text/html; charset=utf-8" if way_of(found[0]) == "html" else found[0]
    return Response(found[1], media_type=media_type, headers=SANDBOX)
