"""The trading state, as a bot hears of it and as the paper bot obeys it."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from jobs.context import Context
from jobs.paper_bot import BOOK, PaperBot
from mlops.io import bar_feed
from mlops.learn import STRATEGIES, features
from mlops.settings import Settings
from mlops.types import TradingState
from registry_hooks.bot.client import Bot

MODEL, STRATEGY = "volatility", STRATEGIES["volatility"]
START, DAY = datetime(2008, 1, 4, 22, tzinfo=UTC), timedelta(days=1)


@pytest.fixture(scope="module")
def bars():
    frame = bar_feed.load_bars(
        "sp500", start=datetime(2006, 1, 1, tzinfo=UTC), end=datetime(2008, 4, 1, tzinfo=UTC)
    ).frame
    return frame[frame.symbol.isin(["AAPL", "GE", "XOM"])]


def traded(live, bars, states):
    """Quantities after each bar of a paper bot, under a state a bar."""
    bot = PaperBot(Context(Settings(state=live.cache.parent), live, None), STRATEGY, bars, START)
    held = []
    for (at, bar), state in zip(bars[bars.event_time >= START].groupby("event_time"), states, strict=False):
        live.ledger.trading.set(state, "ada", "as the test says", at.to_pydatetime())
        bot.on_bar(bar, at.to_pydatetime())
        held.append({unit: position.quantity for unit, position in bot.book.positions.items()})
        assert {u: bar.set_index("symbol").close[u] for u in held[-1]} == {
            u: p.mark for u, p in bot.book.positions.items()
        }
    return held


def test_a_paper_bot_that_is_halted_sends_no_orders_and_its_book_is_marked_on(live, bars):
    held = traded(live, bars, ["active"] * 5 + ["halted"] * 10 + ["active"])

    assert held[4]
    assert [held[4]] * 10 == held[5:15]
    assert held[4] != held[15]
    days = sorted(bars[bars.event_time >= START].event_time.unique())
    filled = live.ledger.books.unbooked_fills(MODEL, BOOK, as_of=START + 99 * DAY).event_time
    assert {*days[:5], days[15]} >= set(filled) > {days[15]}


def test_a_paper_bot_that_is_reducing_only_lets_positions_shrink(live, bars):
    free = traded(live, bars, ["active"] * 40)
    held = traded(live, bars, ["active"] * 6 + ["reducing"] * 34)

    assert free[:6] == held[:6]
    assert grown(free[5:]), "without the state, no position would have grown: this test would show nothing"
    assert [] == grown(held[5:])
    assert held[5] != held[-1]


def grown(held):
    """Units that a bar opened, added to, or turned round."""
    return [
        unit
        for was, is_ in pairwise(held)
        for unit, quantity in is_.items()
        if not min(0, was.get(unit, 0)) <= quantity <= max(0, was.get(unit, 0))
    ]


@pytest.mark.parametrize("background", [True, False])
def test_a_bot_hears_of_the_trading_state_without_asking(live, background, eventually):
    code = {"features": lambda rows: features.last_row(STRATEGY, rows), "names": STRATEGY.feature_names}
    with Bot(MODEL, live, **code, poll_s=3600.0, background=background) as bot:
        assert TradingState.ACTIVE is bot.trading
        live.ledger.trading.set("reducing", "ada", "storm", START)
        if not background:
            bot.boundary(START)
        eventually(lambda: bot.trading is TradingState.REDUCING)
