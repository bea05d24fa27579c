"""What the server was doing for our processes as a fault came: a fault between two statements shows little."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import psycopg

from tests.faults.checker import History
from tests.faults.projects import Project

LENGTH = 60
OURS = "application_name LIKE 'runner%' AND datname = current_database()"
DOING = f"CASE state WHEN 'active' THEN left(regexp_replace(query, '\\s+', ' ', 'g'), {LENGTH}) ELSE state END AS doing"


def statements(project: Project) -> list[str]:
    """Of all connections that are at something; nothing where the server cannot be asked."""
    with suppress(psycopg.Error):
        return [row["doing"] for row in project.rows(f"SELECT {DOING} FROM pg_stat_activity WHERE {OURS} {AT_IT}")]
    return []


def terminate(project: Project, pid: int) -> list[str]:
    """End that connection; what it was at."""
    asked = f"SELECT {DOING}, pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {pid} {AT_IT}"
    found = [row["doing"] for row in project.rows(asked)]
    if not found:
        project.rows(f"SELECT pg_terminate_backend({pid})")
    return found


def told(history: History) -> str:
    """How often each was interrupted."""
    counts = Counter(doing.strip() for line in history.of("fault") for doing in line.get("interrupted", ()))
    return "\n".join(f"  interrupted {count} x {doing}" for doing, count in counts.most_common())


AT_IT = "AND state <> 'idle'"
