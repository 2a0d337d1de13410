"""Quotes, and rows that contradict what is stored."""

from datetime import timedelta

import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.io.storage.insert import fill_rows, outcome_rows, prediction_rows, quote_rows


def quotes(make, days, *, bid=10.0, ask=10.1, unit="A", delay=0):
    event = pd.to_datetime([make.at(day) for day in days])
    frame = {"unit": unit, "event_time": event, "known_at": event + pd.Timedelta(delay, "s")}
    return pd.DataFrame({**frame, "bid": bid, "ask": ask, "bid_size": 100.0, "ask_size": 0.0})


def test_quotes_are_kept_once_and_read_as_they_were_known(ledger, make):
    frame = pd.concat([quotes(make, [0, 1]), quotes(make, [2], delay=10)])

    assert [3, 0] == [ledger.quotes.add(frame) for _ in range(2)]

    read = ledger.quotes.between("A", start=make.at(0), end=make.at(3), as_of=make.at(2) + timedelta(seconds=9))
    pd.testing.assert_frame_equal(frame.iloc[:2].reset_index(drop=True), read, check_dtype=False)
    assert {"A": make.at(2)} == ledger.quotes.latest_times()


@pytest.mark.parametrize(
    "wrong", [{"bid": -1.0}, {"bid": -1.0, "ask": 0.0}, {"bid": float("nan")}, {"ask": 9.0}, {"ask": float("inf")}]
)
def test_a_quote_that_cannot_be_is_refused(ledger, make, wrong):
    with pytest.raises(DataError):
        ledger.quotes.add(quotes(make, [0], **wrong))


def test_rows_that_contradict_stored_ones_are_named_and_equal_ones_are_not(ledger, make):
    import numpy as np

    keys, features = [(1, "A", 0), (1, "B", 0)], np.ones((2, 1), np.float32)
    made, came = make.predictions(keys), make.outcomes([("A", 0), ("B", 0)])
    done = make.fills([("a", "A", 1.0, 2.0, 0.0), ("b", "B", 1.0, 2.0, 0.0)])
    ledger.telemetry.add_predictions(made, features, ("x",))
    ledger.telemetry.add_outcomes(came)
    ledger.telemetry.add_fills(done)
    ledger.quotes.add(quotes(make, [0]))

    assert [] == ledger.quotes.contradictions(prediction_rows(made, features, ("x",)))
    assert [1] == ledger.quotes.contradictions(prediction_rows(made.assign(probability=[0.5, 0.6]), features, ("x",)))
    assert [0, 1] == ledger.quotes.contradictions(prediction_rows(made, features * 2, ("x",)))
    assert [0] == ledger.quotes.contradictions(outcome_rows(came.assign(label=[0.0, 1.0])))
    assert [1] == ledger.quotes.contradictions(fill_rows(done.assign(price=[2.0, 3.0])))
    assert [0] == ledger.quotes.contradictions(quote_rows(quotes(make, [0], bid=9.0)))
    assert [] == ledger.quotes.contradictions(quote_rows(quotes(make, [5], bid=9.0)))
