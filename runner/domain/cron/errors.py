"""What is wrong with a cron expression or a zone, in words for the person who wrote it."""

from __future__ import annotations


class CronError(ValueError):
    """An expression that is refused. `position` is the offset of the offending field in the text as written."""

    def __init__(self, message: str, hint: str | None = None, position: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.position = position


class UnknownZone(CronError):
    """A zone name that the IANA database does not have. A CronError too, so that one `except` is enough."""
