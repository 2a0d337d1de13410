"""The paper bot with its targets sized, on the autumn of 2008, against a real registry and ledger."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from jobs import house as house_room
from jobs import promote, train
from jobs.paper import PaperBot, sizer
from mlops.io import feed
from mlops.learn import STRATEGIES
from mlops.settings import RiskSettings, Settings, TrainSettings

pytestmark = pytest.mark.slow
START, END = datetime(2008, 9, 1, tzinfo=UTC), datetime(2008, 11, 1, tzinfo=UTC)
STRATEGY = STRATEGIES["volatility"]
SYMBOLS = ("AAPL", "BAC", "GE", "JNJ", "WMT", "XOM")


@pytest.fixture(scope="module")
def bars():
    frame = feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=END).frame
    return frame[frame.symbol.isin(SYMBOLS)].reset_index(drop=True)


@pytest.fixture(scope="module")
def house(tmp_path_factory, bars):
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
        with house_room.opened(settings) as opened:
            ref = train.train(opened, STRATEGY, bars, as_of=datetime(2007, 1, 1, tzinfo=UTC), start=None)
            promote.promote(opened, ref, reason="first", actor="test", at=datetime(2007, 1, 2, tzinfo=UTC))
            yield opened


def _run(house, bars, risk):
    """The bot's book after each bar, and what it held as shares of equity."""
    bot = PaperBot(replace(house, settings=house.settings.model_copy(update={"risk": risk})), STRATEGY, bars, START)
    held = []
    for at, bar in bars[bars.event_time >= START].groupby("event_time", sort=True):
        bot.on_bar(bar, pd.Timestamp(str(at)).to_pydatetime())
        held.append({unit: p.value / bot.book.equity for unit, p in bot.book.positions.items()})
    return bot, pd.DataFrame(held)


def test_the_switch_is_off_by_default_and_takes_its_lines_from_the_settings():
    assert sizer(RiskSettings()) is None
    made = sizer(RiskSettings(sizing="on", volatility_target=0.1, max_weight=0.05))
    assert (0.1, 0.05, 60) == (made.limits.volatility_target, made.limits.max_weight, made.window)


def test_sized_targets_are_smaller_in_a_storm_and_know_nothing_that_comes_later(house, bars):
    _, plain = _run(house, bars, RiskSettings())
    bot, sized = _run(house, bars, RiskSettings(sizing="on"))
    assert bot.sizer.state.value != "unknown"  # warmed up on the bars before the start
    assert sized.abs().sum(axis=1).iloc[-1] < 0.6 * plain.abs().sum(axis=1).iloc[-1]
    assert bot.book.drawdown < 0.2

    cut = bars[bars.event_time < datetime(2008, 10, 10, tzinfo=UTC)]
    _, early = _run(house, cut, RiskSettings(sizing="on"))
    np.testing.assert_allclose(early, sized.iloc[: len(early)], rtol=1e-12)
