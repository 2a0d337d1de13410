"""Forecasts that were stored, and what became of them."""

import numpy as np
import pandas as pd
import pytest

from jobs.reports.var_record import realised
from mlops.types import Level

DAYS = pd.date_range("2026-01-05 21:00", periods=12, freq="B", tz="UTC")


def stored(days, var=0.02, es=0.03):
    return pd.DataFrame({"event_time": days, "var": var, "es": es})


def curve(days=DAYS, start=100.0):
    return pd.Series(start * 1.01 ** np.arange(len(days)), index=days)


def test_each_forecast_meets_the_return_of_the_bar_after_it_and_the_last_waits():
    result = realised(stored(DAYS), curve(), DAYS, 1)

    assert list(DAYS[1:]) == list(result.times)
    assert [-0.01] * 11 == pytest.approx(result.loss.tolist())
    assert {0.02} == set(result.var)


def test_a_night_that_was_missed_is_a_gap_and_its_loss_is_nobodys():
    result = realised(stored(DAYS.delete(3)), curve(), DAYS, 1)

    assert DAYS[4] not in result.times
    assert [-0.01] * 10 == pytest.approx(result.loss.tolist())


def test_five_bars_are_held_against_five_and_none_twice():
    result = realised(stored(DAYS), curve(), DAYS, 5)

    assert [DAYS[5], DAYS[10]] == list(result.times)
    assert [1 - 1.01**5] * 2 == pytest.approx(result.loss.tolist())


def test_where_no_book_had_a_bar_no_loss_is_known_rather_than_none():
    equity = curve().drop([DAYS[4], DAYS[5]])

    result = realised(stored(DAYS), equity, DAYS, 1)

    assert not {DAYS[4], DAYS[5]} & set(result.times)
    assert 9 == len(result.times)
    assert 0 == len(realised(stored(DAYS), equity.iloc[:0], DAYS, 1).times)
    assert 0 == len(realised(stored(DAYS[:0]), equity, DAYS, 1).times)


def test_books_that_close_at_other_hours_are_taken_at_the_sessions_close():
    early = curve(DAYS - pd.Timedelta(hours=5))
    both = pd.concat([early, curve()]).sort_index()

    result = realised(stored(DAYS), both, DAYS, 1)

    assert [-0.01] * 11 == pytest.approx(result.loss.tolist())


def test_what_was_stored_has_a_backtest_of_its_own():
    days = pd.date_range("2020-01-01 21:00", periods=400, freq="B", tz="UTC")
    rng = np.random.default_rng(0)
    calm = pd.Series(np.cumprod(1 + rng.normal(0, 0.01, 400)), index=days)

    right, low = (realised(stored(days, var, 1.15 * var), calm, days, 1).judged(0.99) for var in (0.0233, 0.012))

    assert (399, Level.ALERT) == (low.n, low.level)
    assert right.level in (Level.OK, Level.WARN)
    assert Level.UNKNOWN == realised(stored(days[:50]), calm, days, 1).judged(0.99).level
