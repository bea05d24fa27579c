"""For those who write handlers: run one alone, or a whole file with a clock that stands still; and a pytest plug-in.

Names are loaded when they are first used: the plug-in is imported by every pytest run of an environment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.testing.clock import FrozenClock
    from runner.testing.handlers import HandlerRun, run_handler
    from runner.testing.sandbox import DrainedJob, Sandbox, SandboxError, drain

__all__ = ["DrainedJob", "FrozenClock", "HandlerRun", "Sandbox", "SandboxError", "drain", "run_handler"]

_HOMES = {
    "DrainedJob": "runner.testing.sandbox",
    "FrozenClock": "runner.testing.clock",
    "HandlerRun": "runner.testing.handlers",
    "Sandbox": "runner.testing.sandbox",
    "SandboxError": "runner.testing.sandbox",
    "drain": "runner.testing.sandbox",
    "run_handler": "runner.testing.handlers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runner.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
