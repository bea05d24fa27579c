"""A database as the first schema (0001) was written: rows in every state, word for word. It stays as it is."""

from __future__ import annotations

from typing import Any

RETRY = (
    '{"backoff":"exponential","delay":[2.0],"factor":2.0,"give_up_on":[],"jitter":0.0,"max_attempts":3,'
    '"max_delay":300.0,"retry_on":[]}'
)
POLICY = f'{{"max_stalls":3,"on_stall":"retry","retry":{RETRY},"timeout":600.0}}'
MAIL = (
    '{"description":"","handler":"handlers.mail.run","isolation":null,"labels":{},"limit":"api","max_stalls":3,'
    '"name":"mail","notify":[],"on_stall":"retry","payload_schema":null,"priority":5,"queue":"default",'
    f'"retry":{RETRY},"steps":[],"timeout":600.0,"unique":null}}'
)
NIGHTLY = (
    '{"catch_up":"latest","catch_up_window":3600.0,"clock_change":"vixie","cron":[],"day_match":"vixie",'
    '"description":"","enabled":true,"every":600.0,"jitter":0.0,"job":"mail","labels":{},"name":"nightly",'
    '"overlap":"skip","payload":{},"priority":null,"project_id":null,"renamed_from":null,"retry":null,"seconds":false,'
    '"starts":null,"timeout":null,"timezone":"UTC","until":null,"workflow":null}'
)
MORNING = (
    NIGHTLY.replace('"cron":[]', '"cron":["0 6 * * *"]')
    .replace('"every":600.0', '"every":null')
    .replace("nightly", "morning")
)
BODY = (
    f'{{"defaults":{{}},"job_types":{{"mail":{MAIL}}},"limits":{{"api":2}},"notify":{{}},'
    '"runner":{"concurrency":2,"handler_packages":["handlers"],"heartbeat":10.0,"retention":2592000.0,'
    f'"shutdown_grace":30.0,"stalled_after":60.0}},"schedules":{{"morning":{MORNING},"nightly":{NIGHTLY}}},'
    '"timezone":"UTC","version":1,"workflows":{}}'
)


def at(clock: str) -> str:
    return f"2026-03-02 {clock}.000000"


def job(number: int, status: str, **values: Any) -> dict[str, Any]:
    given = {
        "id": number, "type": "mail", "queue": "default", "status": status, "priority": 5, "payload": '{"n":1}',
        "progress": 0.0, "run_at": at("11:00:00"), "attempt": 0, "max_attempts": 3, "run_number": 0, "stalls": 0,
        "policy": POLICY, "revision": 1, "created_at": at("10:00:00"),
    }  # fmt: skip
    return given | values


def ran(number: int, status: str, **values: Any) -> dict[str, Any]:
    run = {"attempt": 1, "run_number": 1, "claim_token": f"{number:032d}", "worker_id": "w1"}
    return job(number, status, started_at=at("11:00:01"), **(run | values))


def schedule(name: str, spec: str, **values: Any) -> dict[str, Any]:
    given = {
        "name": name, "job_type": "mail", "expression": "every 10m", "timezone": "UTC", "enabled": True, "spec": spec,
        "cursor": at("11:50:00"), "next_run": at("12:00:00"), "revision": 1, "created_at": at("10:00:00"),
        "updated_at": at("10:00:00"),
    }  # fmt: skip
    return given | values


ENDED = {"completed_at": at("11:00:02")}
WANTED = {"cancel_requested_at": at("11:30:00"), "cancel_reason": "no longer wanted"}
ROWS: dict[str, list[dict[str, Any]]] = {
    "config_revisions": [
        {"number": 1, "sha256": "0" * 64, "source": "version: 1\n", "body": BODY, "applied_at": at("10:00:00"),
         "applied_by": "somebody@somewhere"},
    ],
    "limits": [{"name": "api", "max": 2}],
    "workers": [
        {"id": "w1", "host": "somewhere", "pid": 4711, "version": "0.1.0", "started_at": at("10:00:00"),
         "last_heartbeat": at("11:59:50"), "beats": 700, "stalled_after": 60.0, "concurrency": 2,
         "queues": '{"only":["default"]}', "config_sha256": "0" * 64},
    ],
    "cron_schedules": [
        schedule("nightly", NIGHTLY, last_run=at("11:50:00")),
        schedule("morning", MORNING, expression="0 6 * * *", paused_at=at("10:30:00"), paused_by="somebody",
                 pause_reason="a release", next_run="2026-03-03 06:00:00.000000"),
        schedule("old", NIGHTLY.replace("nightly", "old"), retired_at=at("11:00:00"), next_run=None),
    ],
    "schedule_slots": [
        {"schedule_name": "nightly", "slot": at("11:40:00"), "outcome": "skipped_missed", "reason": "none ran",
         "first_slot": at("08:00:00"), "slot_count": 23, "decided_at": at("11:40:01")},
        {"schedule_name": "nightly", "slot": at("11:50:00"), "outcome": "enqueued", "job_id": 6, "slot_count": 1,
         "decided_at": at("11:50:01")},
    ],
    "background_jobs": [
        job(1, "pending"),
        job(2, "pending", priority=1),
        job(3, "pending", run_at="2027-01-01 00:00:00.000000"),
        job(4, "pending", attempt=1, run_number=1, error="ValueError: once", run_at=at("11:00:05")),
        job(5, "pending", schedule_name="nightly", waiting_for="overlap"),
        ran(6, "running", schedule_name="nightly", scheduled_for=at("11:50:00"), progress=40.0, current_step="half",
            message="half way", limit_name="api"),
        ran(7, "running", **WANTED),
        ran(8, "completed", progress=100.0, result='{"sent":[1,"é"],"ok":null}', project_id="p", **ENDED),
        ran(9, "failed", attempt=3, run_number=3, error="ValueError: no such address", **ENDED),
        job(10, "cancelled", cancel_reason="cancelled by an operator", **ENDED),
        ran(11, "failed", stalls=4, error="Job processor stopped responding", **ENDED),
        job(12, "pending", unique_key="mail:1", unique_until="finished", run_at="2027-01-01 00:00:00.000000"),
    ],
    "job_attempts": [
        {"job_id": 4, "run_number": 1, "attempt": 1, "claim_token": "a" * 32, "worker_id": "w1",
         "started_at": at("11:00:01"), "finished_at": at("11:00:03"), "outcome": "failed", "error": "ValueError: once"},
        *({"job_id": 9, "run_number": number, "attempt": number, "claim_token": f"b{number}", "worker_id": None,
           "finished_at": at("11:00:03"), "outcome": "stalled"} for number in (1, 2)),
    ],
    "job_logs": [
        {"id": 1, "job_id": 8, "run_number": 1, "at": at("11:00:01"), "level": "info", "message": "é\nhello"},
    ],
    "job_outputs": [
        {"id": 1, "job_id": 8, "run_number": 1, "name": "report.txt", "media_type": "text/plain", "at": at("11:00:01"),
         "data": b"\x00three words"},
    ],
}  # fmt: skip
