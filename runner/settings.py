"""Process settings: flags, then the environment, then the file, then the defaults. The only place that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from runner.domain.duration import parse_duration
from runner.domain.errors import RunnerError, UsageError
from runner.domain.schedule import RunnerOptions

DEFAULT_FILE = "schedules.yaml"
DEFAULT_DATABASE = "runner.db"


@dataclass(frozen=True, slots=True)
class Settings:
    """What this process uses, and in `origins` where each value came from."""

    config: Path
    database_url: str
    jobs_enabled: bool = True
    concurrency: int = 2
    heartbeat: timedelta = timedelta(seconds=10)
    stalled_after: timedelta = timedelta(seconds=60)
    shutdown_grace: timedelta = timedelta(seconds=30)
    retention: timedelta = timedelta(days=30)
    busy_timeout: timedelta = timedelta(seconds=15)
    http: bool = True
    host: str = "127.0.0.1"
    port: int = 8080
    root_path: str = ""
    allowed_hosts: tuple[str, ...] = ()
    insecure: bool = False
    log_level: str = "info"
    log_format: str = "auto"
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the file: where handlers are imported from."""
        return self.config.absolute().parent


def whole(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10_000:
        raise ValueError("from 1 to 10000")
    return value


def port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise ValueError("from 0 to 65535")
    return value


def names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip().lower() for part in text.split(",")) if name)


def prefix(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("begins with a slash")
    return text.rstrip("/")


def switch(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return words[text.strip().lower()]


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError(word)
        return word

    return parse


@dataclass(frozen=True, slots=True)
class _Setting:
    parse: Callable[[str], Any]
    variables: tuple[str, ...]
    wants: str
    in_file: bool = False


SETTINGS: dict[str, _Setting] = {
    "database_url": _Setting(
        str, ("DATABASE_URL",), "a URL such as sqlite:///runner.db or postgresql://user@host/name"
    ),
    "jobs_enabled": _Setting(switch, ("JOBS_ENABLED",), "true or false"),
    "concurrency": _Setting(
        whole, ("JOBS_CONCURRENCY", "MAX_CONCURRENT_JOBS"), "a whole number, from 1 to 10000", in_file=True
    ),
    "heartbeat": _Setting(parse_duration, ("RUNNER_HEARTBEAT",), "a duration such as 10s", in_file=True),
    "stalled_after": _Setting(parse_duration, ("RUNNER_STALLED_AFTER",), "a duration such as 60s", in_file=True),
    "shutdown_grace": _Setting(parse_duration, ("RUNNER_SHUTDOWN_GRACE",), "a duration such as 30s", in_file=True),
    "retention": _Setting(parse_duration, ("RUNNER_RETENTION",), "a duration such as 30d", in_file=True),
    "http": _Setting(switch, ("RUNNER_HTTP",), "true or false"),
    "host": _Setting(str, ("RUNNER_HOST",), "an address of this machine, such as 127.0.0.1"),
    "port": _Setting(port, ("RUNNER_PORT",), "a port, from 0 (any that is free) to 65535"),
    "root_path": _Setting(prefix, ("RUNNER_ROOT_PATH",), "the path before ours of a reverse proxy, as /runner"),
    "allowed_hosts": _Setting(names, ("RUNNER_ALLOWED_HOSTS",), "host names, separated by commas; * for any"),
    "insecure": _Setting(switch, ("RUNNER_INSECURE",), "true or false"),
    "log_level": _Setting(
        one_of("debug", "info", "warning", "error"), ("RUNNER_LOG_LEVEL",), "debug, info, warning or error"
    ),
    "log_format": _Setting(one_of("auto", "console", "json"), ("RUNNER_LOG_FORMAT",), "auto, console or json"),
    "busy_timeout": _Setting(parse_duration, ("RUNNER_BUSY_TIMEOUT",), "a duration such as 15s"),
}


def settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], options: RunnerOptions | None = None
) -> Settings:  # fmt: skip
    """Resolve every setting. `flags` hold values as parsed by the command line, None where a flag was not given."""
    given = flags.get("config") or environ.get("RUNNER_CONFIG")
    config = Path(given or DEFAULT_FILE)
    origin = "flag --config" if flags.get("config") else "environment RUNNER_CONFIG" if given else "default"
    values: dict[str, Any] = {"database_url": f"sqlite:///{config.absolute().parent / DEFAULT_DATABASE}"}
    origins = {"config": origin, "database_url": f"default: {DEFAULT_DATABASE} beside the file"}
    for name, setting in SETTINGS.items():
        found = _resolve(name, setting, flags, environ, options)
        if found is not None:
            values[name], origins[name] = found
    made = Settings(config=config, origins=origins, **values)
    if made.stalled_after < made.heartbeat * 3:
        raise UsageError("stalled_after must be at least three times heartbeat", "see `runner config`")
    return made


def _resolve(
    name: str, setting: _Setting, flags: Mapping[str, Any], environ: Mapping[str, str], options: RunnerOptions | None
) -> tuple[Any, str] | None:
    if flags.get(name) is not None:
        return flags[name], f"flag --{name.replace('_', '-')}"
    for variable in setting.variables:
        text = environ.get(variable, "")
        if text:
            return _parsed(variable, setting, text), f"environment {variable}"
    if setting.in_file and options is not None and getattr(options, name) != getattr(RunnerOptions(), name):
        return getattr(options, name), "file"
    return None


def _parsed(variable: str, setting: _Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except (ValueError, KeyError, RunnerError):
        raise UsageError(f"{variable}={text!r} cannot be read", f"it wants {setting.wants}") from None
