"""Did you mean?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

BUDGET = 20_000  # pairs of words compared for one file; a report shows far fewer problems than that allows
LONGEST = 100
CLOSE_ENOUGH = 0.6


class Suggester:
    """Finds the closest name. Stops looking when it has compared too much: hints are not worth seconds."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._left = budget

    def closest(self, word: str, names: Iterable[str]) -> str | None:
        """The name that the word was probably meant to be.

        >>> Suggester().closest("crom", ["job", "cron", "every"])
        'cron'
        """
        candidates = [name for name in names if abs(len(name) - len(word)) <= 1 + len(word) // 2]
        self._left -= len(candidates)
        if self._left < 0 or len(word) > LONGEST:
            return None
        matcher = SequenceMatcher(b=word.lower(), autojunk=False)
        best, closest = CLOSE_ENOUGH, None
        for name in candidates:
            matcher.set_seq1(name.lower())
            if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best and (ratio := matcher.ratio()) > best:
                best, closest = ratio, name
        return closest


def did_you_mean(name: str | None) -> str | None:
    return f'did you mean "{name}"?' if name else None
