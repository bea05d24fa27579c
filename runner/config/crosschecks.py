"""What the schema cannot say: names that must exist, circles, expressions, and payloads against their types."""

from __future__ import annotations

from collections.abc import Mapping

from runner.config.findings import Findings


def cross_check(findings: Findings, environ: Mapping[str, str]) -> None:
    """Adds all the problems that show only when parts of the file are held against each other."""
