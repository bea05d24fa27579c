"""The errors that reach a caller: one class for each thing that a caller can do about it."""

from __future__ import annotations

from collections.abc import Sequence

from runner.domain.problem import Problem


class RunnerError(Exception):
    """Base of all. The message names the thing and the place; `hint` names the remedy."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(RunnerError):
    """The call itself is wrong: an option, a value, a combination."""


class ConfigInvalid(RunnerError):
    """The file cannot be used. `problems` holds all of them, in file order."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        errors = sum(1 for problem in problems if problem.is_error)
        super().__init__(f"{source}: {errors} problem{'s' * (errors != 1)} found", f"runner validate {source}")
        self.source = source
        self.problems = list(problems)


class RemovalsRefused(RunnerError):
    """An edit would retire most of the schedules, and nobody said that this is meant."""


class StaleRevision(RunnerError):
    """Another process applied a revision since this plan was made."""


class NotFound(RunnerError):
    """No such job, job type, schedule or revision, or nothing matched a selection."""


class UnknownJobType(NotFound):
    """The revision in force has no job type of that name."""


class PayloadInvalid(RunnerError):
    """The payload does not fit its job type. `problems` name each place in it."""

    def __init__(self, message: str, problems: Sequence[Problem] = (), hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.problems = list(problems)


class BulkRefused(RunnerError):
    """Of several jobs one cannot be enqueued, so none was: which of them, and why."""

    def __init__(self, index: int, error: RunnerError) -> None:
        super().__init__(error.message, error.hint)
        self.index = index
        self.error = error


class UnsetVariable(RunnerError):
    """The file refers to a variable that the environment does not have."""


class Conflict(RunnerError):
    """Too late, or already there: the state of the thing forbids the call."""


class NotAllowed(RunnerError):
    """The caller or the file does not permit this."""


class HandlerNotFound(RunnerError):
    """A dotted path does not lead to a function that takes (ctx, payload)."""


class NotThereYet(RunnerError):
    """Accepted by the format, executed by a later release."""


class DatabaseUnavailable(RunnerError):
    """The database cannot be reached, read or written."""


class BrokenOff(DatabaseUnavailable):
    """The transaction was broken off from outside: nothing was written, and to try again is right."""


class CommitInDoubt(DatabaseUnavailable):
    """The answer to a commit was lost: what was written is there as a whole, or not at all."""


class ServerUnreachable(RunnerError):
    """The server cannot be reached, or what answers there is none of ours."""


class Interrupted(RunnerError):
    """Ctrl-C came, or a module raised KeyboardInterrupt, while a handler was imported."""
