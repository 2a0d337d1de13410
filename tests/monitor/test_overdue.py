"""Whether outcomes still come, of made-up bars."""

from datetime import timedelta

import pandas as pd
import pytest

from mlops.monitor import pending
from mlops.types import Level


def _rows(bars, *, labelled, units=4, horizon=1, days=None):
    """`labelled(bar, unit)`: whether its outcome is known. `matures_at` is told in calendar days, which is early."""
    times = pd.bdate_range("2007-06-04", periods=bars, tz="UTC") if days is None else days
    return pd.DataFrame(
        [
            {"event_time": at, "unit": f"U{unit}", "matures_at": at + timedelta(days=horizon)}
            | {"labelled": bool(labelled(bar, unit))}
            for bar, at in enumerate(times)
            for unit in range(units)
        ]
    )


def _pending(bars, labelled, *, horizon=1, late_bars=5, **shape):
    return pending(_rows(bars, labelled=labelled, horizon=horizon, **shape), horizon=horizon, late_bars=late_bars)


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_labels_that_come_when_they_are_due_or_a_little_later_are_in_order(horizon):
    for late in (0, 5):
        found = _pending(60, lambda bar, unit, late=late: bar + horizon + late < 60, horizon=horizon)
        assert (Level.OK, 4 * (horizon + late)) == (found.level, found.value)
        assert f"{4 * (horizon + late)} predictions wait for their label" == found.note


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_labels_that_stop_are_overdue_a_few_bars_after_they_were_due(horizon):
    def seen(bars):
        return _pending(bars, lambda bar, unit: bar < 30, horizon=horizon)

    levels = [seen(31 + horizon + 5 + i).level for i in range(5)]
    assert [Level.OK, Level.WARN, Level.WARN, Level.ALERT, Level.ALERT] == levels
    found = seen(100)
    assert found.note.startswith("no outcome came of a bar after 2007-07-13 00:00; 280 predictions wait")
    assert 4 * (100 - 30 - horizon - 5 - 1) == found.params["overdue"]
    assert found.params["units"] == "U0,U1,U2,U3"


def test_a_model_without_any_label_is_told_of():
    found = _pending(12, lambda bar, unit: False)
    assert Level.ALERT is found.level
    assert found.note.startswith("no outcome came ever")


def test_units_that_get_no_outcome_any_more_are_named_and_the_others_are_known():
    found = _pending(60, lambda bar, unit: bar < (30 if unit == 2 else 59))
    assert Level.WARN is found.level
    assert "of 1 of 4 units (U2) no outcome came of a bar after 2007-07-13" in found.note
    assert "U2" == found.params["units"]
    half = _pending(60, lambda bar, unit: bar < (30 if unit < 2 else 59))
    assert (Level.ALERT, "U0,U1") == (half.level, half.params["units"])
    assert half.note.startswith("of 2 of 4 units (U0, U1) no outcome came of a bar after 2007-07-13")
    mixed = _pending(60, lambda bar, unit: (bar + unit) % 2)
    assert (Level.ALERT, "") == (mixed.level, mixed.params["units"])
    assert mixed.note.startswith("most outcomes of the newest bars that are due do not come")


def test_a_unit_that_is_not_predicted_any_more_owes_nothing_new():
    rows = _rows(60, labelled=lambda bar, unit: bar < (29 if unit == 2 else 59))
    gone = rows[(rows["unit"] != "U2") | (rows["event_time"] <= rows["event_time"].unique()[30])]
    found = pending(gone, horizon=1, late_bars=5)
    assert (Level.WARN, "", 2) == (found.level, found.params["units"], found.params["overdue"])


def test_a_holiday_makes_nothing_overdue():
    days = [*pd.bdate_range("2007-06-04", periods=20, tz="UTC"), pd.Timestamp("2007-09-03", tz="UTC")]
    found = _pending(21, lambda bar, unit: bar < 15, days=days)
    assert Level.OK is found.level


def test_a_label_that_matures_later_than_its_horizon_is_due_then():
    rows = _rows(60, labelled=lambda bar, unit: bar < 30).assign(matures_at=pd.Timestamp("2099-01-01", tz="UTC"))
    assert Level.OK is pending(rows, horizon=1, late_bars=5).level


def test_nothing_predicted_is_nothing_overdue():
    nothing = _rows(1, labelled=lambda bar, unit: False)[:0].astype({"labelled": bool})
    found = pending(nothing, horizon=1, late_bars=5)
    assert (Level.OK, 0.0) == (found.level, found.value)
