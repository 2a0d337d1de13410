"""Fills that were refused: kept where a person can see them, and told. A trade that is not in the book is a position
that is not what the page says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mlops.io.ledger import Ledger
from mlops.types import Alert, Priority


def refuse_fills(ledger: Ledger, source: str, rows: Sequence[tuple[str, str]], at: datetime) -> None:
    """Keep (row, reason) pairs among the rejections, with an alert an hour and source."""
    ledger.rejections.add("fills", source, rows, at)
    title = f"fills_refused: {len(rows)} fills from {source} are in no book; the first: {rows[0][1]}"
    key = f"fills_refused:{source}:{at:%Y-%m-%dT%H}"
    ledger.alerts.add(Alert(key, Priority.HIGH, "", title, at, {"source": source}))
