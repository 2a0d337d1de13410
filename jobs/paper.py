"""The paper bot: a real bot's life on paper. Bars in; features, scores, targets, fills and matured outcomes out."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd

from jobs.house import House
from mlops.experiment.shadow import Book
from mlops.learn import Strategy, features, labels
from registry_hooks.bot import Bot

BOOK = "paper"  # the name of the traded book in the ledger


class PaperBot:
    """One strategy on paper.

    Parameters
    ----------
    history : frame with BAR_COLUMNS
        Bars before the first one that is traded; they warm the features up.
    """

    def __init__(self, house: House, strategy: Strategy, history: pd.DataFrame) -> None:
        self.house, self.strategy, self.model = house, strategy, strategy.name
        self._history = history[history.event_time >= _first_needed(history, strategy)]
        self.stream = features.Stream(strategy)
        for _, bar in self._history.groupby("event_time", sort=True):
            self.stream.update(bar)
        self.bot = Bot(
            self.model,
            house.registry,
            features=lambda bars: features.last_row(strategy, bars),
            names=strategy.feature_names,
            poll_s=house.settings.service.poll_s,
        )
        self.book = Book()
        self._fills: list[pd.DataFrame] = []

    def on_bar(self, bar: pd.DataFrame, at: datetime) -> int | None:
        """One closed bar of every symbol; the new champion's version where the models were swapped before it."""
        swapped = self.bot.boundary(at)
        self._mature(bar)
        units, values = self.stream.update(bar)
        if len(units):
            self._trade(bar, at, units, values)
        return swapped
