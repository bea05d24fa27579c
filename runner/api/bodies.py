"""What requests say: checked before anything is done, and in the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from runner.domain.duration import LONGEST
from runner.domain.errors import UsageError
from runner.domain.job import JobState
from runner.domain.moment import PATTERN, in_utc

LARGEST = 2**63 - 1
MOST_IN_BULK = 1000


def _text(value: object) -> object:
    """A number would be taken for seconds since 1970."""
    if not isinstance(value, str) or not value[:4].isdecimal() or value[4:5] != "-":
        raise ValueError("a time is text, as 2026-03-29T06:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return in_utc(value)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.hint}") from None


JobId = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
Storable = Annotated[str, StringConstraints(pattern="^[^\\x00]*$")]
Priority = Annotated[int, Field(strict=True, ge=1, le=10)] | Literal["high", "normal", "low"]
Length = Annotated[
    str,
    StringConstraints(
        min_length=2, pattern="^([0-9]{1,4}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?$"
    ),
]
Seconds = Annotated[float, Field(strict=True, ge=0, le=LONGEST.total_seconds(), allow_inf_nan=False)]
Moment = Annotated[
    AwareDatetime, BeforeValidator(_text), AfterValidator(_in_utc),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": PATTERN}),
]  # fmt: skip
Ago = Moment | Length
Payload = Annotated[Any, WithJsonSchema({"type": "object", "additionalProperties": True})]  # looked at by the intake


class Request(BaseModel):
    """An unknown field is an error: it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid")


class UniqueBody(Request):
    """While one such job waits or is unfinished, another is a duplicate; at the longest for `window`."""

    until: Literal["started", "finished"] = "finished"
    window: Length | None = None
    by: list[str] = Field(default_factory=list, description="Keys of the payload that tell jobs apart; all if empty.")


class NewJobBody(Request):
    """A job to enqueue. Its policy is that of its type in the revision in force."""

    type: str = Field(description="A job type of the revision in force.", examples=["rag_sync_news"])
    payload: Payload = Field(default_factory=dict, description="As the payload_schema of the type says.")
    priority: Priority | None = Field(None, description="1 (first) to 10 (last), or a word.")
    run_at: Moment | None = Field(None, description="Not before this time.")
    delay: Seconds | Length | None = Field(None, description="Not before so long from now: seconds, or 10m.")
    project_id: Storable | None = Field(None, description="Whose job it is.")
    unique: Literal["started", "finished"] | UniqueBody | None = None


class BulkBody(Request):
    jobs: list[NewJobBody] = Field(min_length=1, max_length=MOST_IN_BULK)


class JobConditions(Request):
    """All that are given hold."""

    project_id: Storable | None = None
    status: list[JobState] = Field(default_factory=list)
    type: list[Storable] = Field(default_factory=list)
    queue: Storable | None = None
    schedule: Storable | None = None
    since: Ago | None = Field(None, description="Created after: a time, or how long ago, as 24h.")
    until: Ago | None = Field(None, description="Created before: a time, or how long ago.")
    q: Storable | None = Field(None, description="Text in the error, the message or the type, or an id.")


class JobQuery(JobConditions):
    limit: int = Field(50, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=LARGEST)
    after: int | None = Field(None, ge=0, le=LARGEST, description="`next` of the page before.")


class ActionBody(Request):
    """Cancel or retry these jobs, or those that a filter finds, the newest first, up to 1,000 at once."""

    action: Literal["cancel", "retry"]
    ids: list[JobId] | None = Field(None, min_length=1, max_length=MOST_IN_BULK)
    filter: JobConditions | None = None
    dry_run: bool = Field(False, strict=True, description="Only count.")
    reason: Storable | None = Field(None, description="Of a cancel; kept with each job.")


class CancelBody(Request):
    reason: Storable | None = Field(None, description="Kept with the job.")


class PauseBody(Request):
    reason: Storable | None = Field(None, description="Shown wherever the pause is.")


class BackfillBody(Request):
    start: Moment = Field(alias="from")
    end: Moment = Field(alias="to")


class PlanBody(Request):
    source: str = Field(max_length=1_000_000, description="The text of a schedules.yaml.")
    next: int = Field(3, strict=True, ge=0, le=100, description="How many fire times to show.")
    now: Moment | None = Field(None, description="The time to plan from; that of the server.")
    form: Literal["json", "text", "markdown"] = Field("json", description="In which words it is `shown` besides.")
    name: str = Field("schedules.yaml", max_length=4096, description="What these words call the file.")
