"""The rig of the bench on PostgreSQL: a server of our own, fresh databases on it, and the processes that use them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks.side_by_side import Figures
from benchmarks.systems import BARE, OURS, ROOT, System
from tests.contract.postgres import Server

FILE = "version: 1\njob_types:\n  due: {handler: handlers.nothing.%s}\n"
HANDLERS = """
import time


def plain(ctx, payload):
    return payload["n"]


async def concurrent(ctx, payload):
    return payload["n"]


def stamp(ctx, payload):
    return {"n": payload["n"], "at": time.monotonic_ns()}
"""
HANDLER = {"plain": "plain", "async": "concurrent", "stamp": "stamp"}
CALM, PATIENCE = 3_000, 1.0  # fdatasync a second of a disk at rest, and seconds to wait for it
LARGE = 50_000  # jobs
LONGEST = 300.0  # seconds that anything may take
LEADING = {"PYTHONPATH", "DATABASE_URL", "PYTHONDONTWRITEBYTECODE"}


@dataclass(slots=True)
class Bench:
    """The server, the queues with their Pythons, and what was found."""

    server: Server
    folder: Path
    systems: dict[str, System]
    pythons: dict[str, str]
    jobs: int
    depths: tuple[int, ...]
    figures: Figures = field(default_factory=Figures)
    made: set[str] = field(default_factory=set)
    disk: list[float] = field(default_factory=list)

    def add(self, line: str, who: str, value: float) -> None:
        sys.stderr.write(f"  {line}, {who}: {value:,.2f}\n")
        self.figures.add(line, who, value)

    def url(self, database: str) -> str:
        return self.server.url.replace("/postgres?", f"/{database}?")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self, system: System, jobs: int = 0) -> Iterator[str]:
        """The URL of a fresh database with so many jobs waiting: a copy of one that was made once."""
        name = f"{system.name}_now"
        template = self.filled(OURS if system is BARE else system, jobs)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {self.copied(jobs)}")
        self.execute("CHECKPOINT")
        self.disk.append(calm(self.folder))
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def copied(self, jobs: int) -> str:
        """How: a large one file by file, without the write-ahead log; a small one is faster by it."""
        with psycopg.connect(self.server.url) as connection:
            is_new = connection.info.server_version >= 150_000
        return "STRATEGY FILE_COPY" if is_new and jobs > LARGE else ""

    def filled(self, system: System, jobs: int) -> str:
        name = f"{system.name}_{jobs}"
        if name not in self.made:
            self.made.add(name)
            self.execute(f"CREATE DATABASE {name}")
            self.program(system, "install", self.url(name))
            if jobs:
                self.program(system, "bulk", self.url(name), jobs)
            with psycopg.connect(self.url(name), autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE)")
        return name

    def program(self, system: System, command: str, url: str, *arguments: object) -> object:
        """What a system's program prints; `runner apply` is how ours is set up."""
        if command == "install" and system is OURS:
            runner(self.project("plain"), url, "apply").wait_for(0)
            return None
        asked = [self.pythons[system.name], str(system.program), command, url, *map(str, arguments)]
        done = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True, cwd=self.folder, env=_clean())
        return json.loads(done.stdout.splitlines()[-1])

    def rate(self, system: System, command: str, url: str, jobs: int) -> float:
        found = self.program(system, command, url, jobs)
        assert isinstance(found, float)
        return found

    def project(self, kind: str) -> Path:
        folder = self.folder / f"project-{kind}"
        if not folder.exists():
            (folder / "handlers").mkdir(parents=True)
            (folder / "handlers" / "__init__.py").touch()
            (folder / "handlers" / "nothing.py").write_text(HANDLERS)
            (folder / "schedules.yaml").write_text(FILE % HANDLER[kind])
        return folder

    @contextmanager
    def worker(self, system: System, url: str, kind: str, places: int) -> Iterator[Worker]:
        """One process that works, killed if it is not ended inside."""
        if system is OURS:
            options = () if places == system.idle else ("--concurrency", str(places))
            started = runner(self.project(kind), url, "serve", *options)
        else:
            command = [self.pythons[system.name], str(system.program), "serve", url, kind, str(places)]
            started = Worker.start(command, self.folder, _clean())
        try:
            yield started
        finally:
            started.process.kill()
            started.process.wait()


def calm(folder: Path) -> float:
    """Writes that the disk takes for good in a second; where others keep it busy, after a moment's patience."""
    deadline = time.monotonic() + PATIENCE
    while (found := _synced(folder / "probe")) < CALM and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _synced(file: Path) -> float:
    number = os.open(file, os.O_RDWR | os.O_CREAT)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < 0.1:
        os.pwrite(number, bytes(4096), 4096 * (done % 16))
        os.fdatasync(number)
        done += 1
    os.close(number)
    return done / (time.perf_counter() - began)


@dataclass(slots=True)
class Worker:
    """A process with its output in files: a pipe that nobody reads would stop it."""

    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    @classmethod
    def start(cls, command: Sequence[str], folder: Path, environ: dict[str, str]) -> Worker:
        number, output = tempfile.mkstemp(dir=folder, suffix=".out")
        log = Path(output).with_suffix(".log")
        with os.fdopen(number, "wb") as out, log.open("wb") as errors:
            process = subprocess.Popen(command, cwd=folder, env=environ, stdout=out, stderr=errors)
        return cls(process, Path(output), log)

    def look(self) -> None:
        """It must be running."""
        if self.process.poll() is not None:
            raise SystemExit(f"a worker has ended: {self.process.args}\n{self.log.read_text()[-3000:]}")

    def end(self) -> list[tuple[int, int]]:
        """Told to stop, it tells which jobs it handled and when; ours tells nothing, its rows do."""
        self.look()
        self.process.send_signal(signal.SIGTERM)
        self.wait_for(0)
        lines = self.output.read_text().splitlines()
        with suppress(json.JSONDecodeError, IndexError):
            return [(n, at) for n, at in json.loads(lines[-1])]
        return []

    def wait_for(self, code: int) -> None:
        if self.process.wait(LONGEST) != code:
            raise SystemExit(f"{self.process.args} failed\n{self.log.read_text()[-3000:]}")

    @property
    def cpu(self) -> float:
        """Seconds of processors so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def runner(folder: Path, url: str, *arguments: str) -> Worker:
    """A `runner` command in a project."""
    environ = _clean() | {"DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    return Worker.start([sys.executable, "-m", "runner", *arguments], folder, environ)


def _clean() -> dict[str, str]:
    """The environment without what would lead a program elsewhere, or slow its start."""
    return {name: value for name, value in os.environ.items() if name not in LEADING}
