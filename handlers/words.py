"""Words and pairs of words of a text, as trends and embeddings count them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# English words that say nothing about a subject.
_COMMON = frozenset(
    re.findall(
        "[a-z]+",
        """a about after again all also am an and any are as at be because been before being between both but by can
        could did do does each even every few for from get give gives had has have he her here him his how i if in into
        is it its itself just like made make makes many may me more most much my never no none nor not nothing now of
        off on once one only or other our out over own same say says see she should so some still such than that the
        their them then there these they thing things this those three through to today too two under until up use used
        very was we were what when where which while who whose why will with without would yet you your""",
    )
)


def words(text: str) -> list[str]:
    """The words of a text in order, in lower case.

    >>> words("At-least-once delivery: the JOB’s part")
    ['at-least-once', 'delivery', 'the', "job's", 'part']
    """
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def terms(text: str) -> Iterator[str]:
    """The words that say something, and the pairs of them that stand side by side.

    >>> list(terms("Retry budgets for the queue"))
    ['retry', 'retry budgets', 'budgets', 'queue']
    """
    spoken = words(text)
    for word, following in zip(spoken, [*spoken[1:], ""], strict=True):
        if _says_something(word):
            yield word
            if _says_something(following):
                yield f"{word} {following}"


def _says_something(word: str) -> bool:
    return len(word) > 2 and word not in _COMMON
