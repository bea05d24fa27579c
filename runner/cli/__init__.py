"""The command line. This file imports next to nothing: each spawned handler process loads it again."""

from __future__ import annotations

import sys

INIT = 1  # its process id


def main() -> None:
    """The `runner` command. Ctrl-C ends it without a traceback, however early it comes."""
    try:
        _hear_as_init()
        use_current_sqlite()
        from runner.cli.main import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


def _hear_as_init() -> None:
    """The first process of a container: to it alone the kernel gives no signal that has no handler."""
    import os
    import signal

    if os.getpid() == INIT:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))


def use_current_sqlite() -> None:
    """Put the wheel `pysqlite3` in the place of `sqlite3` for this whole process, where it is installed.

    Before anything is imported that knows either: two SQLite libraries on one file in one process drop each other's
    locks. A program that imports `runner` is not touched by this.
    """
    if "sqlite3" in sys.modules:
        return
    try:
        import pysqlite3
    except ImportError:
        return
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
