"""What all tests share: those about one database run on that one alone."""

from __future__ import annotations

import signal

import pytest

from tests.contract.databases import DIALECTS


def pytest_sessionstart() -> None:
    """A shell that starts the tests in the background has SIGINT ignored, and what they start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that ends in `_on_sqlite` or `_on_postgresql` is about that database alone."""
    aside = [item for item in items if isinstance(item, pytest.Function) and _is_about_another(item)]
    if aside:
        config.hook.pytest_deselected(items=aside)
        items[:] = [item for item in items if item not in aside]


def _is_about_another(item: pytest.Function) -> bool:
    mine = item.callspec.params.get("dialect") if hasattr(item, "callspec") else None
    return mine is not None and any(item.originalname.endswith(f"_on_{name}") for name in DIALECTS if name != mine)
