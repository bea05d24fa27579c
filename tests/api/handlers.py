"""Handlers that say things, each when a test lets them."""

from __future__ import annotations

from typing import Any

from runner import JobContext
from tests.engine.sample_handlers import LONG, gate


def tells(ctx: JobContext, payload: dict[str, Any]) -> str:
    """One of each, then a pause until its gate opens, then another of each."""
    ctx.progress(10, "reading", "first")
    ctx.log("one <b>&\n")
    ctx.output("page", "text/markdown", "# Title\n")
    gate().enter()
    gate().opened.wait(LONG)
    ctx.log("two")
    ctx.progress(90, "writing", "second")
    ctx.output("page", "text/markdown", "more\n", append=True)
    return "done"
