"""How the parts of a set-up stand, in the supervisor's memory and in a file that others read, also on a full disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from mlops.io import private_files

SIZE = 2**14  # of the file, always: on a full disk it is written in its place, where room is taken already
READ_TRIES, READ_AGAIN_S = 10, 0.02  # while it is written in its place a reader may see half of it


@dataclass(frozen=True, slots=True)
class Standing:
    """How a part is doing. `failures` in a row without a steady time in between."""

    name: str
    state: str = "starting"  # starting, up, down, stopped
    pid: int = 0
    since: str = ""
    failures: int = 0
    restarts: int = 0
    trouble: str = ""  # since when it has been failing
    why: str = ""


class Board:
    """What stands. Changing it never fails: memory is the truth, and what the file lacks is written later.

    Parameters
    ----------
    path : Path
        Written whole or not at all, at every change; in its place where the disk has no room for a second one.

    Attributes
    ----------
    well_at : dict
        When each part last answered its health check (`time.monotonic`); in memory only.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path, self._turn = path, threading.Lock()
        self._standings = {name: Standing(name, since=now()) for name in names}
        self.well_at: dict[str, float] = {}
        self._unwritten = ""
        self._write()

    def __getitem__(self, name: str) -> Standing:
        with self._turn:
            return self._standings[name]

    def all(self) -> tuple[Standing, ...]:
        with self._turn:
            return tuple(self._standings.values())

    def put(self, name: str, **changes: Any) -> Standing:
        """Change a part's standing; a new state begins now."""
        with self._turn:
            before = self._standings[name]
            if changes.get("state", before.state) != before.state:
                changes.setdefault("since", now())
            self._standings[name] = replace(before, **changes)
            self._write()
            return self._standings[name]

    def flush(self) -> str:
        """Write what the file lacks; why that is not possible, or an empty string."""
        with self._turn:
            if self._unwritten:
                self._write()
            return self._unwritten

    def _write(self) -> None:
        content = {"pid": os.getpid(), "parts": [asdict(standing) for standing in self._standings.values()]}
        data = orjson.dumps(content, option=orjson.OPT_INDENT_2).ljust(SIZE)
        part = self._path.with_suffix(".part")
        try:
            private_files.file(part).write_bytes(data)
            part.replace(self._path)
            self._unwritten = ""
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            self._unwritten = self._written_over(data)

    def _written_over(self, data: bytes) -> str:
        try:
            with self._path.open("r+b", buffering=0) as file:
                file.write(data)
        except OSError as error:
            return str(error)
        return ""


def read(path: Path) -> tuple[int, tuple[Standing, ...]]:
    """The supervisor's process and what stands, as the file says; (0, ()) where there is none that can be read."""
    for _ in range(READ_TRIES):
        try:
            content = orjson.loads(path.read_bytes())
            return content["pid"], tuple(Standing(**part) for part in content["parts"])
        except FileNotFoundError:
            break
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(READ_AGAIN_S)
    return 0, ()


def now() -> str:
    """This second, as a standing says it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
