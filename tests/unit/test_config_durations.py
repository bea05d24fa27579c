"""Durations carry their unit, and are written back as short as they can be read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.duration import DurationError, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("2s", 2), ("10m", 600), ("1h30m", 5400), ("30d", 2_592_000), ("500ms", 0.5), ("1d2h3m4s5ms", 93_784.005)),
        *(("0s", 0), ("90m", 5400), ("36500d", 3_153_600_000)),
    ],
)
def test_reading(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        *(("600", "write 10m (600 seconds)"), ("5", "write 5s"), ("0", "write 0s")),
        *((bad, None) for bad in ("", " ", "s", "1.5h", "1s2m", "1m1m", "-5s", "1 h", "5 s", "1w", "2H", "٣s", "1h30")),
        *(("36501d", "write at most 36500d"), ("9" * 15 + "d", "write at most 36500d"), ("9" * 5000, None)),
    ],
)
def test_what_is_no_duration_gets_the_remedy(text: str, hint: str | None) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(text)
    assert caught.value.hint
    assert hint is None or caught.value.hint == hint


@given(st.integers(0, 36_500 * 86_400_000))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(hours=24), "1d"),
        (-timedelta(seconds=5), "-5s"),
    ],
)
def test_writing(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text
