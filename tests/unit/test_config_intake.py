"""A payload that does not fit is refused in words that hold for the command line, programs and schedules alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.config.intake import Intake
from runner.domain.errors import PayloadInvalid, UnsetVariable
from runner.domain.schedule import Definitions, JobType, Schedule

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCHEMA = {
    "required": ["folder", "days"],
    "properties": {
        "folder": {"type": "string"},
        "days": {"type": "integer"},
        "tags": {"type": "array"},
        "mail": {"required": ["to"], "properties": {"to": {}}},
        "sizes": {"items": {"enum": ["s", "m"]}},
    },
}
FITS = {"folder": "inbox", "days": 3}


def intake(**environ: str) -> Intake:
    return Intake(Definitions(job_types={"scan": JobType("scan", "handlers.a.b", payload_schema=SCHEMA)}), 1, environ)


@pytest.mark.parametrize(
    ("payload", "said", "hint"),
    [
        ({"days": 3}, "folder is missing", 'add "folder"'),
        ({}, "folder is missing; days is missing", 'add "folder"; add "days"'),
        (FITS | {"mail": {}}, "to is missing in mail", 'add "to" to mail'),
        (FITS | {"days": "3"}, "days must be a whole number, not text", "remove the quotes: 3"),
        (FITS | {"tags": "a"}, "tags must be a list, not text", 'write ["a"]'),
        (FITS | {"sizes": ["s", "l"]}, 'sizes[1] cannot be "l"', "write s or m"),
        ({"foldr": "inbox", "days": 3}, 'unknown field "foldr"', 'did you mean "folder"?'),
        ({"folder": 5, "days": 3.5}, "", 'folder: quote it: "5"'),
    ],
)
def test_what_does_not_fit_is_named_once_with_a_remedy(payload: dict[str, Any], said: str, hint: str) -> None:
    """Each thing once, by its key, with a remedy that is right for JSON."""
    with pytest.raises(PayloadInvalid) as caught:
        intake().job("scan", payload, NOW)
    assert caught.value.message.startswith(f"the payload does not fit scan: {said}")
    assert not said or caught.value.message.endswith(said)
    assert caught.value.hint == hint


def test_a_schedule_is_named_where_its_payload_does_not_fit_or_cannot_be_read() -> None:
    """The payload of a schedule is resolved with the environment of whoever fires it."""
    nightly = Schedule("nightly", job="scan", payload={"folder": "${FOLDER}", "dayz": 3})
    with pytest.raises(PayloadInvalid, match=r"^schedule nightly: the payload does not fit scan: "):
        intake(FOLDER="inbox").scheduled(nightly, NOW)
    with pytest.raises(UnsetVariable, match=r"no FOLDER, which schedules\.nightly\.payload\.folder refers to$"):
        intake().scheduled(nightly, NOW)
