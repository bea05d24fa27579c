"""Ours beside its peers and the bare driver on one PostgreSQL server of our own, in turn in the same run.

`python -m benchmarks.postgresql [--jobs N] [--repeat N] [--backlog N] [--only drain,...] [--peers pgqueuer,...]`.
The server syncs every commit. Workers of a drain wait for a locked table until all are up; the time runs from its
release to the commit of the last completion, as the server noted both. What was drained is counted and checked.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import psycopg

from benchmarks.measure import machine
from benchmarks.rig import LONGEST, Bench, Worker
from benchmarks.side_by_side import Goal, Line, spread, table
from benchmarks.systems import BARE, OURS, PEERS, System, environment
from tests.contract.postgres import Server

SERVER = (
    "fsync=on", "synchronous_commit=on", "shared_buffers=512MB", "max_wal_size=4GB", "max_connections=200",
    "track_commit_timestamp=on",
)  # fmt: skip
ONE_BY_ONE, BULK = 1_000, 20_000
PICKUPS, WARM_UP, PAUSE = 200, 20, 0.02
# Seconds that are looked at, and before: what an idle connection has done is told up to ten seconds late by the server.
IDLE, SETTLING = 20.0, 15.0
LONGER = 5  # times as many jobs of a deep table
STARTED = 1.0  # seconds that a worker has to be up, after the first has come to the gate
DEEP = ("pgqueuer",)  # who drains a deep table beside ours

SHARE = {"plain": (2.5, 1.5), "async": (1.2, 0.8)}
LINES = [
    Line("enqueue", "enqueue one by one (`runner.enqueue`)", goals=(Goal(0.6, whose="bare"),)),
    Line("store", "the same (`JobStore.enqueue`)", goals=(Goal(0.6, whose="bare"),), beside="enqueue"),
    Line("bulk", "enqueue in calls of 1,000", goals=(Goal(1.0, whose="pgqueuer"),)),
    *(
        Line(f"drain {kind} {processes}", f"drain, {kind} handlers, {processes} process{'es' * (processes - 1)}",
             goals=(Goal(SHARE[kind][0], SHARE[kind][1], "pgqueuer"),))
        for kind in ("async", "plain") for processes in (1, 2)
    ),
    Line("pickup p50", "pick-up, p50", "ms", 2, goals=(Goal(3),)),
    Line("pickup p99", "pick-up, p99", "ms", 2, goals=(Goal(6),)),
    Line("idle transactions", "20 s idle", "transactions", goals=(Goal(20.5),)),
    Line("idle cpu", "20 s idle", "CPU s", 2),
    Line("idle connections", "20 s idle", "connections"),
]  # fmt: skip


def deep_line(depth: int) -> Line:
    key = f"deep {depth}"
    return Line(key, f"drain, async handlers, 1 process, {depth:,} waiting",
                goals=(Goal(0.9, whose="runner", line="drain async 1"),))  # fmt: skip


# ---- the measures


def enqueue(bench: Bench) -> None:
    for name, system in bench.systems.items():
        with bench.database(system) as url:
            bench.add("enqueue", name, bench.rate(system, "enqueue", url, ONE_BY_ONE))
            _expect(url, system, waiting=ONE_BY_ONE)
        if system is OURS:
            with bench.database(system) as url:
                bench.add("store", name, bench.rate(system, "store", url, ONE_BY_ONE))


def bulk(bench: Bench) -> None:
    for name, system in bench.systems.items():
        if system is not BARE:
            with bench.database(system) as url:
                bench.add("bulk", name, bench.rate(system, "bulk", url, BULK))
                _expect(url, system, waiting=BULK)


def drain(bench: Bench) -> None:
    for kind in ("async", "plain"):
        for processes in (1, 2):
            for name, system in bench.systems.items():
                rate = drained(bench, system, kind, processes, bench.jobs)
                bench.add(f"drain {kind} {processes}", name, rate)


def deep(bench: Bench) -> None:
    for depth in bench.depths:
        for name, system in bench.systems.items():
            if name == OURS.name or name in DEEP:
                bench.add(f"deep {depth}", name, drained(bench, system, "async", 1, depth, bench.jobs * LONGER))


def pickup(bench: Bench) -> None:
    for name, system in bench.systems.items():
        if system is not BARE:
            found = sorted(pickups(bench, system))
            bench.add("pickup p50", name, statistics.median(found))
            bench.add("pickup p99", name, found[int(len(found) * 0.99)])


def idle(bench: Bench) -> None:
    """All at once, each in a database of its own: nobody does anything that would disturb the others."""
    with ExitStack() as stack:
        workers = {}
        for name, system in bench.systems.items():
            if system is not BARE:
                url = stack.enter_context(bench.database(system))
                workers[name] = stack.enter_context(bench.worker(system, url, "async", system.idle))
        time.sleep(SETTLING)
        before = {name: (_transactions(bench, name), worker.cpu) for name, worker in workers.items()}
        time.sleep(IDLE)
        for name, worker in workers.items():
            worker.look()
            (transactions, connections), cpu = _transactions(bench, name), worker.cpu
            bench.add("idle transactions", name, transactions - before[name][0][0])
            bench.add("idle cpu", name, cpu - before[name][1])
            bench.add("idle connections", name, connections)


MEASURES: dict[str, Callable[[Bench], None]] = {
    "enqueue": enqueue, "bulk": bulk, "drain": drain, "pickup": pickup, "idle": idle, "deep": deep,
}  # fmt: skip


def drained(bench: Bench, system: System, kind: str, processes: int, depth: int, jobs: int | None = None) -> float:
    """Jobs a second, of `jobs` that are done, with `depth` waiting at the start; else of `bench.jobs`."""
    jobs = min(jobs or bench.jobs, depth)
    with bench.database(system, depth) as url, ExitStack() as stack:
        if system is BARE:
            return bench.rate(system, "pairs", url, jobs)
        _warm(url, system, jobs)
        with psycopg.connect(url) as gate:
            gate.execute(f"LOCK TABLE {system.table} IN EXCLUSIVE MODE")
            workers = [stack.enter_context(bench.worker(system, url, kind, system.places)) for _ in range(processes)]
            _until(lambda: _waiting(url) >= processes, workers, 0.05)
            time.sleep(STARTED)
            began = _moment(gate, "SELECT clock_timestamp()")
        _until(lambda: _finished(url, system) >= jobs, workers, 0.1)
        seen = [n for worker in workers for n, _ in worker.end()]
        with psycopg.connect(url) as connection:
            ended = _moment(
                connection,
                f"SELECT pg_xact_commit_timestamp(xmin) FROM {system.finished} ORDER BY 1 OFFSET {jobs - 1} LIMIT 1",
            )
        _expect(url, system, done=jobs if depth == jobs else None, seen=seen)
        return jobs / (ended - began).total_seconds()


def pickups(bench: Bench, system: System) -> list[float]:
    """Milliseconds from the call of another process to the first line of the handler, of an idle worker."""
    count = WARM_UP + PICKUPS
    with bench.database(system) as url, bench.worker(system, url, "stamp", system.idle) as worker:
        _until(lambda: _transactions(bench, system.name)[1] > 0, [worker], 0.05)
        time.sleep(2 * STARTED)
        calls = bench.program(system, "trickle", url, count, PAUSE)
        _until(lambda: _finished(url, system) >= count, [worker], 0.05)
        stamps = dict(worker.end() or _results(url))
        _expect(url, system, done=count, seen=list(stamps))
    assert isinstance(calls, list)
    assert len(stamps) == count
    return [(stamps[n] - called) / 1e6 for n, called in enumerate(calls)][WARM_UP:]


# ---- what the database says


def _expect(
    url: str, system: System, *, waiting: int = 0, done: int | None = None, seen: Sequence[int] | None = None
) -> None:
    """Nothing done twice, nothing wrong; all of `done`, or with `waiting` all of them there."""
    with psycopg.connect(url) as connection:
        if waiting:
            (found,) = connection.execute(f"SELECT count(*) FROM {system.table}").fetchone() or (0,)
            told = f"{found} of {waiting} are there"
            is_right = found == waiting
        else:
            rows, different, wrong = connection.execute(
                f"SELECT count(*), count(DISTINCT {system.identity}), count(*) FILTER (WHERE {system.wrong}) "
                f"FROM {system.finished}"
            ).fetchone() or (0, 0, 0)
            again = _again(connection) if system is OURS else len(seen or ()) - len(set(seen or ()))
            unseen = 0 if system is OURS else rows - len(set(seen or ()))
            told = f"{rows} done, {different} different, {wrong} wrong, {again} again, {unseen} never handled"
            is_right = rows == different and not wrong and not again and not unseen and done in (None, rows)
    if not is_right:
        raise SystemExit(f"{system.name} was not right: {told}")


def _again(connection: psycopg.Connection) -> int:
    """Of ours: runs that were not the first."""
    asked = "SELECT count(*) FROM job_attempts WHERE outcome <> 'released'"
    return int((connection.execute(asked).fetchone() or (0,))[0])


def _results(url: str) -> list[tuple[int, int]]:
    with psycopg.connect(url) as connection:
        return [(found["n"], found["at"]) for (found,) in connection.execute(f"SELECT result FROM {OURS.finished}")]


def _finished(url: str, system: System) -> int:
    """By an index where there is one: to walk through what waits would take the processors from who is measured."""
    with psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        return int((connection.execute(f"SELECT count(*) FROM {system.finished}").fetchone() or (0,))[0])


def _warm(url: str, system: System, jobs: int) -> None:
    """Rows that will be drained, in the server's memory: a small copy is there when it is made, a large one is not."""
    with psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute(
            f"SELECT max(length(one::text)) FROM (SELECT * FROM {system.table} ORDER BY id LIMIT {jobs}) one"
        )


def _waiting(url: str) -> int:
    """Connections that wait for a lock."""
    asked = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
    with psycopg.connect(url) as connection:
        return int((connection.execute(asked).fetchone() or (0,))[0])


def _moment(connection: psycopg.Connection, statement: str) -> datetime:
    (found,) = connection.execute(statement).fetchone() or (None,)
    assert isinstance(found, datetime)
    return found


def _transactions(bench: Bench, name: str) -> tuple[int, int]:
    """Of the system's database: transactions so far, and connections; asked from another database."""
    asked = "SELECT xact_commit + xact_rollback, numbackends FROM pg_stat_database WHERE datname = %s"
    with psycopg.connect(bench.server.url) as connection:
        transactions, connections = connection.execute(asked, [f"{name}_now"]).fetchone() or (0, 0)
    return int(transactions), int(connections)


def _until(condition: Callable[[], bool], workers: Sequence[Worker], pause: float) -> None:
    """Looks take a hundredth of the time at most: to count a million rows would slow down what is measured."""
    deadline = time.monotonic() + LONGEST
    while True:
        began = time.monotonic()
        if condition():
            return
        asked = time.monotonic() - began
        for worker in workers:
            worker.look()
        if time.monotonic() > deadline:
            logs = "\n".join(worker.log.read_text()[-1000:] for worker in workers)
            raise SystemExit(f"waited {LONGEST:g} s in vain\n{logs}")
        time.sleep(max(pause, 100 * asked))


# ---- the run


@contextmanager
def prepared(options: argparse.Namespace) -> Iterator[tuple[Bench, dict[str, str]]]:
    """A bench that is ready, and who is left out and why."""
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as place:
        wanted = {name: PEERS[name] for name in options.peers.split(",") if name}
        pythons = {name: environment(system, Path(place)) for name, system in wanted.items()}
        left_out = {
            name: "needs Python {}.{}, which this machine has not".format(*(wanted[name].python or (0, 0)))
            for name, python in pythons.items() if python is None
        }  # fmt: skip
        systems = {OURS.name: OURS, BARE.name: BARE, **{n: one for n, one in wanted.items() if n not in left_out}}
        found = {OURS.name: sys.executable, BARE.name: sys.executable} | {n: p for n, p in pythons.items() if p}
        server = Server.start(Path(tempfile.mkdtemp(prefix="runner-pg-")), *SERVER)
        try:
            yield Bench(server, Path(place), systems, found, options.jobs, _depths(options.backlog)), left_out
        finally:
            server.remove()


def _depths(backlog: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys((backlog // 10, backlog))) if backlog else ()


def report(bench: Bench, left_out: dict[str, str], seconds: float) -> str:
    lines = [*LINES[:7], *map(deep_line, bench.depths), *LINES[7:]]
    others = [name for name in bench.systems if name != OURS.name]
    said = [f"- {name}: {system.settings}" for name, system in bench.systems.items()]
    said += [f"- {name}: left out, {why}" for name, why in left_out.items()]
    with psycopg.connect(bench.server.url) as connection:
        version = connection.info.parameter_status("server_version")
    return "\n".join([
        f"{machine()}, PostgreSQL {version}: {', '.join(SERVER)}",
        f"{bench.jobs:,} jobs, {seconds / 60:.0f} minutes, fdatasync before each: {spread(bench.disk)} a second",
        "", table(lines, others, bench.figures), "", *said,
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.postgresql", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of one drain (10,000)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--backlog", type=int, default=1_000_000, help="the deeper of two deep tables; 0: none")
    parser.add_argument("--only", default=",".join(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    options = parser.parse_args()
    began = time.monotonic()
    with prepared(options) as (bench, left_out):
        for turn in range(options.repeat):
            for name in options.only.split(","):
                sys.stderr.write(f"turn {turn + 1}: {name}, {time.monotonic() - began:.0f} s\n")
                MEASURES[name](bench)
        print(report(bench, left_out, time.monotonic() - began))


if __name__ == "__main__":
    main()
