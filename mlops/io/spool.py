"""A queue of records on disk: what was appended survives the death of the process, and is taken in order.

Each writer appends to a segment of its own, a record in one write. Segments lie in one folder: `*.open` while their
writer lives (it holds a lock on the file), `*.closed` after that. A reader takes the records of all segments, oldest
first, and deletes a segment when all of it was taken. Taking is repeated after a crash: what takes must be idempotent.

Not for loss of power: nothing waits for the disk. What a reader finds torn or changed is put aside as `*.bad`.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlops.io import private_files

HEAD = struct.Struct("<4sII")  # mark, length, crc32 of what follows
MARK = b"row1"
SEGMENT_BYTES = 2**20  # then a new segment: what was taken is deleted, and little is taken twice after a crash
SEGMENT_S = 10.0
MEASURED_S = 1.0  # how often a full folder is measured again
AT_ONCE = 200  # records handed over together


class SpoolFull(OSError):
    """The bound or the disk is reached; the record was not kept."""


class Spool:
    """The writing end. Usable from several threads.

    Parameters
    ----------
    folder : Path
        Made if it is not there; may be shared with other writers.
    limit_bytes : int
        Of all segments together.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        private_files.folder(folder)
        self._folder, self._limit = folder, limit_bytes
        self._turn, self._count = threading.Lock(), 0
        self._others, self._measured = 0, float("-inf")
        self._file, self._path, self._size, self._born = -1, folder, 0, 0.0
        self._open()

    def append(self, record: bytes) -> None:
        """Keep a record; it is with the operating system when the call returns.

        Raises
        ------
        SpoolFull
            There is no room for it.
        """
        framed = HEAD.pack(MARK, len(record), zlib.crc32(record)) + record
        with self._turn:
            if self._size and (self._size >= SEGMENT_BYTES or time.monotonic() - self._born > SEGMENT_S):
                self._roll()
            if self._others + self._size + len(framed) > self._limit and self._measure() + len(framed) > self._limit:
                raise SpoolFull(f"spool must stay under {self._limit} bytes, got a record of {len(framed)} more.")
            try:
                if os.write(self._file, framed) < len(framed):
                    raise OSError("the disk took a part of it")
            except OSError as error:
                os.ftruncate(self._file, self._size)
                raise SpoolFull(f"spool must be writable, got {error}.") from error
            self._size += len(framed)

    def empty(self) -> bool:
        """Whether all that was appended here, and by others that ended, was taken."""
        with self._turn:
            if self._size:
                self._roll()
        return not any(map(_size, left(self._folder)))

    def close(self) -> None:
        """Give the segment to the reader."""
        with self._turn:
            if self._file >= 0:
                self._shut()
                self._file, self._size = -1, 0

    def _open(self) -> None:
        self._count += 1
        name = f"{time.time_ns():020d}-{os.getpid()}-{id(self):x}-{self._count}.open"
        self._path, self._size, self._born = self._folder / name, 0, time.monotonic()
        fresh = self._path.with_suffix(".new")  # locked before a reader can take it for a dead writer's
        self._file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(self._path)

    def _roll(self) -> None:
        self._shut()
        self._open()
        self._measure()

    def _shut(self) -> None:
        if self._size:
            self._path.rename(self._path.with_suffix(".closed"))
        else:
            self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _measure(self) -> int:
        """Bytes in the folder, looked at once a second at most."""
        if time.monotonic() - self._measured >= MEASURED_S:
            self._measured = time.monotonic()
            self._others = sum(_size(path) for path in _segments(self._folder) if path != self._path)
        return self._others + self._size


@dataclass
class Reader:
    """The taking end; one at a time in a folder (`locked`).

    `bad` counts records that were put aside because they are not what was written.
    """

    folder: Path
    bad: int = 0
    _taken: dict[Path, int] = field(default_factory=dict)

    def locked(self) -> int | None:
        """Become the reader of the folder until the process ends; None while another one is."""
        private_files.folder(self.folder)
        lock = os.open(self.folder / "reader.lock", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def take(self, sink: Callable[[Sequence[bytes]], None]) -> int:
        """Hand all complete records to `sink`, oldest first; how many. A `sink` that raises is handed them again."""
        return sum(self._segment(path, sink) for path in _segments(self.folder) if path.suffix in (".open", ".closed"))

    def _segment(self, path: Path, sink: Callable[[Sequence[bytes]], None]) -> int:
        over = path.suffix == ".closed" or _orphan(path)  # before reading: a writer may close it meanwhile
        key = path.with_suffix("")
        start = self._taken.get(key, 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:  # closed a moment ago: it is there under its other name, for the next look
            return 0
        taken, end, damaged = 0, 0, False
        for records, reached, whole in _parsed(data):
            if records:
                sink(records)
                taken += len(records)
            end, damaged = reached, not whole
            self._taken[key] = start + end
        if over:
            if end < len(data):
                self._aside(path, data[end:])
            path.unlink(missing_ok=True)
            self._taken.pop(key, None)
        elif damaged:  # damaged in the middle while its writer lives: nothing after it can be trusted
            self._aside(path, data[end:])
            self._taken[key] = start + len(data)
        return taken

    def _aside(self, path: Path, rest: bytes) -> None:
        self.bad += 1
        with private_files.file(path.with_suffix(".bad")).open("ab") as file:
            file.write(rest)


def left(folder: Path) -> list[Path]:
    """Segments that no writer has any more and that were not taken yet, oldest first."""
    return [path for path in _segments(folder) if path.suffix == ".closed" or _orphan(path)]


def _parsed(data: bytes) -> Iterator[tuple[list[bytes], int, bool]]:
    """(records, where they end, whether all before was whole) in groups; the last one says where reading stopped."""
    records: list[bytes] = []
    at = 0
    while at + HEAD.size <= len(data):
        mark, length, crc = HEAD.unpack_from(data, at)
        if mark != MARK:
            yield records, at, False
            return
        end = at + HEAD.size + length
        if end > len(data):
            break  # still being written, or torn
        record = data[at + HEAD.size : end]
        if zlib.crc32(record) != crc:
            yield records, at, False
            return
        records.append(record)
        at = end
        if len(records) == AT_ONCE:
            yield records, at, True
            records = []
    yield records, at, True


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".open", ".closed"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _orphan(path: Path) -> bool:
    """Whether nobody holds the lock of an open segment any more: its writer died."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(file)
