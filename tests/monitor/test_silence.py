"""A bot is silent by its own clock: never on a night, a weekend or a holiday, always when it is dead."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from mlops.io import bar_feed
from mlops.monitor.silence import Patience, instants, silence
from mlops.types import Level

NEW_YORK = ZoneInfo("America/New_York")
PATIENCE = Patience(bars=2, late=timedelta(minutes=5), unknown=timedelta(days=4))
NO_LAG = timedelta(0)
# Two days running without a session: 2001-09-11 and the storm of 2012.
CLOSED = {"2001-09-10", "2012-10-26"}


def at(*args, zone=UTC):
    return datetime(*args, tzinfo=zone).astimezone(UTC)


def found(times, now, *, since=None, patience=PATIENCE, lag=NO_LAG):
    times = times if isinstance(times, np.ndarray) else instants(times)
    return silence("silence", times, since, now, patience, lag=lag)


@pytest.fixture(scope="module")
def sessions():
    """Closes of the New York stock exchange, 16:00 there."""
    days = sorted({t.date() for t in bar_feed.load_bars("sp500").frame["event_time"]})
    return [at(d.year, d.month, d.day, 16, zone=NEW_YORK) for d in days if d.year >= 1995]


def test_a_daily_bot_is_never_silent_between_two_sessions_in_27_years(sessions):
    alarms = {
        f"{before:%Y-%m-%d}"
        for i, (before, after) in enumerate(zip(sessions[30:], sessions[31:], strict=False), 31)
        if found(sessions[i - 31 : i], after, since=None).level is not Level.OK
    }

    assert alarms <= CLOSED


def test_a_daily_bot_that_stops_is_silent_at_its_second_missing_bar(sessions):
    last = next(i for i, t in enumerate(sessions) if t >= at(2015, 5, 12))
    times = sessions[:last]
    late = timedelta(minutes=6)

    assert Level.OK is found(times, sessions[last] + late).level
    assert Level.ALERT is found(times, sessions[last + 1] + late).level
    assert 2 == found(times, sessions[last + 1] + late).value


def intraday(start, days, every, opens=9.5, closes=16):
    """Bars on weekdays between two hours of New York."""
    midnight = datetime(*start, tzinfo=NEW_YORK)
    found = []
    for day in (midnight + timedelta(days=i) for i in range(days)):
        minutes = np.arange(60 * opens, 60 * closes, every) if day.weekday() < 5 else ()
        found += [
            (day.replace(tzinfo=None) + timedelta(minutes=float(m))).replace(tzinfo=NEW_YORK).astimezone(UTC)
            for m in minutes
        ]
    return found


@pytest.mark.parametrize("start", [(2022, 2, 1), (2022, 10, 3)])  # summer time begins, ends
def test_an_intraday_bot_is_silent_within_minutes_and_never_at_night_or_when_summer_time_comes_or_goes(start):
    bars = intraday(start, 70, 5)
    first = next(i for i, t in enumerate(bars) if t - bars[0] > timedelta(days=8))
    times = instants(bars)
    for i in range(first, len(bars)):
        assert Level.OK is found(times[:i], bars[i] + timedelta(seconds=30)).level, bars[i]
    dead = bars[-40]
    levels = [found(bars[:-40], dead + timedelta(minutes=m)).level for m in (4, 9, 11, 60)]
    assert [Level.OK, Level.OK, Level.ALERT, Level.ALERT] == levels


def test_a_round_the_clock_bot_is_silent_after_two_bars():
    hours = [at(2026, 1, 1) + timedelta(hours=i) for i in range(24 * 40)]
    ok, alert = (found(hours, hours[-1] + timedelta(hours=h, minutes=6)).level for h in (1, 2))
    assert (Level.OK, Level.ALERT) == (ok, alert)


@pytest.mark.parametrize("days", [7, 30])
def test_a_weekly_or_monthly_bot_is_judged_by_its_own_clock(days):
    times = [at(2024, 1, 1) + timedelta(days=days * i) for i in range(24)]
    assert Level.OK is found(times, times[-1] + timedelta(days=days, hours=1)).level
    assert Level.ALERT is found(times, times[-1] + timedelta(days=3 * days)).level


def test_who_never_spoke_is_not_known_and_then_silent_from_the_promotion_on():
    since = at(2026, 3, 2)
    days = [found([], since + timedelta(days=d), since=since) for d in (0, 3.9, 4, 400)]
    assert [Level.UNKNOWN, Level.UNKNOWN, Level.ALERT, Level.ALERT] == [f.level for f in days]
    assert "nothing has come since 2026-03-02 00:00 UTC" == days[-1].note
    assert Level.UNKNOWN is found([], since).level


def test_a_young_bot_has_no_clock_and_is_given_the_setting():
    times = [at(2026, 3, 2, 15) + timedelta(minutes=5 * i) for i in range(50)]
    assert Level.OK is found(times, times[-1] + timedelta(days=3)).level, "the weekend may be its first"
    assert Level.ALERT is found(times, times[-1] + timedelta(days=4)).level
    soon = Patience(2, timedelta(0), timedelta(minutes=20))
    assert Level.ALERT is found(times, times[-1] + timedelta(minutes=21), patience=soon).level


def test_a_bar_that_is_named_by_its_opening_is_not_late_before_it_closed():
    days = [at(2026, 1, 1) + timedelta(days=i) for i in range(60)]
    now = days[-1] + timedelta(days=2, hours=20)
    assert Level.ALERT is found(days, now).level
    assert Level.OK is found(days, now, lag=timedelta(hours=21)).level


def test_rows_of_the_future_are_not_news():
    days = [at(2026, 1, 1) + timedelta(days=i) for i in range(60)]
    future = at(2030, 1, 1)
    assert Level.ALERT is found([*days, future], days[-1] + timedelta(days=5)).level
