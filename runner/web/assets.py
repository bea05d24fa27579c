"""Our own style and scripts, served as they are: with a hash in the address they may be kept for ever."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from runner.domain.errors import NotFound
from runner.http.callers import Viewer

FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
FILES = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
HASHES = {name: hashlib.sha256(data).hexdigest()[:12] for name, data in FILES.items()}
FOR_EVER = "public, max-age=31536000, immutable"

assets = APIRouter(include_in_schema=False)


@assets.get("/static/{name}")
def asset(request: Request, caller: Viewer, name: str) -> Response:
    if name not in FILES:
        raise NotFound(f"there is no file {name!r}")
    tag = f'"{HASHES[name]}"'
    headers = {"ETag": tag, "Cache-Control": FOR_EVER if request.query_params.get("v") == HASHES[name] else "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(FILES[name], media_type=TYPES[Path(name).suffix], headers=headers)
