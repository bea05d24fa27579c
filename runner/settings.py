"""Process settings: flags, then the environment, then the file, then the defaults. The only place that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from runner.domain.duration import parse_duration
from runner.domain.errors import RunnerError, UsageError
from runner.domain.schedule import RunnerOptions

DEFAULT_FILE = "schedules.yaml"
DEFAULT_DATABASE = "runner.db"
PACE = ("heartbeat", "stalled_after")
TOO_SOON = "stalled_after must be at least three times heartbeat"


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
    trusted_proxies: tuple[str, ...] = ()
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


def networks(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(one, strict=False)) for one in names(text))


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
    "trusted_proxies": _Setting(
        networks, ("RUNNER_TRUSTED_PROXIES",), "addresses or networks of reverse proxies, separated by commas"
    ),
    "insecure": _Setting(switch, ("RUNNER_INSECURE",), "true or false"),
    "log_level": _Setting(
        one_of("debug", "info", "warning", "error"), ("RUNNER_LOG_LEVEL",), "debug, info, warning or error"
    ),
    "log_format": _Setting(one_of("auto", "console", "json"), ("RUNNER_LOG_FORMAT",), "auto, console or json"),
    "busy_timeout": _Setting(parse_duration, ("RUNNER_BUSY_TIMEOUT",), "a duration such as 15s"),
}
IN_FILE = tuple(name for name, setting in SETTINGS.items() if setting.in_file)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The server that commands ask instead of a database, and the key that they show it."""

    server: str
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    ca_file: str | None = None
    server_timeout: timedelta = timedelta(seconds=30)
    insecure: bool = False


SERVER_SETTINGS: dict[str, _Setting] = {
    "server": _Setting(str, ("RUNNER_SERVER",), "the address of a server, as https://runner.example.org"),
    "token": _Setting(str, ("RUNNER_TOKEN",), "a key of the server, from `runner keys create`"),
    "token_file": _Setting(str, ("RUNNER_TOKEN_FILE",), "a file that holds the key, or - for standard input"),
    "ca_file": _Setting(str, ("RUNNER_CA_FILE",), "a file of certificates (PEM) to trust instead of the system's"),
    "server_timeout": _Setting(parse_duration, ("RUNNER_SERVER_TIMEOUT",), "a duration such as 30s"),
}


def server_settings(flags: Mapping[str, Any], environ: Mapping[str, str]) -> ServerSettings | None:
    """None where no server is named. A flag for the key wins over both variables for it."""
    found = {name: _resolve(name, one, flags, environ, None) for name, one in SERVER_SETTINGS.items()}
    given = {name: one[0] for name, one in found.items() if one is not None}
    if not given.get("server"):
        return None
    if flags.get("token") is not None and flags.get("token_file") is not None:
        raise UsageError("give --token or --token-file, not both")
    if flags.get("token_file") is not None or flags.get("token") is not None:
        other = "token" if flags.get("token") is None else "token_file"
        given.pop(other, None)
    return ServerSettings(**given, insecure=bool(flags.get("insecure")))


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
    if _is_too_soon(made):
        raise UsageError(TOO_SOON, "see `runner config`")
    return made


@dataclass(frozen=True, slots=True)
class Taken:
    """What a running process makes of another file: old and new value of what changed, value and origin of what stays
    though the file says otherwise."""

    settings: Settings
    changed: Mapping[str, tuple[Any, Any]]
    overruled: Mapping[str, tuple[Any, str]]
    refused: Mapping[str, tuple[Any, str]]


def followed(now: Settings, before: RunnerOptions, options: RunnerOptions) -> Taken:
    """Take over what the file says now, and said before. What a flag or a variable gave stays, and what would not go
    together with it."""
    edited = [name for name in IN_FILE if getattr(options, name) != getattr(before, name)]
    given = [name for name in IN_FILE if now.origins.get(name, "").startswith(("flag ", "environment "))]
    chosen = [name for name in IN_FILE if name not in given]
    made = _with(now, options, chosen)
    is_refused = _is_too_soon(made)
    if is_refused:
        made = _with(now, options, [name for name in chosen if name not in PACE])
    refused = PACE if is_refused and any(name in edited for name in PACE) else ()
    return Taken(
        made,
        {name: (old, new) for name in IN_FILE if (old := getattr(now, name)) != (new := getattr(made, name))},
        {name: (getattr(now, name), now.origins[name]) for name in given if name in edited},
        {name: (getattr(now, name), now.origins.get(name, "default")) for name in refused},
    )


def _with(now: Settings, options: RunnerOptions, chosen: Sequence[str]) -> Settings:
    origins = {name: origin for name, origin in now.origins.items() if name not in chosen}
    values = {name: getattr(options, name) for name in chosen}
    origins |= {name: "file" for name, value in values.items() if value != getattr(RunnerOptions(), name)}
    return replace(now, origins=origins, **values)


def _is_too_soon(made: Settings) -> bool:
    return made.stalled_after < made.heartbeat * 3


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
