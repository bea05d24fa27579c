"""Handlers for the tests of the command line: each does one thing that a run must be able to tell."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from runner import JobContext


def ok(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    ctx.log("hello")
    ctx.progress(50, step="half", message="half way")
    return {"count": 1, "name": payload.get("name", "none")}


def bad(ctx: JobContext, payload: dict[str, Any]) -> None:
    raise ValueError("no such\x1b[31m thing <&>\nsecond line")


def flaky(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    if ctx.attempt < 3:
        raise RuntimeError(f"attempt {ctx.attempt}")
    return {"attempt": ctx.attempt}


def not_json(ctx: JobContext, payload: dict[str, Any]) -> set[int]:
    return {1, 2}


def big(ctx: JobContext, payload: dict[str, Any]) -> str:
    return "x" * (2 << 20)


def output(ctx: JobContext, payload: dict[str, Any]) -> None:
    ctx.output("report.txt", "text/plain", b"three words here")


def gate(ctx: JobContext, payload: dict[str, Any]) -> str:
    """Says that it has begun by a file, and goes on when another file is there."""
    begun, go_on = Path(payload["begun"]), Path(payload["go_on"])
    begun.write_text(str(ctx.attempt), encoding="utf-8")
    ctx.progress(25, message="at the gate")
    while not go_on.exists():
        ctx.check()
        threading.Event().wait(0.01)
    return "through"


def wrong_signature(payload: dict[str, Any]) -> None:
    """Takes no `ctx`: it is refused before anybody calls it."""
