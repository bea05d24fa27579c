"""Counts primes: work that holds the interpreter, and work that waits."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from runner import JobContext


def count_primes(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """CPU-bound: beside other jobs it belongs in a process of its own."""
    found: list[int] = []
    for number in range(2, payload["below"]):
        if all(number % prime for prime in found if prime * prime <= number):
            found.append(number)
        if number % 1000 == 0:
            ctx.progress(100 * number / payload["below"])
    return {"primes": len(found), "pid": os.getpid()}


async def wait_and_count(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """Gives way to other coroutines; a cancel reaches it at the next await."""
    found = 0
    for number in range(2, payload["below"]):
        found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        if number % 100 == 0:
            await asyncio.sleep(0)
    return {"primes": found, "pid": os.getpid()}
