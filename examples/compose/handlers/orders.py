"""Orders that come once a minute; each of them is a job of its own."""

from __future__ import annotations

import socket
from typing import Any

from runner import JobContext


def split(ctx: JobContext, payload: dict[str, Any]) -> str:
    """The children exist if and only if this job completes."""
    for number in range(1, payload["count"] + 1):
        ctx.enqueue("order", {"number": number})
    return f"{payload['count']} orders"


def total(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """What an order costs, and which machine has said so."""
    return {"cents": payload["number"] * 250, "by": socket.gethostname()}
