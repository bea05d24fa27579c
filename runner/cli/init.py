"""The command `init`."""

from __future__ import annotations
