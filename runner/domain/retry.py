"""When a failed attempt is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from random import Random

LONGEST = timedelta(days=365)  # keeps factor^n from overflowing timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` attempts, with waits between them that `backoff` computes from `delay`.

    `delay` holds one value, or an explicit list whose last value is repeated. `jitter` is the largest
    share that chance adds to a wait (0.2: up to 20 %). `retry_on` and `give_up_on` are dotted class names.
    """

    max_attempts: int = 3
    backoff: str = "exponential"
    delay: tuple[timedelta, ...] = (timedelta(seconds=2),)
    factor: float = 2.0
    max_delay: timedelta = timedelta(minutes=5)
    jitter: float = 0.0
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()

    def wait(self, attempt: int, rng: Random) -> timedelta:
        """How long to wait after the attempt of that number (from 1) has failed.

        >>> [RetryPolicy().wait(n, Random()).total_seconds() for n in (1, 2, 3)]
        [2.0, 4.0, 8.0]
        """
        if len(self.delay) > 1:
            base = self.delay[min(attempt, len(self.delay)) - 1].total_seconds()
        else:
            base = BACKOFFS[self.backoff](self.delay[0].total_seconds(), self.factor, attempt)
        capped = min(base, self.max_delay.total_seconds(), LONGEST.total_seconds())
        return timedelta(seconds=capped * (1 + self.jitter * rng.random()))

    def allows(self, kinds: Iterable[str]) -> bool:
        """Whether an exception with these class names, base classes included, may be tried again."""
        names = {name for kind in kinds for name in (kind, kind.rsplit(".", 1)[-1])}
        if names & set(self.give_up_on):
            return False
        return not self.retry_on or bool(names & set(self.retry_on))


def fixed(delay: float, factor: float, attempt: int) -> float:
    return delay


def linear(delay: float, factor: float, attempt: int) -> float:
    return delay * attempt


def exponential(delay: float, factor: float, attempt: int) -> float:
    try:
        return float(delay * factor ** (attempt - 1))
    except OverflowError:
        return LONGEST.total_seconds()


BACKOFFS: dict[str, Callable[[float, float, int], float]] = {
    "fixed": fixed,
    "linear": linear,
    "exponential": exponential,
}
