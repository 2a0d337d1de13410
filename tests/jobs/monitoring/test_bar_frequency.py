import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated.platform import Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from jobs.monitoring import bar_frequency
from jobs.training.study import prepare
from mlops.errors import DataError
from mlops.learn import STRATEGIES
from mlops.settings import TrainSettings


def _rows(every, units=("A", "B"), bars=40, late="0h"):
    times = pd.date_range("2026-01-05T14:30", periods=bars, freq=every, tz="UTC")
    return pd.concat(
        [pd.DataFrame({"unit": u, "event_time": times + i * pd.Timedelta(late)}) for i, u in enumerate(units)]
    )


@pytest.mark.parametrize("every", ["1min", "5min", "1h", "12h"])
def test_bars_that_come_more_often_than_daily_are_refused_with_a_remedy(every):
    with pytest.raises(DataError, match=r"bars of m must be daily or slower .* a day: .* Let the bot predict"):
        bar_frequency.daily("m", _rows(every))


@pytest.mark.parametrize("every", ["1D", "7D", "B"])
def test_daily_and_slower_bars_pass(every):
    bar_frequency.daily("m", _rows(every))
    bar_frequency.daily("m", _rows(every)[:0])


def _closes(groups, *, units=40, bars=40, every="1D"):
    """Units on so many exchanges, each of which closes an hour before the next."""
    times = pd.date_range("2026-01-05T21:00", periods=bars, freq=every, tz="UTC")
    return pd.concat(
        [pd.DataFrame({"unit": f"U{i}", "event_time": times - pd.Timedelta(hours=i % groups)}) for i in range(units)]
    )


SEVERAL = r"units of m must close together, .* got {} \(U0 at 21:00, U1 at 20:00.* UTC\)\. Bring .* a model per market"


@pytest.mark.parametrize("groups", [2, 3, 8])
@pytest.mark.parametrize("check", [bar_frequency.daily, bar_frequency.together])
def test_units_that_close_at_several_times_of_a_day_are_refused_with_units_and_times(groups, check):
    with pytest.raises(DataError, match=SEVERAL.format(f"{groups} closes a day")):
        check("m", _closes(groups))


def test_one_unit_that_closes_beside_all_others_is_refused():
    rows = _closes(1)
    rows.loc[rows.unit == "U7", "event_time"] -= pd.Timedelta("5h")
    with pytest.raises(DataError, match=r"got 2 closes a day \(U0 at 21:00, U7 at 16:00 UTC\)"):
        bar_frequency.daily("m", rows)


def test_daily_units_beside_hourly_ones_are_refused():
    hourly = _rows("1h", units=[f"H{i}" for i in range(8)], bars=24 * 20)
    for daily in (6, 12):
        with pytest.raises(DataError, match=r"2[45] closes a day|24 a day"):
            bar_frequency.daily("m", pd.concat([hourly, _closes(1, units=daily, bars=20)]))


def test_weeks_that_end_on_different_days_are_refused():
    rows = pd.concat(
        [
            _rows("7D", units=(u,)).assign(event_time=lambda r, d=i: r.event_time + pd.Timedelta(days=d))
            for i, u in enumerate("ABC")
        ]
    )
    with pytest.raises(DataError, match=r"got 3 closes for each bar of a unit"):
        bar_frequency.daily("m", rows)


def _half_days(rows):
    return rows.assign(
        event_time=rows.event_time.where(rows.event_time.dt.day % 7 != 0, rows.event_time - pd.Timedelta("3h"))
    )


def _half_days_of_some(rows):
    moved = (rows.event_time.dt.day % 7 == 0) & (rows.unit > "U2")
    return rows.assign(event_time=rows.event_time.where(~moved, rows.event_time - pd.Timedelta("3h")))


def _summer_time(rows):
    return rows.assign(
        event_time=rows.event_time.where(rows.event_time < "2026-01-25", rows.event_time - pd.Timedelta("1h"))
    )


def _holidays_of_some(rows):
    return rows[~((rows.event_time.dt.day % 5 == 0) & (rows.unit > "U2"))]


def _listed_late(rows):
    return rows[(rows.unit < "U2") | (rows.event_time > "2026-02-10")]


def _first_days_with_an_odd_close(rows):
    return _half_days_of_some(rows)[lambda few: few.event_time < "2026-01-09"]


ODD = [_half_days, _half_days_of_some, _summer_time, _holidays_of_some, _listed_late, _first_days_with_an_odd_close]


@pytest.mark.parametrize("odd", ODD)
def test_odd_closes_of_units_that_close_together_pass(odd):
    bar_frequency.daily("m", odd(_closes(1, bars=60)))


def test_hours_that_all_units_share_can_be_learned_from():
    bar_frequency.together("m", _rows("1h"))
    with pytest.raises(DataError, match="48 closes a day"):
        bar_frequency.together("m", _rows("1h", bars=240, late="30min"))


LOOKS = {
    "hours": (_rows("1h", bars=60), 4, "daily or slower"),
    "exchanges": (_closes(2, units=4, bars=20), 15, "close together, .* got 2 closes a day"),
}


@pytest.mark.parametrize(("rows", "bar", "why"), LOOKS.values(), ids=LOOKS)
def test_both_looks_refuse_them(rows, bar, why):
    with platforms() as context:
        one = Platform(context, World(Law(units=2), 30, 1), "m")
        one.begin()
        one.challenge(bar_at(0))
        times = rows.event_time - rows.event_time.min() + bar_at(1)
        frame = rows.assign(
            model="m", version=1, role="champion", probability=0.5, event_time=times, known_at=times, matures_at=times
        )
        features = one.world.features[:1, :1].reshape(1, -1).repeat(len(frame), axis=0)
        context.ledger.telemetry.add_predictions(frame, features, ("f0", "f1", "f2", "f3", "f4", "f5"))
        outcomes = frame[["model", "unit", "event_time", "known_at"]].assign(label=1.0, value=0.0)
        context.ledger.telemetry.add_outcomes(outcomes)
        one.context.ledger.telemetry.add_predictions(
            frame.assign(version=2), features, ("f0", "f1", "f2", "f3", "f4", "f5")
        )
        for job in ("monitor", "compare"):
            with pytest.raises(DataError, match=why):
                one.decide(job, bar_at(bar))


def test_training_refuses_units_that_close_at_several_times():
    rows = _closes(3, units=6, bars=400)
    price = 100 * np.exp(np.random.default_rng(1).normal(0, 0.01, len(rows)).cumsum())
    bars = rows.rename(columns={"unit": "symbol"}).assign(close=price, known_at=rows.event_time)
    with pytest.raises(DataError, match="of volatility must close together, .* got 3 closes a day"):
        prepare(TrainSettings(), STRATEGIES["volatility"], bars.sort_values("event_time", ignore_index=True), None)
