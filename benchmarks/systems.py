"""The queues that are measured on PostgreSQL: how each is set up, and how its tables say what was done."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "benchmarks" / "peers"


@dataclass(frozen=True, slots=True)
class System:
    """One queue. `places` is its best known setting for a drain, `idle` what it is shipped with."""

    name: str
    table: str  # locked until all workers wait for it
    finished: str  # table and condition of what is completed
    identity: str = "id"
    wrong: str = "false"  # true for a completed row that is not as it must be
    places: int = 0
    idle: int = 0
    packages: tuple[str, ...] = ()
    python: tuple[int, int] | None = None  # the oldest that it runs on, where ours is older
    settings: str = ""

    @property
    def program(self) -> Path:
        return PROGRAMS / f"{self.name}_program.py"


OURS = System(
    "runner",
    "background_jobs",
    "background_jobs WHERE status = 'completed' AND completed_at IS NOT NULL",
    wrong="NOT (attempt = 1 AND run_number = 1 AND length(claim_token) = 32 "
    "AND coalesce(result ->> 'n', result #>> '{}') = payload ->> 'n' "
    "AND created_at <= started_at AND started_at <= completed_at)",
    places=400,
    idle=2,
    settings="`runner serve`, shipped defaults; drains with `--concurrency 400`",
)
BARE = System(
    "bare",
    "background_jobs",
    "background_jobs WHERE status = 'completed' AND completed_at IS NOT NULL",
    settings="psycopg 3.3, prepared statements on our table, each its own transaction in one round trip",
)
PEERS = {
    "pgqueuer": System(
        "pgqueuer",
        "pgqueuer",
        "pgqueuer_log WHERE status = 'successful'",
        identity="job_id",
        places=500,
        idle=10,
        packages=("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
        settings="1.6.0, asyncpg, uvloop, all tables logged (its default); drains with batch_size 500, else its "
        "default 10; plain functions by asyncio.to_thread, as it advises",
    ),
    "procrastinate": System(
        "procrastinate",
        "procrastinate_jobs",
        "procrastinate_jobs WHERE status = 'succeeded'",
        wrong="attempts <> 1",
        places=10,
        idle=1,
        packages=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
        settings="3.10.0, asynchronous psycopg connector; drains with concurrency 10, else its default 1",
    ),
    "oban": System(
        "oban",
        "oban_jobs",
        "oban_jobs WHERE state = 'completed'",
        wrong="attempt <> 1",
        places=500,
        idle=10,
        packages=("oban==0.7.0", "psycopg[binary,pool]==3.3.9", "uvloop==0.23.0"),
        python=(3, 12),
        settings="0.7.0, psycopg, uvloop; drains with limit 500, else 10; plain functions by asyncio.to_thread",
    ),
}


def environment(system: System, folder: Path) -> str | None:
    """The Python of an environment that holds this peer alone; None where no Python is new enough for it."""
    base = _base(system.python)
    if base is None:
        return None
    if not system.packages:
        return sys.executable
    place = folder / f"env-{system.name}"
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", base, place], check=True)
    python = str(place / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    subprocess.run([*install, *system.packages], check=True)
    return python


def _base(oldest: tuple[int, int] | None) -> str | None:
    if oldest is None or sys.version_info[:2] >= oldest:
        return sys.executable
    return next((python for python in _pythons(oldest) if _version(python) >= oldest), None)


def _pythons(oldest: tuple[int, int]) -> Iterator[str]:
    major, minor = oldest
    for newer in range(minor, minor + 3):
        found = shutil.which(f"python{major}.{newer}")
        yield from [found] if found else []
        yield from map(str, sorted(Path.home().glob(f".pyenv/versions/{major}.{newer}*/bin/python")))


def _version(python: str) -> tuple[int, int]:
    """(0, 0) where it does not start: a name on the path may lead nowhere."""
    asked = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    if done.returncode:
        return (0, 0)
    major, minor = map(int, done.stdout.split())
    return major, minor
