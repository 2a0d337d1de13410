"""The paper bot with its targets sized, on the autumn of 2008, against a real registry and ledger."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from jobs import context as context_module
from jobs import promote, train
from jobs.paper_bot import PaperBot, sizer
from mlops.io import bar_feed
from mlops.learn import STRATEGIES
from mlops.settings import RiskSettings, Settings, TrainSettings

pytestmark = pytest.mark.slow
START, END = datetime(2008, 9, 1, tzinfo=UTC), datetime(2008, 11, 1, tzinfo=UTC)
STRATEGY = STRATEGIES["volatility"]
SYMBOLS = ("AAPL", "BAC", "GE", "JNJ", "WMT", "XOM")


@pytest.fixture(scope="module")
def bars():
    frame = bar_feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=END).frame
    return frame[frame.symbol.isin(SYMBOLS)].reset_index(drop=True)


@pytest.fixture(scope="module")
def context(tmp_path_factory, bars):
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        settings = Settings(
            state=folder,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            train=TrainSettings(trials=1, folds=2, min_bars=100),
        )
        with context_module.opened(settings) as opened:
            ref = train.train(opened, STRATEGY, bars, as_of=datetime(2007, 1, 1, tzinfo=UTC), start=None)
            promote.promote(opened, ref, reason="first", actor="test", at=datetime(2007, 1, 2, tzinfo=UTC))
            yield opened


def _run(context, bars, risk):
    """The bot's book after each bar, and what it held as shares of equity."""
    bot = PaperBot(replace(context, settings=context.settings.model_copy(update={"risk": risk})), STRATEGY, bars, START)
    held = []
    for at, bar in bars[bars.event_time >= START].groupby("event_time", sort=True):
        bot.on_bar(bar, pd.Timestamp(str(at)).to_pydatetime())
        held.append({unit: p.value / bot.book.equity for unit, p in bot.book.positions.items()})
    return bot, pd.DataFrame(held)


def test_the_switch_is_off_by_default_and_takes_its_lines_from_the_settings():
    assert sizer(RiskSettings()) is None
    made = sizer(RiskSettings(sizing="on", volatility_target=0.1, max_weight=0.05))
    assert (0.1, 0.05, 60) == (made.limits.volatility_target, made.limits.max_weight, made.window)


def test_sized_targets_are_smaller_in_a_storm_and_know_nothing_that_comes_later(context, bars):
    _, plain = _run(context, bars, RiskSettings())
    bot, sized = _run(context, bars, RiskSettings(sizing="on"))
    assert bot.sizer.state.value != "unknown"  # warmed up on the bars before the start
    assert sized.abs().sum(axis=1).iloc[-1] < 0.6 * plain.abs().sum(axis=1).iloc[-1]
    assert bot.book.drawdown < 0.2

    cut = bars[bars.event_time < datetime(2008, 10, 10, tzinfo=UTC)]
    _, early = _run(context, cut, RiskSettings(sizing="on"))
    np.testing.assert_allclose(early, sized.iloc[: len(early)], rtol=1e-12)


def test_a_late_bar_is_neither_scored_nor_a_price_and_its_labels_wait_for_it(context, bars):
    """AAPL's bar arrives three days and a half late, between two bars of others."""
    start, end = datetime(2007, 3, 1, tzinfo=UTC), datetime(2007, 5, 1, tzinfo=UTC)
    known = bars[bars.event_time < end].reset_index(drop=True)
    days = known.event_time[known.event_time >= start].unique()
    late = (known.symbol == "AAPL") & (known.event_time == days[12])
    known["known_at"] += pd.Timedelta("5s")  # as long as the feed takes
    known.loc[late, "close"] *= 100
    known.loc[late, "known_at"] += pd.Timedelta("3D12h")
    arrived = known.known_at[late].iloc[0]

    bot, held = PaperBot(context, STRATEGY, known, start), {}
    for at, bar in known[known.event_time >= start].groupby("event_time", sort=True):
        bot.on_bar(bar, at.to_pydatetime())
        held[at] = bot.book.positions["AAPL"].value / bot.book.equity if "AAPL" in bot.book.positions else 0.0

    made = context.ledger.telemetry.predictions("volatility", start=start, end=end, as_of=end)[0]
    assert days[12] in set(made.event_time)
    assert {pd.Timedelta("5s")} == set(made.known_at - made.event_time)
    assert days[12] not in set(made.event_time[made.unit == "AAPL"])
    assert max(held.values()) < 1 / 3  # a price a hundred times as high was never heard of

    def matured(as_of):
        found = context.ledger.telemetry.matured("volatility", start=start, end=end, as_of=as_of.to_pydatetime())
        return found[found.unit == "AAPL"].set_index("event_time").known_at

    before, after = matured(arrived - pd.Timedelta("1s")), matured(days[-1])
    assert days[6] == before.index.max()  # its five bars were known; of bar 7 the fifth is the late one
    assert {arrived} == {after[day] for day in days[7:10]}
    assert days[-2] + pd.Timedelta("5s") == after[days[-7]] == after.max()  # told at the next bar
