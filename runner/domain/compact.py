"""JSON without a blank, quickly."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from json import encoder


def encoding(*, ensure_ascii: bool) -> Callable[[object], str]:
    """What makes JSON text of a value. Raises ValueError for what JSON has no number for, and TypeError.

    What encodes is made once: `json` makes it anew for each value, which takes longer than its work. Not every Python
    has it.
    """
    slow = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=False, separators=(",", ":"))
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return slow.encode
    quote = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    chunks = make(None, slow.default, quote, None, ":", ",", False, False, False)

    def encode(value: object) -> str:
        with suppress(RecursionError):  # the other says whether it holds itself
            return "".join(chunks(value, 0))
        return slow.encode(value)

    return encode
