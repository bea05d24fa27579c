"""The smallest handler."""

from __future__ import annotations

from typing import Any

from runner import JobContext


def say(ctx: JobContext, payload: dict[str, Any]) -> str:
    """Log a greeting and return it."""
    ctx.log("good morning")
    return "said good morning"
