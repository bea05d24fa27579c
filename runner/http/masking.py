"""What looks like a secret is not shown: by the name under which it stands."""

from __future__ import annotations

import re
from typing import Any

NAMES = re.compile(
    r"passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credential|authorization|cookie",
    re.IGNORECASE,
)
MASK = "••••••"


def masked(value: Any) -> Any:
    """A copy for people.

    >>> masked({"user": "ann", "login": [{"Password": "x", "empty_token": None}]})
    {'user': 'ann', 'login': [{'Password': '••••••', 'empty_token': None}]}
    """
    match value:
        case dict():
            return {name: masked_as(name, one) for name, one in value.items()}
        case list():
            return [masked(one) for one in value]
    return value


def is_secret(name: Any) -> bool:
    return NAMES.search(str(name).replace("-", "_")) is not None


def masked_as(name: Any, value: Any) -> Any:
    """What stands under that name, whatever it is; nothing, yes and no are told."""
    is_told = value in (None, "") or isinstance(value, bool)
    return MASK if is_secret(name) and not is_told else masked(value)
