"""JSON as the stores keep it, and back."""

from __future__ import annotations

import json

import pytest

from runner.storage.serial import parsed


def test_many_texts_are_read_as_one_each() -> None:
    """What each of them says by itself."""
    values = [{"n": 1}, [], [1, [2]], "a,b]", 0.1, None, 10**20]
    assert parsed([json.dumps(value) for value in values]) == values
    assert parsed([]) == []


@pytest.mark.parametrize("texts", [["1,2", "3"], ["1", ""], ["[1", "2]"], ["1]", "[2"]])
def test_a_text_that_is_no_value_is_never_read_as_two(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"Extra data|Expecting"):
        parsed(texts)
