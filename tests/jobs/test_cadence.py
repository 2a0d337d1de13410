import pandas as pd
import pytest

from benchmarks.simulated.platform import Platform, bar_at, platforms
from benchmarks.simulated.world import Law, World
from jobs import cadence
from mlops.errors import DataError


def _rows(every, units=("A", "B"), bars=40, late="0h"):
    times = pd.date_range("2026-01-05T14:30", periods=bars, freq=every, tz="UTC")
    return pd.concat(
        [pd.DataFrame({"unit": u, "event_time": times + i * pd.Timedelta(late)}) for i, u in enumerate(units)]
    )


@pytest.mark.parametrize("every", ["1min", "5min", "1h", "12h"])
def test_bars_that_come_more_often_than_daily_are_refused_with_a_remedy(every):
    with pytest.raises(DataError, match=r"bars of m must be daily or slower .* a day: .* Let the bot predict"):
        cadence.daily("m", _rows(every))


@pytest.mark.parametrize(("every", "late"), [("1D", "0h"), ("1D", "5h"), ("7D", "0h"), ("B", "0h")])
def test_daily_bars_pass_also_where_units_close_at_different_hours(every, late):
    cadence.daily("m", _rows(every, late=late))
    cadence.daily("m", _rows(every)[:0])


def test_both_looks_refuse_them():
    with platforms() as house:
        one = Platform(house, World(Law(units=2), 30, 1), "m")
        one.begin()
        one.challenge(bar_at(0))
        first = bar_at(1)
        frame = _rows("1h", bars=60).assign(
            model="m", version=1, role="champion", probability=0.5, known_at=lambda rows: rows.event_time
        )
        frame["event_time"] += first - frame["event_time"].iloc[0]
        frame["known_at"] = frame["event_time"]
        frame["matures_at"] = frame["event_time"]
        features = one.world.features[:1, :1].reshape(1, -1).repeat(len(frame), axis=0)
        house.ledger.add_predictions(frame, features, ("f0", "f1", "f2", "f3", "f4", "f5"))
        outcomes = frame[["model", "unit", "event_time", "known_at"]].assign(label=1.0, value=0.0)
        house.ledger.add_outcomes(outcomes)
        one.house.ledger.add_predictions(frame.assign(version=2), features, ("f0", "f1", "f2", "f3", "f4", "f5"))
        for job in ("monitor", "compare"):
            with pytest.raises(DataError, match="daily or slower"):
                one.decide(job, bar_at(4))
