"""The one door: a path or a text in; definitions, or all the problems, out. Bad content raises nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.build import build
from runner.config.crosschecks import cross_check
from runner.config.document import MAX_BYTES, decode, read_document
from runner.config.findings import Findings
from runner.config.places import Document
from runner.config.places import Path as Place
from runner.config.raw import entries, mapping
from runner.config.validate import validate
from runner.domain.errors import ConfigInvalid
from runner.domain.problem import Problem, in_file_order
from runner.domain.schedule import Definitions

HandlerFault = tuple[str, str, str, str | None]  # job type, code, message, hint
CheckHandlers = Callable[[Definitions], Iterable[HandlerFault]]


@dataclass(frozen=True)
class Loaded:
    """A file as it was read. `definitions` is None where a problem is an error; warnings do not count."""

    path: Path
    source: str
    sha256: str
    definitions: Definitions | None
    problems: list[Problem]
    document: Document | None = None

    @property
    def ok(self) -> bool:
        return self.definitions is not None

    def require(self) -> Definitions:
        """The definitions, or ConfigInvalid with the problems."""
        if self.definitions is None:
            raise ConfigInvalid(str(self.path), self.problems)
        return self.definitions


def load(path: str | Path, *, environ: Mapping[str, str], check_handlers: CheckHandlers | None = None) -> Loaded:
    """Reads and checks a file. `check_handlers` imports them and yields what is wrong."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        return Loaded(path, "", hashlib.sha256(b"").hexdigest(), None, [_unreadable(path, error)])
    return load_text(raw, name=path, environ=environ, check_handlers=check_handlers)


def load_text(
    raw: str | bytes,
    *,
    name: str | Path = "schedules.yaml",
    environ: Mapping[str, str],
    check_handlers: CheckHandlers | None = None,
) -> Loaded:
    """The same for a text that is at hand; `name` is what messages call it."""
    content = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(content).hexdigest()
    document, problems = read_document(raw)
    if document is None:
        return Loaded(Path(name), decode(raw)[0], digest, None, in_file_order(problems))
    findings = Findings(document, problems)
    definitions = _definitions(findings, environ, check_handlers)
    return Loaded(Path(name), document.source, digest, definitions, findings.problems, document)


def _definitions(
    findings: Findings, environ: Mapping[str, str], check_handlers: CheckHandlers | None
) -> Definitions | None:
    validate(findings)
    findings.next_stage()
    cross_check(findings, environ)
    findings.next_stage()
    if check_handlers is not None:
        _check_handlers(findings, check_handlers)
    return None if findings.has_errors else build(findings.document.data)


def _check_handlers(findings: Findings, check_handlers: CheckHandlers) -> None:
    for name, code, message, hint in check_handlers(build(_sound_types(findings))):
        findings.error(code, ("job_types", name, "handler"), message, hint)


def _sound_types(findings: Findings) -> dict[str, Any]:
    """The job types with a handler that can be looked at, without those of their fields that are broken."""
    data = mapping(findings.document.data)
    sound: dict[str, Any] = {"version": 1, "job_types": {}}
    for section in ("runner", "defaults"):
        sound[section] = _sound_fields(findings, (section,), mapping(data.get(section)))
    for path, entry in entries(data, "job_types"):
        fields = _sound_fields(findings, path, entry)
        if "handler" in fields:
            sound["job_types"][path[-1]] = fields
    return sound


def _sound_fields(findings: Findings, path: Place, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not findings.is_broken((*path, name))}


def _unreadable(path: Path, error: Exception) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem("file", f"there is no file {path}", hint="runner init writes one; -c names another")
    if isinstance(error, IsADirectoryError):
        return Problem("file", f"{path} is a folder", hint="name the file in it")
    reason = getattr(error, "strerror", None) or str(error)
    return Problem("file", f"{path} cannot be read: {reason}", hint="check its name and its permissions")
