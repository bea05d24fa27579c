"""The commands `migrate` and `doctor`."""

from __future__ import annotations
