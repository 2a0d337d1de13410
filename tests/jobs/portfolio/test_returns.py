"""Bars that close at different times, on different days, or not as often, in one table of returns."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from jobs.portfolio.returns import market
from mlops.io import bar_feed
from mlops.risk.sessions import sessions, synchronised

HOUR = pd.Timedelta(hours=1)


def long(closes, shift=()):
    """Wide closes to bars; the units in `shift` close so much later."""
    frame = closes.rename_axis("event_time").reset_index()
    rows = frame.melt(id_vars="event_time", var_name="symbol", value_name="close").dropna()
    later = pd.to_timedelta([dict(shift).get(unit, pd.Timedelta(0)) for unit in rows["symbol"]])
    rows["event_time"] = rows["known_at"] = rows["event_time"] + later
    return rows


def stocks(units=("AAPL", "JPM", "XOM", "KO"), start=2012):
    frame = bar_feed.load_bars("sp500", start=datetime(start, 1, 1, tzinfo=UTC)).frame
    wide = frame.pivot(index="event_time", columns="symbol", values="close")
    return wide[list(units)]


def table(bars, units, as_of=datetime(2030, 1, 1, tzinfo=UTC), most=2750):
    return market(bars, list(units), as_of, most)


def correlation(returns, a=0, b=1):
    return float(np.corrcoef(returns[:, a], returns[:, b])[0, 1])


def walk(seed=0, days=2500, correlation=0.78, weekdays=True):
    """Two prices that move each hour, closed or not; index by hour."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((24 * days, 2))
    z[:, 1] = correlation * z[:, 0] + np.sqrt(1 - correlation**2) * z[:, 1]
    at = pd.date_range("2015-01-05", periods=24 * days, freq="h", tz="UTC")
    prices = pd.DataFrame(100 * np.exp(np.cumsum(0.002 * z, axis=0)), index=at, columns=["E", "U"])
    return prices[prices.index.dayofweek < 5] if weekdays else prices


def seen_at(prices, **hours):
    """Daily bars of an hourly walk, each unit at its own hour."""
    return pd.concat([long(prices.loc[prices.index.hour == hour, [unit]]) for unit, hour in hours.items()])


def test_the_same_closes_written_at_two_times_of_day_are_one_table():
    closes = stocks()
    together = table(long(closes), closes.columns)

    apart = table(long(closes, {"JPM": -4.5 * HOUR, "KO": -4.5 * HOUR}), closes.columns)

    assert together.returns.shape == apart.returns.shape
    expected = np.corrcoef(together.returns.T)
    np.testing.assert_allclose(np.corrcoef(apart.returns.T), expected, atol=0.05)
    book = np.full(4, 0.25)
    assert (apart.returns @ book).std() == pytest.approx((together.returns @ book).std(), rel=0.03)
    assert {"JPM", "KO"} == set(apart.aligned)
    assert {} == together.aligned


@pytest.mark.parametrize("hour", [16, 7, 20])
def test_a_walk_that_is_seen_at_two_times_of_day_keeps_its_correlation(hour):
    prices = walk()
    bars = seen_at(prices, E=hour, U=21)

    result = table(bars, ["E", "U"])

    plain = pd.concat([prices.loc[prices.index.hour == h, u].pct_change() for u, h in (("E", hour), ("U", 21))], axis=1)
    assert plain.iloc[1:, :2].corr(min_periods=10).iloc[0, 1] != plain.iloc[1:, :2].corr().iloc[0, 0]  # no common row
    assert correlation(result.returns) == pytest.approx(0.78, abs=0.05)
    both = result.returns.sum(axis=1)
    truth = prices[prices.index.hour == 21].pct_change().dropna().sum(axis=1)
    assert both.std() == pytest.approx(truth.std(), rel=0.06)


def test_what_was_put_back_is_taken_from_the_next_bar_and_one_clock_changes_nothing():
    prices = walk()
    raw = sessions(seen_at(prices, E=10, U=21), ["E", "U"])
    returns = raw.closes[1:] / raw.closes[:-1] - 1

    moved = synchronised(returns, raw.early)

    np.testing.assert_array_equal(returns[:, 1], moved[:, 1])
    assert np.abs(np.cumsum(moved[:, 0]) - np.cumsum(returns[:, 0])).max() < 0.05
    np.testing.assert_array_equal(returns, synchronised(returns, np.zeros(2)))
    assert 11 / 24 == pytest.approx(raw.early[0])


def test_a_coin_beside_shares_has_their_days_and_keeps_what_moved_at_weekends():
    prices = walk(weekdays=False)
    coin = prices.loc[prices.index.hour == 0, ["E"]]
    share = prices.loc[(prices.index.hour == 21) & (prices.index.dayofweek < 5), ["U"]]

    result = table(pd.concat([long(coin), long(share)]), ["E", "U"])

    assert {0, 1, 2, 3, 4} == set((result.times - 3 * HOUR).dayofweek)
    assert correlation(result.returns) == pytest.approx(0.78, abs=0.05)
    window = coin["E"].loc[: result.times[-1]]
    assert np.log1p(result.returns[:, 0]).sum() == pytest.approx(
        np.log(window.iloc[-1] / window.iloc[-len(window)]), abs=0.05
    )


def test_summer_time_and_short_days_are_no_other_clock():
    result = table(long(stocks()), ["AAPL", "JPM"])

    plain = stocks(("AAPL", "JPM")).pct_change().iloc[-len(result.times) :]
    np.testing.assert_array_equal(plain.index, result.times)
    np.testing.assert_allclose(plain.to_numpy(), result.returns, atol=1e-15)
    assert {} == result.aligned == result.lacking


def bad_columns(closes):
    rng = np.random.default_rng(0)
    path = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(closes))))
    column = pd.Series(path, index=closes.index)
    stuck = column.copy()
    stuck.iloc[-15:] = stuck.iloc[-16]
    odd = pd.Series(path, index=closes.index + pd.to_timedelta(rng.integers(0, 24 * 60, len(closes)), unit="min"))
    return {
        "listed yesterday": column.iloc[-2:],
        "stuck": stuck,
        "never moved": column * 0 + 7,
        "weekly": column.iloc[::5],
        "stopped": column.iloc[:-40],
        "some gaps": column.drop(column.index[rng.random(len(column)) < 0.1]),
        "no clock": odd[odd.index <= closes.index[-1]],
        "late": column.iloc[-300:],
    }


@pytest.mark.parametrize("name", bad_columns(stocks()))
def test_one_bad_column_costs_itself_only_and_is_named(name):
    closes = stocks()
    alone = table(long(closes), closes.columns)
    bad = bad_columns(closes)[name].to_frame("BAD")

    result = table(pd.concat([long(closes), long(bad)]), [*closes.columns, "BAD"])

    np.testing.assert_array_equal(alone.times, result.times)
    np.testing.assert_array_equal(alone.returns, result.returns[:, :4])
    kept = name in ("some gaps", "late")
    assert kept == ("BAD" in result.units)
    assert ("BAD" in result.lacking) or name == "some gaps"


def test_a_session_in_which_some_have_still_to_close_is_not_one_yet():
    prices = walk(days=200)
    bars = seen_at(prices, E=16, U=21)
    noon = prices.index[-1].normalize() + 17 * HOUR

    result = table(bars, ["E", "U"], as_of=noon.to_pydatetime())

    assert result.times[-1] == noon - 20 * HOUR
    assert abs(result.returns[-1]).min() > 0


def test_bars_of_a_day_beside_bars_of_an_hour():
    prices = walk(days=400)
    hourly, daily = long(prices[["E"]]), long(prices.loc[prices.index.hour == 21, ["U"]])

    two = table(pd.concat([hourly, daily]), ["E", "U"])
    three = table(pd.concat([hourly, daily, long(prices[["E"]].rename(columns={"E": "F"}))]), ["E", "F", "U"])

    assert {21} == set(two.times.hour)
    assert correlation(two.returns) == pytest.approx(0.78, abs=0.06)
    assert ("E", "F") == three.units
    assert "has a bar at 4% of the others' sessions" in three.lacking["U"]


def test_a_night_at_which_nothing_was_known_is_an_empty_table():
    bars = long(stocks())

    result = table(bars, ["AAPL"], as_of=datetime(1990, 1, 1, tzinfo=UTC))

    assert ((), 0) == (result.units, len(result.times))
    assert "AAPL has 0 bars" in result.lacking["AAPL"]
    assert timedelta(0) == (result.times.max() - result.times.min() if len(result.times) else timedelta(0))
