"""Labels, and when each can be known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlops.learn import STRATEGIES
from mlops.learn.labels import table

DIRECTION = STRATEGIES["direction"]


def _bars(closes, symbol="A"):
    times = pd.date_range("2020-01-01", periods=len(closes), tz="UTC")
    return pd.DataFrame({"event_time": times, "known_at": times, "symbol": symbol, "close": closes})


def test_direction_by_hand():
    bars = _bars([10.0, 11.0, 9.9, 9.9, 12.0])

    found = table(DIRECTION, bars)

    # The first bar has no return of its own but one after it; the last has none after it.
    assert [1.0, 0.0, 0.0, 1.0] == list(found.label)
    assert [0.1, -0.1, 0.0, 12 / 9.9 - 1] == pytest.approx(list(found.value))
    assert list(bars.event_time[:-1]) == list(found.event_time)
    assert list(bars.event_time[1:]) == list(found.known_at)


def test_volatility_by_hand():
    rng = np.random.default_rng(5)
    returns = 0.01 * rng.normal(size=400)
    bars = _bars(100 * np.cumprod(1 + returns))
    moves = np.abs(bars.close.pct_change().to_numpy())
    t = 300
    weeks = np.array([moves[i - 4 : i + 1].mean() for i in range(t - 251, t + 1)])
    expected = float(moves[t + 1 : t + 6].mean() > np.median(weeks))

    row = table(STRATEGIES["volatility"], bars).set_index("event_time").loc[bars.event_time[t]]

    assert (expected, bars.event_time[t + 5]) == (row.label, row.known_at)
    assert moves[t + 1] == pytest.approx(abs(row.value))


def test_known_at_is_the_close_of_the_bar_at_the_horizon():
    bars = _bars(np.linspace(10, 20, 30))
    found = table(replace(DIRECTION, horizon=7), bars)
    assert list(bars.event_time[7:]) == list(found.known_at)


@pytest.mark.parametrize(("past", "held_up"), [(0, 2), (10, 12), (None, 290 - 100)])
def test_a_bar_that_was_revised_holds_up_the_labels_that_are_made_of_it(past, held_up):
    bars = _bars(np.linspace(10, 20, 300))
    revised = bars.copy()
    revised.loc[100, "known_at"] = bars.event_time[290]
    strategy = replace(DIRECTION, label_past=past)

    apart = table(strategy, revised).known_at > table(strategy, bars).known_at

    assert held_up == apart.sum()
    assert 99 == apart.idxmax()


def test_a_label_waits_for_the_symbols_own_bars():
    """B has no bar at bar 3: what was said at bar 2 is known at bar 4."""
    bars = pd.concat([_bars([1.0, 2, 3, 4, 5]), _bars([1.0, 2, 3, 4, 5], "B").drop(3)], ignore_index=True)

    found = table(DIRECTION, bars)

    b = found[found.unit == "B"].set_index("event_time")
    days = pd.date_range("2020-01-01", periods=5, tz="UTC")
    assert days[4] == b.known_at[days[2]]
    assert 5 / 3 - 1 == pytest.approx(b.value[days[2]])
    assert list(zip(found.event_time, found.unit, strict=True)) == sorted(
        zip(found.event_time, found.unit, strict=True)
    )


def test_more_bars_change_no_label_that_was_known(walk):
    bars = walk(330, ("A", "B"))
    for strategy in STRATEGIES.values():
        cut = bars.event_time.unique()[320]
        whole, known = table(strategy, bars), table(strategy, bars[bars.event_time <= cut])
        expected = whole[whole.known_at <= cut].reset_index(drop=True)
        assert len(expected)
        pd.testing.assert_frame_equal(expected, known, check_exact=True)


def test_a_bar_that_arrives_late_holds_up_the_labels_that_are_made_of_it():
    """Bar 5 arrives three days late: what is made of it waits for it."""
    bars = _bars(np.linspace(10, 20, 30))
    bars.loc[5, "known_at"] += pd.Timedelta("3D12h")
    found = table(replace(DIRECTION, horizon=2), bars).set_index("event_time").known_at

    at = bars.event_time
    arrived = at[5] + pd.Timedelta("3D12h")
    assert found[at[2]] == at[4]
    assert {arrived} == {found[at[i]] for i in range(3, 6)}
    assert found[at[6]] == at[8]


def test_a_revised_bar_gives_its_label_when_it_was_revised():
    """The close of bar 3 was corrected a week later; what is in the file is the correction."""
    bars = _bars([10.0, 11.0, 9.9, 12.9, 12.0])
    bars.loc[3, "known_at"] += pd.Timedelta("7D")
    found = table(DIRECTION, bars).set_index("event_time")
    assert 1.0 == found.label[bars.event_time[2]]
    assert bars.known_at[3] == found.known_at[bars.event_time[2]] == found.known_at[bars.event_time[3]]
