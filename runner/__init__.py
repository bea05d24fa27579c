"""A declarative workflow runner, configured by one YAML file.

What is listed in `__all__` is the public API. Names are loaded when they are first used, so that
`import runner` and `runner --help` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.domain.outcome import Cancel, JobCancelled, Retry, Snooze
    from runner.engine.context import JobContext
    from runner.programs import create_engine, enqueue

__version__ = "0.1.0"
__all__ = [
    "Cancel",
    "JobCancelled",
    "JobContext",
    "Retry",
    "Snooze",
    "__version__",
    "create_engine",
    "enqueue",
]

_HOMES = {
    "Cancel": "runner.domain.outcome",
    "JobCancelled": "runner.domain.outcome",
    "JobContext": "runner.engine.context",
    "Retry": "runner.domain.outcome",
    "Snooze": "runner.domain.outcome",
    "create_engine": "runner.programs",
    "enqueue": "runner.programs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
