"""Named episodes: the published moves are right, and what stands in is said."""

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.io import feed
from mlops.risk.scenarios import EPISODES, Episode, Scenarios, betas, episode_scenarios


@pytest.fixture(scope="module")
def closes():
    bars = feed.load_bars("sp500").frame
    return bars.pivot(index="event_time", columns="symbol", values="close")


@pytest.fixture(scope="module")
def index():
    bars = feed.load_bars("index:sp500").frame
    return bars.pivot(index="event_time", columns="symbol", values="close")


def test_each_published_move_is_that_of_the_index_where_its_bars_reach(index):
    found, left = episode_scenarios(index)
    reached = [i for i, one in enumerate(EPISODES) if "1999-01-04" <= one.start and one.end <= "2018-12-31"]

    assert () == left
    assert len(reached) == 7
    for i in reached:
        assert not found.proxied[i, 0]
        assert EPISODES[i].market == pytest.approx(found.returns[i, 0], abs=5e-6), EPISODES[i].name


def test_an_episode_is_the_compounded_move_from_close_to_close(closes):
    found, _ = episode_scenarios(closes)
    day = closes.index.strftime("%Y-%m-%d")
    i, j = found.names.index("Covid crash 2020"), found.units.index("BAC")

    expected = closes["BAC"][day == "2020-03-23"].item() / closes["BAC"][day == "2020-02-19"].item() - 1

    assert expected == found.returns[i, j]
    assert not found.proxied[i].any()


def test_before_the_bars_begin_beta_stands_in_and_is_said(closes):
    found, _ = episode_scenarios(closes)
    i = found.names.index("Black Monday 1987")
    slope = betas((closes / closes.shift() - 1).to_numpy()[1:])

    assert found.proxied[i].all()
    assert (1 + EPISODES[i].market) ** slope - 1 == pytest.approx(found.returns[i])


def test_a_unit_that_came_later_is_proxied_only_where_it_was_not(closes):
    late = closes.assign(NEW=closes["AAPL"].where(closes.index >= pd.Timestamp("2015-01-01", tz="UTC")))
    found, _ = episode_scenarios(late)
    mine = found.proxied[:, found.units.index("NEW")]

    assert [one.end < "2015" for one in EPISODES] == mine.tolist()


def test_a_unit_that_was_delisted_did_not_stand_still(closes):
    gone = closes.assign(OLD=closes["GE"].where(closes.index < pd.Timestamp("2020-03-01", tz="UTC")))
    found, _ = episode_scenarios(gone)
    i, j = found.names.index("Covid crash 2020"), found.units.index("OLD")

    assert found.proxied[i, j]
    assert found.returns[i, j] < -0.2


def test_a_unit_of_a_few_bars_is_listed(closes):
    found, left = episode_scenarios(closes.assign(IPO=closes["GE"].where(np.arange(len(closes)) >= len(closes) - 30)))

    assert ("IPO",) == left
    assert "IPO" not in found.units


def test_a_move_beyond_the_market_cannot_pass_minus_one():
    days = pd.date_range("2020-01-01", periods=200, tz="UTC")
    m = 0.01 * np.random.default_rng(0).standard_normal(200)
    wild = pd.DataFrame({"A": 100 * np.cumprod(1 + m), "B": 100 * np.cumprod(1 + 0.02 * np.sign(m) + 5 * m)}, days)
    found, _ = episode_scenarios(wild, (Episode("deep", "1929-09-03", "1932-07-08", -0.86),))

    assert (found.returns > -1).all()
    assert found.returns[0, 1] < -0.9


def test_no_bars_at_all_leave_every_unit_listed():
    found, left = episode_scenarios(pd.DataFrame({"A": []}, index=pd.DatetimeIndex([], tz="UTC"), dtype=float))

    assert ("A",) == left
    assert (len(EPISODES), 0) == found.returns.shape


def test_beta_is_the_slope_over_the_units_own_bars():
    rng = np.random.default_rng(1)
    m = rng.standard_normal(300)
    own = 1.5 * m + rng.standard_normal(300)
    own[:100] = np.nan

    found = betas(np.column_stack([own, np.full(300, np.nan), np.zeros(300)]), m)

    assert np.polyfit(m[100:], own[100:], 1)[0] == pytest.approx(found[0])
    assert np.isnan(found[1])
    assert 0.0 == found[2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.iloc[::-1], "ascending"),
        (lambda c: pd.concat([c, c.iloc[-1:]]), "unique"),
        (lambda c: c * (np.arange(len(c)) != 5)[:, None], "positive"),
    ],
)
def test_closes_that_break_the_contract_are_refused(closes, change, says):
    with pytest.raises(DataError, match=says):
        episode_scenarios(change(closes.iloc[-300:]))


def test_scenarios_must_be_whole():
    with pytest.raises(DataError, match="finite"):
        Scenarios(("a",), ("A",), np.array([[np.nan]]), np.array([[False]]))
    with pytest.raises(DataError, match="unique"):
        Scenarios(("a",), ("A", "A"), np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))


def test_episodes_are_in_order_and_each_has_a_source():
    assert len({one.name for one in EPISODES}) == len(EPISODES)
    for one in EPISODES:
        assert one.start < one.end
        assert -1 < one.market < 0
        assert one.source
