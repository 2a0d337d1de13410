"""Structured logs: one JSON object a line, one correlation id from the bar to the decision to the webhook.

`bind(correlation_id=...)` puts the id on every line that this task or thread writes until it is bound anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import orjson
import structlog

from mlops.io import private_files

_files: list[IO[bytes]] = []  # the open log file of this process


def configure(path: Path | None = None) -> None:
    """Send every line to `path` (appended, flushed line by line), or to standard error."""
    close()
    if path is not None:
        with suppress(OSError):  # no file, no folder, no room: then standard error has it
            _files.append(private_files.file(path).open("ab", buffering=0))
    stream: Any = _Sink(_files[-1]) if _files else sys.stderr.buffer
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


class _Sink:
    """A file whose lines go to standard error when it takes none: a full disk must not end a trade, nor hide why."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, line: bytes) -> None:
        try:
            self._file.write(line)
        except OSError:
            with suppress(OSError, ValueError):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def close() -> None:
    """Close the log file; lines written after it go to standard error."""
    structlog.reset_defaults()
    while _files:
        _files.pop().close()


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Put `fields` on every line written inside."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def correlation_id() -> str:
    """The id bound here, or an empty string."""
    return str(structlog.contextvars.get_contextvars().get("correlation_id", ""))


def job_run() -> dict[str, str]:
    """The run of a scheduled job that is under way here, as tags `job_run` and `attempt`; empty if there is none."""
    bound = structlog.contextvars.get_contextvars()
    return {name: str(bound[name]) for name in ("job_run", "attempt") if name in bound}


def _dumps(event: dict[str, Any], **_: Any) -> bytes:
    """A line of JSON, whatever is in it: what JSON cannot say is written as Python shows it, and ends no job."""
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return orjson.dumps({ascii(name).strip("'"): ascii(value) for name, value in event.items()})
