"""Builders of rows."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

T0 = datetime(2020, 1, 2, 21, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def make():
    """Builders of rows."""
    return SimpleNamespace(predictions=_predictions, outcomes=_outcomes, fills=_fills, scorings=_scorings, at=_at)


def _at(day):
    return T0 + day * DAY


def _predictions(keys, *, model="volatility", role="champion", probability=0.5, delay=timedelta(0)):
    """One prediction a (version, unit, day)."""
    version, unit, day = zip(*keys, strict=True)
    event = pd.to_datetime([_at(d) for d in day])
    return pd.DataFrame(
        {
            "model": model,
            "version": list(version),
            "unit": list(unit),
            "event_time": event,
            "known_at": event + delay,
            "matures_at": event + 5 * DAY,
            "role": role,
            "probability": probability,
        }
    )


def _outcomes(keys, *, model="volatility", label=1.0, value=0.01, delay=5 * DAY):
    """One outcome a (unit, day)."""
    unit, day = zip(*keys, strict=True)
    event = pd.to_datetime([_at(d) for d in day])
    times = {"event_time": event, "known_at": event + delay}
    return pd.DataFrame({"model": model, "unit": list(unit), **times, "label": label, "value": value})


def _scorings(keys, *, model="volatility", batch="b", seconds=0.01, failed=0):
    """One row a (version, day)."""
    version, day = zip(*keys, strict=True)
    times = pd.to_datetime([_at(d) for d in day])
    frame = pd.DataFrame({"model": model, "event_time": times, "version": list(version), "batch": batch})
    return frame.assign(failed=failed, rows=2, seconds=seconds)


def _fills(rows, *, model="volatility", book="paper"):
    """One fill a (fill_id, unit, quantity, price, fee)."""
    frame = pd.DataFrame(rows, columns=["fill_id", "unit", "quantity", "price", "fee"])
    return frame.assign(model=model, version=1, book=book, event_time=pd.Timestamp(T0)).astype(
        {"quantity": np.float64, "price": np.float64, "fee": np.float64}
    )
