"""Instruments, what jobs computed for the live page, and forecasts as they were made."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

from mlops.errors import CorruptionError, DataError
from mlops.io.ledger import Forecast, Instrument
from mlops.io.ledger.risk import KEPT
from mlops.io.storage.risk_schema import risk_states
from mlops.types import INSTRUMENT_COLUMNS, Kind

T0 = datetime(2026, 3, 2, 21, tzinfo=UTC)
OPTION = Instrument("C150", Kind.CALL, "USD", "tech", 100.0, "AAPL", 150.0, T0 + timedelta(days=30), daily_volume=5.0)


def forecast(day, var=0.02, es=0.03):
    return Forecast("all", T0 + timedelta(days=day), 0.99, 1, "evt", var, es, 1e6, T0 + timedelta(days=day, hours=1))


def test_an_instrument_that_is_told_again_is_what_it_was_told_last(ledger):
    assert 2 == ledger.instruments.put([Instrument("AAPL"), OPTION], T0)
    ledger.instruments.put([Instrument("AAPL", sector="tech")], T0)

    frame = ledger.instruments.frame()

    assert list(INSTRUMENT_COLUMNS) == list(frame)
    assert ["AAPL", "C150"] == list(frame.unit)
    assert ["tech", "tech"] == list(frame.sector)
    assert OPTION.expiry == frame.expiry[1]
    assert pd.isna(frame.expiry[0])
    assert np.isnan(frame.strike[0])


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"kind": Kind.CALL}, "name its underlying"),
        ({"kind": Kind.PUT, "underlying": "AAPL"}, "positive strike"),
        ({"kind": Kind.PUT, "underlying": "AAPL", "strike": 10.0}, "have an expiry"),
        ({"multiplier": 0.0}, "positive multiplier"),
        ({"multiplier": float("nan")}, "positive multiplier"),
        ({"expiry": datetime(2026, 1, 1)}, "expire at an instant"),  # noqa: DTZ001
        ({"daily_volume": -1.0}, "volume > 0"),
        ({"kind": "bond"}, "be one of spot"),
    ],
)
def test_an_instrument_that_cannot_be_is_refused(wrong, rule):
    with pytest.raises(DataError, match=rule):
        Instrument("X", **wrong)


def test_a_risk_state_comes_back_as_it_was_kept_and_the_newest_known_one_wins(ledger):
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)

    assert ledger.risk.put_state("var", "all", T0, {"units": ["A", "B", "C"], "var": 0.02}, {"returns": matrix})
    assert not ledger.risk.put_state("var", "all", T0, {}, {})
    ledger.risk.put_state("var", "all", T0 + timedelta(days=1), {"var": 0.03}, {})

    state = ledger.risk.state("var", "all", as_of=T0 + timedelta(hours=1))
    assert T0 == state.as_of
    assert {"units": ["A", "B", "C"], "var": 0.02} == state.body
    np.testing.assert_array_equal(matrix, state.arrays["returns"])
    assert T0 + timedelta(days=1) == ledger.risk.state_at("var", "all", as_of=T0 + timedelta(days=9))
    assert ledger.risk.state("stress", "all", as_of=T0) is None


def test_only_the_last_states_are_kept(sqlite_ledger):
    for day in range(KEPT + 3):
        sqlite_ledger.risk.put_state("var", "all", T0 + timedelta(days=day), {"day": day}, {})

    assert sqlite_ledger.risk.state("var", "all", as_of=T0 + timedelta(days=2)) is None
    assert {"day": 3} == sqlite_ledger.risk.state("var", "all", as_of=T0 + timedelta(days=3)).body


def test_a_state_that_a_disk_changed_is_an_error(sqlite_ledger):
    sqlite_ledger.risk.put_state("var", "all", T0, {"var": 0.02}, {})
    with sqlite_ledger.writing() as connection:
        connection.execute(update(risk_states).values(body=b"other"))

    with pytest.raises(CorruptionError, match="as written"):
        sqlite_ledger.risk.state("var", "all", as_of=T0)


def test_what_was_forecast_of_a_bar_stands(ledger):
    assert 2 == ledger.risk.add_forecasts([forecast(0), forecast(1)])
    assert 0 == ledger.risk.add_forecasts([forecast(0, var=0.01)])

    frame = ledger.risk.forecasts("all", confidence=0.99, horizon=1, as_of=T0 + timedelta(days=1))

    assert [0.02, 0.02] == list(frame["var"])
    assert 1 == len(ledger.risk.forecasts("all", confidence=0.99, horizon=1, as_of=T0))


@pytest.mark.parametrize("es", [0.01, float("nan"), float("inf")])
def test_a_forecast_whose_es_is_no_loss_beyond_its_var_is_refused(sqlite_ledger, es):
    with pytest.raises(DataError, match="ES >= VaR"):
        sqlite_ledger.risk.add_forecasts([forecast(0, es=es)])


def test_the_newest_quote_of_each_unit_that_was_known_is_found(ledger):
    rows = [("A", 0, 0, 9.0), ("A", 1, 1, 10.0), ("A", 2, 60, 11.0), ("B", 0, 0, 5.0)]
    frame = pd.DataFrame(
        {
            "unit": [row[0] for row in rows],
            "event_time": [T0 + timedelta(seconds=row[1]) for row in rows],
            "known_at": [T0 + timedelta(seconds=row[2]) for row in rows],
            "bid": [row[3] for row in rows],
            "ask": [row[3] + 1 for row in rows],
            "bid_size": 0.0,
            "ask_size": 0.0,
        }
    )
    ledger.quotes.add(frame)

    found = ledger.risk.latest_quotes(["B", "A", "C"], as_of=T0 + timedelta(seconds=5)).set_index("unit")

    assert {"A": 10.0, "B": 5.0} == found.bid.to_dict()
    assert T0 + timedelta(seconds=1) == found.event_time["A"]
    assert ledger.risk.latest_quotes([], as_of=T0).empty
