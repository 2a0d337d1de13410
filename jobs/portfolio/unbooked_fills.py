"""What no book can take, told to people: a position that is not known is an alert for as long as it is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from jobs.context import Context
from jobs.live.fields import row_key
from jobs.portfolio.book_inputs import Refused
from mlops.alerts import ALERTS
from mlops.errors import CorruptionError, DataError
from mlops.io.ledger import BookKey


@contextmanager
def apart(key: BookKey, unread: MutableMapping[BookKey, str]) -> Iterator[None]:
    """A book that cannot be read costs itself only: the reason goes into `unread`."""
    try:
        yield
    except (CorruptionError, DataError, ValueError, KeyError) as error:
        unread[key] = f"book {key.book} of {key.model} cannot be read: {error}"


def of_books(model: str, refused: Mapping[str, Sequence[Refused]]) -> dict[str, str]:
    """Positions that are not known, by their row on the page, and why."""
    return {row: why for book, fills in refused.items() for row, why in _rows(model, book, fills)}


def settle(context: Context, unknown: Mapping[str, str], as_of: datetime, *, model: str = "") -> None:
    """Open an alert for each position that is not known, and close those of positions that are known again.

    Parameters
    ----------
    unknown : mapping of str to str
        Row (model/book/unit, or model/book where a whole book cannot be read) and reason: all there are, of `model` if
        one is given.
    """
    kind = ALERTS["position_unknown"]
    wanted = [
        kind.alert(
            as_of,
            {"row": row, "time": as_of.isoformat(), "why": why},
            details={"row": row},
            about=row.partition("/")[0],
        )
        for row, why in unknown.items()
    ]
    context.ledger.alerts.settle(kind.name, wanted, as_of, looked_at=lambda alert: model in ("", alert.model))


def _rows(model: str, book: str, refused: Sequence[Refused]) -> Iterator[tuple[str, str]]:
    for fill in refused:
        yield row_key(model, book, fill.unit), f"fill {fill.fill_id} cannot be booked: {fill.why}"
