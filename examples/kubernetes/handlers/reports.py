"""A report, page by page. A pod that is asked to stop may end what it is at; else another pod begins it again."""

from __future__ import annotations

import asyncio
from typing import Any

from runner import JobContext


async def write(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """Each page is seen in `runner jobs watch` while it is written."""
    pages = payload["pages"]
    for page in range(1, pages + 1):
        await asyncio.sleep(0.05)  # where the work would be
        ctx.output("report", "text/markdown", f"## Page {page}\n", append=True)
        ctx.progress(100 * page / pages, message=f"page {page} of {pages}")
    return {"pages": pages}
