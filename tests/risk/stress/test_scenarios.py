"""Named episodes: the published moves are right, and what stands in is said."""

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.io import bar_feed
from mlops.risk.stress.episodes import EPISODES, Episode
from mlops.risk.stress.scenarios import AssetClass, Scenarios, asset_class, betas, episode_scenarios


@pytest.fixture(scope="module")
def closes():
    bars = bar_feed.load_bars("sp500").frame
    return bars.pivot(index="event_time", columns="symbol", values="close")


@pytest.fixture(scope="module")
def index():
    bars = bar_feed.load_bars("index:sp500").frame
    return bars.pivot(index="event_time", columns="symbol", values="close")


def test_each_published_move_is_that_of_the_index_where_its_bars_reach(index):
    found, left = episode_scenarios(index)
    reached = [i for i, one in enumerate(EPISODES) if "1999-01-04" <= one.start and one.end <= "2018-12-31"]

    assert () == left
    assert len(reached) == 13
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


def test_before_the_bars_begin_beta_to_the_index_stands_in_and_is_said(closes, index):
    found, _ = episode_scenarios(closes, market=index["sp500"])
    i = found.names.index("Black Monday 1987")
    slope = betas(closes, index["sp500"])

    assert found.proxied[i].all()
    assert (1 + EPISODES[i].market) ** slope - 1 == pytest.approx(found.returns[i])


def test_a_unit_that_came_later_is_proxied_only_where_it_was_not(closes, index):
    late = closes.assign(NEW=closes["AAPL"].where(closes.index >= pd.Timestamp("2015-01-01", tz="UTC")))
    found, _ = episode_scenarios(late, market=index["sp500"])
    mine = found.proxied[:, found.units.index("NEW")]

    assert [one.start < "2015" or one.end > "2022-12-28" for one in EPISODES] == mine.tolist()


def test_a_unit_that_was_delisted_did_not_stand_still(closes, index):
    gone = closes.assign(OLD=closes["GE"].where(closes.index < pd.Timestamp("2020-03-01", tz="UTC")))
    found, _ = episode_scenarios(gone, market=index["sp500"])
    i, j = found.names.index("Covid crash 2020"), found.units.index("OLD")

    assert found.proxied[i, j]
    assert found.returns[i, j] < -0.2


def test_a_unit_of_a_few_bars_is_told_where_it_has_bars_and_nowhere_else(closes, index):
    new = closes.assign(IPO=closes["GE"].where(np.arange(len(closes)) >= len(closes) - 60))
    found, left = episode_scenarios(new, market=index["sp500"])
    none, listed = episode_scenarios(closes.assign(IPO=np.nan), market=index["sp500"])

    ends = [episode.end for episode in EPISODES]
    mine = found.returns[:, found.units.index("IPO")]
    assert () == left
    assert ["2022-11-09"] == [end for end, move in zip(ends, mine, strict=True) if np.isfinite(move)]
    assert ("IPO",) == listed
    assert "IPO" not in none.units


def coins(days=400, n=20, seed=0):
    """A homogeneous book of coins, long after the index's bars end."""
    rng = np.random.default_rng(seed)
    when = pd.date_range("2024-06-01", periods=days, tz="UTC")
    together = 0.03 * rng.standard_normal(days)
    moves = together[:, None] + 0.01 * rng.standard_normal((days, n))
    return pd.DataFrame(100 * np.cumprod(1 + moves, axis=0), when, [f"C{i}/USDT" for i in range(n)])


def test_a_book_of_coins_gets_bitcoins_move_and_not_the_indexs(index):
    found, left = episode_scenarios(coins(), market=index["sp500"])
    ftx, monday = (found.returns[found.names.index(name)] for name in ("FTX 2022", "Black Monday 1987"))

    assert () == left
    assert (ftx == 15880.78 / 21147.23 - 1).all()
    assert (monday < -0.6).all()  # before Bitcoin: as far beyond shares as on the worst day that both traded
    assert np.isnan(found.returns[found.names.index("Gulf war 1991")]).all()  # shares rose: nothing is told
    assert found.proxied[found.names.index("FTX 2022")].all()


def test_a_homogeneous_book_of_shares_does_not_get_the_indexs_move_by_its_own_mean(index):
    """Shares that move twice as far as the index fall further than it; the mean of the book says nothing of that."""
    m = index["sp500"].loc["2015":]
    calm = pd.DataFrame({f"S{i}": 100 * (m / m.iloc[0]) ** 2 for i in range(5)})
    found, _ = episode_scenarios(calm, market=index["sp500"])

    assert (1 - 0.2047) ** 2 - 1 == pytest.approx(found.returns[found.names.index("Black Monday 1987")], abs=0.01)


def test_without_bars_of_the_index_no_share_is_told_by_its_beta(closes):
    found, _ = episode_scenarios(closes)

    assert np.isnan(found.returns[found.names.index("Black Monday 1987")]).all()
    assert not found.proxied.any()


@pytest.mark.parametrize(
    ("unit", "sector", "episode", "move"),
    [
        ("EUR/CHF", "", "Swiss franc 2015", 1.028 / 1.201 - 1),
        ("USDCHF", "", "Swiss franc 2015", (1.028 / 1.1708) / (1.201 / 1.1775) - 1),
        ("GBPUSD", "fx", "Brexit 2016", (1.0998 / 0.834) / (1.1389 / 0.76595) - 1),
        ("CL", "oil", "Oil price war 2020", 31.05 / 41.14 - 1),
        ("ZN", "Treasuries", "Rates shock 2022", -0.187),
        ("ETH/USDT:USDT", "", "Crypto Black Thursday 2020", 4970.79 / 7911.43 - 1),
    ],
)
def test_a_unit_without_bars_moves_as_its_market_was_published_to(unit, sector, episode, move):
    nothing = pd.DataFrame({unit: [np.nan]}, index=pd.DatetimeIndex(["2026-01-02"], tz="UTC"))

    found, _ = episode_scenarios(nothing, sectors={unit: sector})

    assert move == pytest.approx(found.returns[found.names.index(episode), 0], abs=5e-4)


def test_a_note_that_yields_more_is_worth_what_a_calculator_says():
    """A ten-year note of 2 % a year at a yield of 4 %: 83.65 for 100."""
    row = Episode("x", "2000-01-01", "2000-01-02", shares=(1.0, 1.0), ten_year=(2.0, 4.0))

    assert -0.16351 == pytest.approx(row.treasuries(), abs=1e-5)


def test_classes_are_told_by_sector_then_by_name():
    assert AssetClass.CRYPTO is asset_class("X", " Crypto ")
    assert AssetClass.SHARES is asset_class("EUR")
    assert AssetClass.SHARES is asset_class("BRK-B")
    assert AssetClass.FX is asset_class("eur_usd")


def test_a_move_beyond_the_market_cannot_pass_minus_one(index):
    m = index["sp500"].loc["2015":]
    wild = pd.DataFrame({"A": m, "B": m**5})
    found, _ = episode_scenarios(
        wild, (Episode("deep", "1929-09-03", "1932-07-08", shares=(1.0, 0.14)),), market=index["sp500"]
    )

    assert (found.returns > -1).all()
    assert found.returns[0, 1] < -0.9


def test_no_bars_at_all_leave_every_unit_listed():
    found, left = episode_scenarios(pd.DataFrame({"A": []}, index=pd.DatetimeIndex([], tz="UTC"), dtype=float))

    assert ("A",) == left
    assert (len(EPISODES), 0) == found.returns.shape


def test_beta_is_the_slope_over_the_units_own_days_whatever_the_hour_of_its_close(index):
    m = index["sp500"]
    rng = np.random.default_rng(1)
    own = (m.pct_change().fillna(0.0) * 1.5 + 0.002 * rng.standard_normal(len(m)) + 1).cumprod()
    late = own.where(np.arange(len(m)) > len(m) - 800)
    europe = pd.DataFrame({"late": late, "never": np.nan, "still": 5.0})
    europe.index = europe.index - pd.Timedelta(hours=4)

    slopes = betas(europe, m)

    assert 1.5 == pytest.approx(slopes[0], abs=0.1)
    assert np.isnan(slopes[1])
    assert 0.0 == slopes[2]


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
        Scenarios(("a",), ("A",), np.array([[np.inf]]), np.array([[False]]))
    with pytest.raises(DataError, match="unique"):
        Scenarios(("a",), ("A", "A"), np.zeros((1, 2)), np.zeros((1, 2), dtype=bool))


def test_episodes_are_in_order_and_each_has_a_source():
    assert len({one.name for one in EPISODES}) == len(EPISODES)
    for one in EPISODES:
        assert one.start < one.end
        assert -1 < one.market < 0.05
        assert one.source
        assert all(min(levels) > 0 for levels in (one.shares, one.bitcoin or (1.0, 1.0), one.oil or (1.0, 1.0)))
