"""Where handlers may read and write: the folder of schedules.yaml and what the operator adds to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def readable(text: str) -> Path:
    """The file or folder that a payload names, relative to the folder of schedules.yaml.

    A payload is data that may come from far away, so it reaches only that folder and the folders of the environment's
    CONTENT_FOLDERS (separated as in PATH); links are resolved before they are judged.
    """
    if not text or "\0" in text:
        raise ValueError(f"not a path: {text!r}")
    path = (ROOT / text).resolve()
    if not any(path.is_relative_to(folder) for folder in _allowed()):
        raise ValueError(f"{text} is outside the folder of schedules.yaml; CONTENT_FOLDERS can allow more")
    return path


def shown(path: Path) -> str:
    """The path as one machine-independent name: relative to the folder of schedules.yaml where it lies inside."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def read_capped(path: Path, max_bytes: int) -> bytes:
    """The whole content of an ordinary file, or an error where it is more than `max_bytes` (a pipe does not block)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{shown(path)} is not an ordinary file")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{shown(path)} is larger than {max_bytes} bytes")
    return data


def _allowed() -> list[Path]:
    extra = os.environ.get("CONTENT_FOLDERS", "").split(os.pathsep)
    return [ROOT, *((ROOT / folder).resolve() for folder in extra if folder)]
