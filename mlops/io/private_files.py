"""Files and folders that are their owner's alone: what a set-up keeps tells what is held, and some of it opens it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FOLDER, FILE, MASK = 0o700, 0o600, 0o077


def umask() -> None:
    """Let this process, and all that it starts, make files for their owner alone."""
    os.umask(MASK)


def folder(path: Path) -> Path:
    """Make a folder, and those above it that are missing, for their owner alone; others stay as they are."""
    for place in reversed([place for place in (path, *path.parents) if not place.exists()]):
        place.mkdir(mode=FOLDER, exist_ok=True)
    return path


def file(path: Path) -> Path:
    """Make an empty file for its owner alone where there is none."""
    folder(path.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE))
    return path


def open_to_others(place: Path) -> Iterator[tuple[Path, int]]:
    """Each file, folder and socket under `place`, itself included, that others have rights to, and its mode.

    Links are not followed. What vanishes meanwhile is not named.

    Raises
    ------
    OSError
        A folder cannot be read.
    """
    with suppress(FileNotFoundError):
        mode = place.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & MASK:
            yield place, stat.S_IMODE(mode)
        if stat.S_ISDIR(mode):
            with os.scandir(place) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                yield from open_to_others(place / name)


def close_to_others(place: Path) -> int:
    """Take the rights of others from all under `place`; from how many files and folders.

    Raises
    ------
    OSError
        Something belongs to somebody else.
    """
    count = 0
    for path, mode in open_to_others(place):
        with suppress(FileNotFoundError):
            path.chmod(mode & ~MASK, follow_symlinks=True)
            count += 1
    return count
