"""What the file says of workflows: jobs that follow jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from runner.domain.retry import RetryPolicy

When = Literal["success", "failure", "always"]


@dataclass(frozen=True, slots=True)
class Step:
    """One job of a workflow. `when` says which end of the steps it needs lets it start."""

    name: str
    job: str
    needs: tuple[str, ...] = ()
    when: When = "success"
    payload: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps by name, in file order."""

    name: str
    steps: Mapping[str, Step]
    timeout: timedelta | None = None
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    notify: tuple[str, ...] = ()


def find_cycle(needs: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The first circle among the steps, as its names in order with the first one repeated, or None.

    >>> find_cycle({"a": ("b",), "b": ("a",), "c": ()})
    ['a', 'b', 'a']
    """
    done: set[str] = set()
    for start in needs:
        path = [start]
        pending = [iter(needs[start])]
        while pending and start not in done:
            following = next(pending[-1], None)
            if following is None:
                done.add(path.pop())
                pending.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following in needs and following not in done:
                path.append(following)
                pending.append(iter(needs[following]))
    return None
