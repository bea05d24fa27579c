"""JSON as the command line writes it: big integers intact, times with their offset."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from runner.domain.plain import plain


class Json(Response):
    """A document; what is not plain in it is made so."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content).encode("utf-8", "surrogatepass")


def to_json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=plain)
