"""The cache folder as a handle: every look and every removal starts from its open descriptor and follows no link.

A path is looked up anew each time it is used, so between a look at `cache/a/b` and its removal anyone who may write in
the cache can put a link to elsewhere in the place of `a`. A descriptor stays the folder that was opened, and each step
down from it is taken with O_NOFOLLOW.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CacheFile:
    """An ordinary file as it was when the cache was listed."""

    folders: tuple[str, ...]
    name: str
    size: int
    modified: float
    identity: tuple[int, int, int]

    @property
    def shown(self) -> str:
        """Its path in the cache, printable whatever bytes its name has."""
        return printable("/".join((*self.folders, self.name)))


@dataclass(slots=True)
class Listing:
    """What lies in the cache, and how many entries are none of our business (links, sockets, other disks)."""

    files: list[CacheFile]
    skipped: list[str]


class CacheFolder:
    """Lists and removes below one open folder, and only there."""

    def __init__(self, start: Path, names: tuple[str, ...]) -> None:
        """Open the folder `names` below `start`; an OSError where a part of `names` is a link or no folder."""
        with _closing(os.open(start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
            self._root = _descend(descriptor, names)
        self._device = os.fstat(self._root).st_dev

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._root)

    def listing(self, check: Callable[[], None]) -> Listing:
        """Every ordinary file in it, at any depth."""
        found = Listing([], [])
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            check()
            folders = waiting.pop()
            try:
                with self._opened(folders) as descriptor:
                    waiting += self._look(descriptor, folders, found)
            except OSError:  # removed, replaced by a link, or not ours to read
                found.skipped.append(printable("/".join(folders)))
        return found

    def remove(self, file: CacheFile) -> bool:
        """Remove it if it is still what was listed; False where it is gone, changed or replaced meanwhile."""
        with suppress(FileNotFoundError, NotADirectoryError), self._opened(file.folders) as descriptor:
            if _identity(os.stat(file.name, dir_fd=descriptor, follow_symlinks=False)) == file.identity:
                os.unlink(file.name, dir_fd=descriptor)
                return True
        return False

    def remove_empty(self, folders: tuple[str, ...]) -> bool:
        """Remove a folder if nothing is in it."""
        with suppress(OSError), self._opened(folders[:-1]) as descriptor:
            os.rmdir(folders[-1], dir_fd=descriptor)
            return True
        return False

    def _look(self, descriptor: int, folders: tuple[str, ...], found: Listing) -> list[tuple[str, ...]]:
        inner = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(about.st_mode) and about.st_dev == self._device:
                        inner.append((*folders, entry.name))
                    elif stat.S_ISREG(about.st_mode):
                        file = CacheFile(folders, entry.name, about.st_size, about.st_mtime, _identity(about))
                        found.files.append(file)
                    else:
                        found.skipped.append(printable("/".join((*folders, entry.name))))
        return inner

    def _opened(self, folders: tuple[str, ...]) -> AbstractContextManager[int]:
        return _closing(_descend(self._root, folders))


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    """The descriptor, closed at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def printable(name: str) -> str:
    """A file name as text that any database and JSON reader takes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _descend(descriptor: int, names: tuple[str, ...]) -> int:
    """A new descriptor of the folder that many steps down, none of them through a link."""
    current = os.dup(descriptor)
    for name in names:
        with _closing(current):
            current = os.open(name, _FOLDER, dir_fd=current)
    return current


def _identity(about: os.stat_result) -> tuple[int, int, int]:
    return (about.st_dev, about.st_ino, about.st_mtime_ns)
