"""Which errors are one: those that differ in numbers, ids and addresses alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.failures import SAID, essence
from runner.domain.outcome import Stalled

SAME = [
    ("ValueError: row 7", "ValueError: row 123456"),
    ("ValueError: 1,234.5 is too much", "ValueError: 7 is too much"),
    ("<Feed object at 0x7f3a2b>", "<Feed object at 0x1>"),
    ("no route to 10.0.0.7:5432", "no route to 192.168.100.1:80"),
    ("no route to fe80::1", "no route to 2001:db8::8a2e:370:7334"),
    ("job 0b0e8a3c-58cf-4c3a-9c5b-0f7d2d1b8a11 is lost", "job ffffffff-0000-4aaa-8bbb-cccccccccccc is lost"),
    ("KeyError: '9f86d081884c7d65'", "KeyError: '60303ae22b998861'"),
    ("late since 2026-03-01T10:00:00.123+01:00", "late since 2025-12-31T23:59:59Z"),
    ("late since 10:00", "late since 23:59:59.5"),
    ("404 for https://ann:pw@a.example/x?key=1", "404 for https://a.example/y/z"),
    ("ann@example.org is full", "b.c+d@mail.example.com is full"),
    ("cannot read /tmp/tmpa1b2c3d4/x", "cannot read /tmp/tmpz9y8x7w6/x"),
    ("a  b\n\nTraceback", "a b"),
]
APART = [
    ("ValueError: a", "KeyError: a"),
    ("KeyError: 'name'", "KeyError: 'age'"),
    ("404 for https://a.example/x", "404 for https://b.example/x"),
    ("a disk is full", "a disc is full"),
    ("module decade is missing", "module facade is missing"),
    ("std::vector failed", "std::map failed"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_differs_from_one_time_to_the_next_is_no_difference(one: str, other: str) -> None:
    """Numbers, ids, addresses, times."""
    assert essence(one) == essence(other)


@pytest.mark.parametrize(("one", "other"), APART)
def test_words_are_a_difference(one: str, other: str) -> None:
    """Also such as could be written in hexadecimal digits."""
    assert essence(one) != essence(other)


def test_what_a_dead_worker_leaves_is_known() -> None:
    """Its error has nothing that varies."""
    assert essence(Stalled().error) == Stalled().error


@given(st.text(max_size=SAID))
def test_levelled_numbers_change_nothing(text: str) -> None:
    """The database levels them first."""
    levelled = "".join("0" if char in "123456789" else char for char in text)
    assert essence(levelled) == essence(text)
    assert essence(text)
