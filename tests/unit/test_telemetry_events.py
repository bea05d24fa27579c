"""Who is told of what happened."""

from __future__ import annotations

from runner.telemetry import ClaimLost, Event, Events, JobSettled, JobStarted
from tests.factories import NOW, make_run


def test_a_subscriber_is_told_of_the_kinds_that_it_wants() -> None:
    """All of them; without those that it ignores; or only those that it names. Who came later too."""
    events, told = Events(), dict[str, list[Event]](all=[], most=[], few=[])
    started, lost = JobStarted(make_run(), NOW), ClaimLost(make_run(), NOW)
    events.subscribe(told["all"].append)
    events.emit(started)
    events.subscribe(told["most"].append, ignores=(JobStarted,))
    events.subscribe(told["few"].append, only=(JobStarted, JobSettled))
    for event in (started, lost):
        events.emit(event)
    assert told == {"all": [started, started, lost], "most": [lost], "few": [started]}
    events.forget(told["all"].append)
    events.emit(lost)
    assert (len(told["all"]), len(told["most"])) == (3, 2)
