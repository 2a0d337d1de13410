"""Structured logs: one JSON object a line, one correlation id from the bar to the decision to the webhook.

`bind(correlation_id=...)` puts the id on every line that this task or thread writes until it is bound anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog


def configure(path: Path | None = None) -> None:
    """Send every line to `path` (appended, flushed line by line), or to standard error."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("ab", buffering=0) if path is not None else None
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(stream) if stream else structlog.BytesLoggerFactory(_stderr()),
        cache_logger_on_first_use=False,
    )


@contextmanager
def bind(**fields: Any) -> Iterator[None]:
    """Put `fields` on every line written inside."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def correlation_id() -> str:
    """The id bound here, or an empty string."""
    return str(structlog.contextvars.get_contextvars().get("correlation_id", ""))


def _dumps(event: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_SERIALIZE_NUMPY)


def _stderr() -> Any:
    import sys

    return sys.stderr.buffer
