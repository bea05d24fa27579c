"""Process settings that follow the file: what a flag or a variable gave stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runner.domain.schedule import RunnerOptions
from runner.settings import Taken, followed, settings

SECOND = timedelta(seconds=1)


def edit(
    before: dict[str, Any], after: dict[str, Any], flags: dict[str, Any] | None = None, **environ: str
) -> Taken:  # fmt: skip
    old, new = RunnerOptions(**before), RunnerOptions(**after)
    return followed(settings(flags or {}, environ, old), old, new)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({}, {"concurrency": 5}, {"concurrency": (2, 5)}),
        ({"concurrency": 5}, {}, {"concurrency": (5, 2)}),
        ({}, {"retention": 7 * SECOND, "shutdown_grace": SECOND},
         {"shutdown_grace": (30 * SECOND, SECOND), "retention": (timedelta(days=30), 7 * SECOND)}),
        ({}, {"heartbeat": SECOND, "stalled_after": 3 * SECOND},
         {"heartbeat": (10 * SECOND, SECOND), "stalled_after": (60 * SECOND, 3 * SECOND)}),
        ({}, {"handler_packages": ("mine",)}, {}),
    ],
)  # fmt: skip
def test_an_edit_is_followed(before: dict[str, Any], after: dict[str, Any], changed: dict[str, Any]) -> None:
    """Also back to the default; the settings are those of a process that starts now."""
    taken = edit(before, after)

    assert (taken.changed, taken.overruled, taken.refused) == (changed, {}, {})
    assert taken.settings == settings({}, {}, RunnerOptions(**after))


def test_a_flag_and_a_variable_win() -> None:
    """What they gave stays, and that the file says otherwise is told with who said it."""
    after = {"concurrency": 5, "retention": SECOND, "shutdown_grace": SECOND}
    taken = edit({}, after, {"concurrency": 2}, RUNNER_RETENTION="30d")

    assert taken.changed == {"shutdown_grace": (30 * SECOND, SECOND)}
    assert taken.overruled == {
        "concurrency": (2, "flag --concurrency"),
        "retention": (timedelta(days=30), "environment RUNNER_RETENTION"),
    }
    assert taken.settings == settings({"concurrency": 2}, {"RUNNER_RETENTION": "30d"}, RunnerOptions(**after))


def test_what_does_not_go_together_with_a_variable_is_refused_alone() -> None:
    """Beat and patience stay as they were; the rest of the edit is followed. A later edit of the rest tells nothing."""
    before, after = {"stalled_after": 100 * SECOND}, {"stalled_after": 80 * SECOND, "concurrency": 3}
    taken = edit(before, after, RUNNER_HEARTBEAT="30s")

    assert taken.changed == {"concurrency": (2, 3)}
    assert taken.refused == {
        "heartbeat": (30 * SECOND, "environment RUNNER_HEARTBEAT"), "stalled_after": (100 * SECOND, "file"),
    }  # fmt: skip
    later = followed(taken.settings, RunnerOptions(**after), RunnerOptions(**after | {"concurrency": 4}))
    assert (later.changed, later.refused) == ({"concurrency": (3, 4)}, {})
    mended = followed(later.settings, RunnerOptions(**after), RunnerOptions(stalled_after=90 * SECOND))
    assert mended.changed == {"concurrency": (4, 2), "stalled_after": (100 * SECOND, 90 * SECOND)}
