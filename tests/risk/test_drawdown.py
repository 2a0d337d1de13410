from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skfolio.measures import get_drawdowns
from skfolio.measures import max_drawdown as skfolio_max_drawdown

from mlops.errors import DataError
from mlops.risk.drawdown import Drawdown, daily_loss, drawdown, episodes, last_close, overdue, session_start

START = datetime(2026, 1, 1, tzinfo=UTC)
CURVES = st.lists(st.sampled_from([-50.0, 0.0, 50.0, 80.0, 90.0, 100.0, 110.0, 120.0]), max_size=40)
WEEK = frozenset(range(5))


def times(n):
    return np.array(["2026-01-01"], dtype="datetime64[us]") + np.arange(n) * np.timedelta64(1, "D")


def day(n):
    return START + timedelta(days=n)


def curve(*equity):
    return np.array(equity, dtype=np.float64), times(len(equity))


def test_the_worst_fall_has_its_peak_its_trough_and_its_recovery():
    found = drawdown(*curve(100, 120, 90, 110, 120, 130, 117))

    assert 0.25 == found.worst
    assert (day(1), day(2), day(4)) == (found.peak_at, found.trough_at, found.recovered_at)
    assert (pytest.approx(0.1), day(5)) == (found.current, found.since)
    assert 7 == found.n


def test_a_fall_that_lasts_has_no_recovery():
    found = drawdown(*curve(100, 80, 99))

    assert None is found.recovered_at
    assert (pytest.approx(0.01), day(0)) == (found.current, found.since)


def test_it_is_skfolios_on_the_returns_of_the_curve():
    returns = np.random.default_rng(1).standard_t(4, 3000) / 100
    wealth = np.concatenate([[1.0], np.cumprod(1 + returns)])

    expected = skfolio_max_drawdown(get_drawdowns(returns, compounded=True))
    assert expected == pytest.approx(drawdown(wealth, times(3001)).worst, abs=1e-12)


@given(CURVES)
def test_value_by_value_and_the_whole_curve_agree(equity):
    step = Drawdown()
    for n, value in enumerate(equity):
        step = step.after(value, day(n))

    assert repr(drawdown(*curve(*equity))) == repr(step)


@given(CURVES)
def test_the_deepest_episode_is_the_worst_fall(equity):
    found, falls = drawdown(*curve(*equity)), episodes(*curve(*equity))

    if not falls.empty:
        worst = falls.loc[falls["depth"].idxmax()]
        assert found.worst == worst["depth"]
        assert found.trough_at == worst["trough_at"]
    else:
        assert not found.worst > 0


def test_every_fall_is_an_episode():
    falls = episodes(*curve(100, 90, 95, 100, 120, 60, 100))

    assert [0.1, 0.5] == falls["depth"].round(12).tolist()
    assert [day(0), day(4)] == falls["peak_at"].tolist()
    assert [day(1), day(5)] == falls["trough_at"].tolist()
    assert [day(3)] == falls["recovered_at"].dropna().tolist()
    assert [(3, 3.0), (2, 2.0)] == [*zip(falls["bars"], falls["days"], strict=True)]


def test_losing_more_than_all_is_told_as_it_is():
    assert 1.5 == drawdown(*curve(100, -50)).worst


@pytest.mark.parametrize("equity", [(), (0.0,), (-1.0, -2.0), (0.0, 0.0)])
def test_without_a_positive_equity_the_drawdown_is_not_known(equity):
    measured = drawdown(*curve(*equity)).measured()

    assert np.isnan(measured.value)
    assert "no equity was above zero yet" == measured.why


def test_one_value_is_no_fall():
    assert (0.0, 0.0, None) == (lambda d: (d.current, d.worst, d.since))(drawdown(*curve(100)))


@pytest.mark.parametrize(
    ("equity", "at", "said"),
    [
        ([1.0, np.nan], times(2), "equity must be finite"),
        ([1.0, np.inf], times(2), "equity must be finite"),
        ([1.0, 2.0], times(2)[::-1], "equity must come in order of time"),
        ([1.0, 2.0], times(2)[[0, 0]], "equity must come in order of time"),
        ([1.0, 2.0], times(3), "equity must have a time a value"),
    ],
)
def test_what_is_no_curve_is_refused(equity, at, said):
    for function in (drawdown, episodes):
        with pytest.raises(DataError, match=said):
            function(np.array(equity), at)


def test_a_value_out_of_order_or_not_finite_is_refused():
    with pytest.raises(DataError, match="equity must be finite, got nan"):
        Drawdown().after(np.nan, START)
    with pytest.raises(DataError, match="equity must come in order of time"):
        Drawdown().after(1.0, START).after(2.0, START)


@pytest.mark.parametrize(
    ("as_of", "days", "close"),
    [
        ("2026-01-05T20:59", WEEK, "2026-01-02T21:00"),  # Monday, before New York's close: Friday's
        ("2026-01-05T21:00", WEEK, "2026-01-05T21:00"),  # on it
        ("2026-07-06T20:30", WEEK, "2026-07-06T20:00"),  # summer time
        ("2026-01-04T12:00", frozenset(range(7)), "2026-01-03T21:00"),
        ("2026-03-09T12:00", WEEK, "2026-03-06T21:00"),  # the clocks changed in between
    ],
)
def test_the_last_close_is_by_the_exchanges_clock(as_of, days, close):
    at = datetime.fromisoformat(as_of).replace(tzinfo=UTC)

    assert close == f"{last_close(at, time(16), ZoneInfo('America/New_York'), days):%Y-%m-%dT%H:%M}"


def test_a_day_that_never_comes_is_refused():
    for days in (frozenset(), frozenset({7})):
        with pytest.raises(DataError, match="days must be weekdays"):
            last_close(START, days=days)


def test_the_days_loss_is_against_the_last_equity_at_the_close_or_before():
    equity, at = curve(100, 200, 150, 120)

    loss = daily_loss(equity, at, day(1) + timedelta(hours=5))

    assert (pytest.approx(0.4), 2) == (loss.value, loss.n)
    assert pytest.approx(-0.2) == daily_loss(equity, at, day(0)).value
    assert 0 == daily_loss(equity, at, day(9)).value


def test_a_book_that_is_younger_than_the_day_is_held_against_what_it_was_opened_with():
    equity, at = curve(95, 90)

    assert pytest.approx(0.1) == daily_loss(equity, at, day(-1), opening=100.0).value
    unknown = daily_loss(equity, at, day(-1))
    assert np.isnan(unknown.value)
    assert "there was no equity above zero at 2025-12-31" in unknown.why
    assert "there is no equity yet" == daily_loss(*curve(), day(0), opening=1.0).why


def test_a_close_at_zero_equity_has_no_loss_to_tell():
    assert np.isnan(daily_loss(*curve(0, 5), day(0)).value)


def at(*texts):
    return np.array(texts, dtype="datetime64[us]")


@pytest.mark.parametrize(
    ("bars", "now", "known"),
    [
        (at("2026-01-02T21:00", "2026-01-05T21:00"), "2026-01-06T00:05", 2),
        (at("2026-01-02T21:00", "2026-01-05T21:00"), "2026-01-05T23:55", 2),
        (at("2026-01-01T21:00", "2026-01-02T21:00"), "2026-01-04T12:00", 2),
        (at("2026-01-01T21:00", "2026-01-02T21:00"), "2026-01-02T21:00", 1),
        (at("2026-01-01T21:00"), "2026-01-01T20:00", 0),
        (at(), "2026-01-01T20:00", 0),
    ],
    ids=["after midnight", "before midnight", "weekend", "at the bar itself", "before", "none"],
)
def test_the_day_of_daily_bars_begins_at_the_last_of_them_and_not_at_midnight(bars, now, known):
    assert known == session_start(bars, datetime.fromisoformat(now).replace(tzinfo=UTC))


def test_a_session_over_midnight_utc_keeps_its_reference_until_the_next_close():
    start = np.datetime64("2026-01-05T23:00", "us")
    session = start + np.arange(84) * np.timedelta64(5, "m")
    bars = np.concatenate([session, session + np.timedelta64(1, "D")])

    for hour in (23.5, 24.5, 29.0):
        now = datetime(2026, 1, 6, tzinfo=UTC) + timedelta(hours=hour)
        assert 84 == session_start(bars, now)
    assert 84 == session_start(bars, datetime(2026, 1, 7, 8, tzinfo=UTC)), "late bars begin no day"
    assert 168 == session_start(bars, datetime(2026, 1, 7, 23, 1, tzinfo=UTC)), "the next session has begun"


def test_a_market_that_never_closes_has_its_day_begin_at_midnight_utc():
    bars = np.datetime64("2026-01-05T00:00", "us") + np.arange(600) * np.timedelta64(5, "m")

    assert 289 == session_start(bars, datetime(2026, 1, 6, 13, tzinfo=UTC))


@pytest.mark.parametrize(
    ("times", "late", "in_time"),
    [
        (pd.bdate_range("2026-01-05", periods=20) + pd.Timedelta(hours=21), "2026-02-03 10:00", "2026-02-02 20:00"),
        (pd.date_range("2026-01-05", periods=26) + pd.Timedelta(hours=21), "2026-02-01 10:00", "2026-02-01 08:00"),
        (pd.date_range("2026-01-05", "2026-01-30 23:00", freq="h"), "2026-02-02 00:00", "2026-01-30 23:30"),
        (pd.date_range("2026-01-02 21:00", periods=5, freq="7D"), "2026-02-11 10:00", "2026-02-09 20:00"),
        (pd.DatetimeIndex(["2026-01-30 21:00"]), "2026-02-03 10:00", "2026-01-31 20:00"),
    ],
)
def test_a_close_is_overdue_by_the_rhythm_of_the_books_own_closes(times, late, in_time):
    at = times.to_numpy(dtype="datetime64[us]")
    assert [True, False] == [overdue(at, pd.Timestamp(one, tz="UTC").to_pydatetime()) for one in (late, in_time)]


def test_a_book_of_minutes_with_nights_is_held_to_its_last_session():
    days = pd.bdate_range("2026-01-05", periods=10)
    at = np.concatenate([(d + pd.timedelta_range("14:30:00", "21:00:00", freq="5min")).to_numpy() for d in days])
    told = [overdue(at.astype("datetime64[us]"), datetime(2026, 1, day, 20, tzinfo=UTC)) for day in (16, 19, 20, 21)]
    assert [False, False, True, True] == told  # the last bar is of Friday the 16th
