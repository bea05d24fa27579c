"""Invoices, once a month. Whoever receives them tells two with the same key apart from two invoices."""

from __future__ import annotations

from typing import Any

from runner import JobContext


def send(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Where the mail would be sent."""
    ctx.log(f"invoices of {payload['month']} month")
    return {"sent": 3, "key": ctx.idempotency_key}
