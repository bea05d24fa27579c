"""One printer for everybody: the limit in the file keeps two jobs from meeting at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner import JobContext

BUSY = Path(__file__).resolve().parents[1] / "printer.busy"


def print_pages(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """Fails if another job is at the printer, which the limit rules out."""
    with BUSY.open("x"):
        try:
            for page in range(1, 11):
                ctx.progress(page * 10, message=f"page {page} of 10")
        finally:
            BUSY.unlink()
    return {"pages": 10}


def order(ctx: JobContext, payload: dict[str, Any]) -> str:
    """Takes an order and hands it on."""
    ctx.enqueue("letter", priority="high")
    return f"a letter for {payload['customer']}"
