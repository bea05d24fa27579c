"""Collects the problems of one document and gives each its place."""

from __future__ import annotations

from collections.abc import Iterable

from runner.config.document import MAX_PROBLEMS
from runner.config.places import Document, Path, Place, dotted
from runner.config.rules import Complaint
from runner.config.suggest import Suggester
from runner.domain.problem import Problem, Severity, in_file_order


class Findings:
    """Problems so far. A place where an earlier stage found an error is not complained about again by a later one.

    What comes from an anchor is written once, so it is reported once, whatever inherits it.
    """

    def __init__(self, document: Document, problems: Iterable[Problem]) -> None:
        self.document = document
        self.suggester = Suggester()
        self._problems: dict[tuple[str, int, int, str], Problem] = {}
        self._broken: set[Path] = set()
        self._meant: set[Path] = set()
        self._settled: set[Place] = set()
        self._current: set[Place] = set()
        for problem in problems:
            self._keep(problem)
        self.next_stage()

    @property
    def problems(self) -> list[Problem]:
        return in_file_order(list(self._problems.values()))

    @property
    def has_errors(self) -> bool:
        return any(problem.is_error for problem in self._problems.values())

    @property
    def is_full(self) -> bool:
        return len(self._problems) >= MAX_PROBLEMS

    def next_stage(self) -> None:
        self._settled |= self._current
        self._current = set()

    def error(
        self, code: str, path: Path, message: str, hint: str | None = None, *, at_key: bool = False, subject: str = ""
    ) -> None:
        """`subject` is what the message is about, where its words differ with the path."""
        self._add("error", code, path, message, hint, at_key, subject)

    def warning(self, code: str, path: Path, message: str, hint: str | None = None) -> None:
        self._add("warning", code, path, message, hint, at_key=False)

    def is_meant(self, path: Path) -> bool:
        """Whether a misspelt key stands for that one, so that nobody needs to hear that it is missing."""
        return path in self._meant

    def complain_all(self, complaints: Iterable[Complaint], below: Path = (), severity: Severity = "error") -> None:
        """Complaints about what stands below a path. What is missing only because it is misspelt is not said twice."""
        for complaint in sorted(
            complaints, key=lambda one: (one.missing is not None, self._order((*below, *one.path)))
        ):
            if complaint.missing is None or not self.is_meant((*below, *complaint.path, complaint.missing)):
                self._complain(complaint, below, severity)

    def _order(self, path: Path) -> list[Place]:
        """As a reader meets the keys of the path; the library that checks the schema has no order of its own."""
        return [self.document.key_place(path[:length]) for length in range(1, len(path) + 1)]

    def _complain(self, complaint: Complaint, below: Path, severity: Severity) -> None:
        path = (*below, *complaint.path)
        if complaint.meant is not None:
            self._meant.add((*path[:-1], complaint.meant))
        self._add(severity, complaint.code, path, complaint.message, complaint.hint, complaint.at_key)

    def is_broken(self, path: Path) -> bool:
        """Whether an error stands at the path or below it."""
        return path in self._broken

    def _add(
        self, severity: Severity, code: str, path: Path, message: str, hint: str | None, at_key: bool, subject: str = ""
    ) -> None:
        place = self.document.key_place(path) if at_key else self.document.place(path)
        if severity == "error":
            self._broken.update(path[:length] for length in range(len(path) + 1))
        if place not in self._settled:
            self._keep(Problem(code, message, *place, path=dotted(path), hint=hint, severity=severity), subject)

    def _keep(self, problem: Problem, subject: str = "") -> None:
        if not self.is_full:
            known_by = (problem.code, problem.line, problem.column, subject or problem.message)
            self._problems.setdefault(known_by, problem)
        if problem.is_error:
            self._current.add(Place(problem.line, problem.column))
