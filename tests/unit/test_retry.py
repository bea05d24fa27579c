"""When a failed attempt is tried again."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.domain.retry import BACKOFFS, LONGEST, RetryPolicy


def seconds(*values: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=value) for value in values)


def waits(policy: RetryPolicy, attempts: int = 4) -> list[float]:
    return [policy.wait(attempt, Random(0)).total_seconds() for attempt in range(1, attempts + 1)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [2, 4, 8, 16]),
        ({"backoff": "fixed"}, [2, 2, 2, 2]),
        ({"backoff": "linear", "delay": seconds(3)}, [3, 6, 9, 12]),
        ({"backoff": "exponential", "delay": seconds(1), "factor": 3.0}, [1, 3, 9, 27]),
        ({"delay": seconds(2, 10, 60)}, [2, 10, 60, 60]),
        ({"delay": seconds(2, 10, 60), "backoff": "fixed"}, [2, 10, 60, 60]),
        ({"max_delay": timedelta(seconds=5)}, [2, 4, 5, 5]),
        ({"delay": seconds(2, 10, 60), "max_delay": timedelta(seconds=30)}, [2, 10, 30, 30]),
        ({"delay": seconds(0)}, [0, 0, 0, 0]),
        ({"delay": seconds(0.25), "backoff": "linear"}, [0.25, 0.5, 0.75, 1]),
    ],
)
def test_the_nth_failed_attempt_waits(values: dict[str, Any], expected: list[float]) -> None:
    """Exponential `delay * factor^(n-1)`, linear `delay * n`, fixed `delay`, or an explicit list; capped."""
    assert waits(RetryPolicy(**values)) == expected


def test_the_defaults_are_two_then_four_seconds_and_three_attempts() -> None:
    """Defaults: 2 s, 4 s, failed."""
    assert (waits(RetryPolicy(), 2), RetryPolicy().max_attempts) == ([2, 4], 3)


@settings(derandomize=True, deadline=None)
@given(
    backoff=st.sampled_from(sorted(BACKOFFS)),
    attempt=st.integers(1, 10**6),
    delay=st.floats(0, 10**6),
    factor=st.floats(1, 10**6),
    jitter=st.floats(0, 1),
    cap=st.floats(0, 10**9),
)
def test_no_policy_overflows_or_exceeds_its_cap(
    backoff: str, attempt: int, delay: float, factor: float, jitter: float, cap: float
) -> None:
    """Capped by `max_delay`; `jitter: 0.2` adds 0 to 20 %; a large exponent is no overflow."""
    policy = RetryPolicy(
        backoff=backoff, delay=seconds(delay), factor=factor, jitter=jitter, max_delay=timedelta(seconds=cap)
    )

    wait = policy.wait(attempt, Random(attempt)).total_seconds()

    assert 0 <= wait <= min(cap, LONGEST.total_seconds()) * (1 + jitter) + 1e-6


def test_jitter_adds_and_never_takes_away() -> None:
    """`jitter: 0.2` adds 0 to 20 %."""
    policy = RetryPolicy(backoff="fixed", delay=seconds(100), jitter=0.2)
    rng = Random(1)

    found = [policy.wait(1, rng).total_seconds() for _ in range(500)]

    assert min(found) >= 100
    assert max(found) <= 120
    assert max(found) - min(found) > 15


@pytest.mark.parametrize(
    ("retry_on", "give_up_on", "expected"),
    [
        ((), (), True),
        (("ConnectionError",), (), True),
        (("builtins.OSError",), (), True),
        (("ValueError",), (), False),
        (("ConnectionError",), ("OSError",), False),
        ((), ("builtins.ConnectionResetError",), False),
        ((), ("ValueError",), True),
        (("httpx.ConnectionError",), (), False),
    ],
)
def test_classes_match_anywhere_in_the_resolution_order(
    retry_on: tuple[str, ...], give_up_on: tuple[str, ...], expected: bool
) -> None:
    """`retry_on` and `give_up_on` name exception classes and match any class in the method resolution order."""
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in ConnectionResetError.__mro__]

    assert RetryPolicy(retry_on=retry_on, give_up_on=give_up_on).allows(kinds) is expected
