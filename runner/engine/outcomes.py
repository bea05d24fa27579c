"""From what a handler did to an Outcome: returned a value, or raised."""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType

from runner.domain.compact import encoding
from runner.domain.outcome import (
    Cancel,
    Cancelled,
    Completed,
    Failed,
    JobCancelled,
    Outcome,
    Released,
    Retry,
    Snooze,
    Snoozed,
)
from runner.domain.retry import LONGEST
from runner.engine.context import Stop

LARGEST_RESULT = 1024 * 1024
LONGEST_ERROR = 16_000
_NOTHING = Completed(None)
_encode = encoding(ensure_ascii=True)
_OURS = ("/runner/engine/",)


def returned(value: object) -> Outcome:
    """A completed run, unless the value is no JSON or too large: then it fails for good, another try cannot help."""
    if value is None:
        return _NOTHING
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return Failed(f"the result is not JSON: {error}", for_good=True)
    if len(text) > LARGEST_RESULT:
        return Failed(
            f"the result has {len(text):,} bytes of JSON; the limit is {LARGEST_RESULT:,} (1 MiB)", for_good=True
        )
    if "\\u0000" in text or "\\ud" in text:
        text = _encode(_replaced(value))
    return Completed(text)


def raised(error: BaseException, stop: Stop) -> Outcome:
    """What an exception out of a handler means. One that follows a request to stop means that it stopped."""
    match error:
        case Retry(after=after):
            return Failed(described(error), kinds_of(error), retry_after=None if after is None else min(after, LONGEST))
        case Snooze(delay=delay):
            return Snoozed(min(delay, LONGEST))
        case JobCancelled() | asyncio.CancelledError() if stop.kind is not None:
            return stopped(stop)
        case Cancel() | JobCancelled():
            return Cancelled(storable(str(error)) or "cancelled by the handler")
    return Failed(described(error), kinds_of(error))


def stopped(stop: Stop) -> Outcome:
    """The end of a run that was asked to stop."""
    if stop.kind == "timeout":
        return Failed(f"TimeoutError: {stop.reason}", kinds_of(TimeoutError()))
    if stop.kind == "shutdown":
        return Released(stop.reason)
    return Cancelled(stop.reason or "cancelled")


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """Dotted names of the class and its bases, in method resolution order."""
    return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__ if kind is not object)


def described(error: BaseException) -> str:
    """One line that says it, then the traceback from the handler's own first frame on."""
    summary = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SyntaxError):
        summary = f"{type(error).__name__}: {error}"  # Python shows the place first
    frames = "".join(traceback.format_exception(type(error), error, _users(error.__traceback__)))
    text = f"{summary}\n\n{frames}".strip() if error.__traceback__ else summary
    clean = storable(text)
    return clean if len(clean) <= LONGEST_ERROR else f"{clean[:LONGEST_ERROR]}\n[cut at {LONGEST_ERROR:,} characters]"


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of ours that lead to the handler."""
    while (
        trace is not None
        and trace.tb_next is not None
        and any(part in trace.tb_frame.f_code.co_filename.replace("\\", "/") for part in _OURS)
    ):
        trace = trace.tb_next
    return trace


def storable(text: str) -> str:
    """Text as both databases take it: no NUL, no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _replaced(value: object) -> object:
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(key) if isinstance(key, str) else key: _replaced(item) for key, item in value.items()}
        case list() | tuple():
            return [_replaced(item) for item in value]
    return value
