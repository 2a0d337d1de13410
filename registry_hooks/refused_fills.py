"""Fills that were refused: kept where a person can see them, and told. A trade that is not in the book is a position
that is not what the page says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mlops.alerts import ALERTS
from mlops.io.ledger import Ledger


def refuse_fills(ledger: Ledger, source: str, rows: Sequence[tuple[str, str]], at: datetime) -> None:
    """Keep (row, reason) pairs among the rejections, with an alert an hour and source."""
    ledger.rejections.add("fills", source, rows, at)
    words = {"source": source, "hour": f"{at:%Y-%m-%dT%H}", "n": len(rows), "why": rows[0][1]}
    ledger.alerts.add(ALERTS["fills_refused"].alert(at, words, details={"source": source}))
