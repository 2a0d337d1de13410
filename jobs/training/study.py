"""What a version is learned from: rows that were known, audited for leaks, and how they are split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import structlog

from jobs.monitoring import bar_frequency
from mlops.errors import DataError
from mlops.learn import Strategy, features, labels, leaks, splits
from mlops.learn.learner import Learner, Table
from mlops.learn.learners import DEFAULT, learner_of
from mlops.monitor import newest_bars
from mlops.settings import TrainSettings

log = structlog.get_logger()
HELD_UP, FEW = 3, 0.01  # times the usual wait for a label; a share of labels that is worth a word
# The newest out-of-fold rows that travel with the bundle, whichever are more: ten windows of the monitor want 600 bars.
REFERENCE_ROWS, REFERENCE_BARS = 20_000, 1_000
# Settings by which nothing is learned: the same study goes on with others. The learner counts by its name, below.
NOT_OF_THE_STUDY = {"learner", "max_auc", "trusted"}


@dataclass(frozen=True)
class Study:
    """Rows to learn from, known at `as_of`, their folds, and the digest that names them."""

    strategy: Strategy
    rows: pd.DataFrame  # event_time, unit, features, label, value, known_at (of the label)
    table: Table
    folds: Sequence[splits.Fold]  # of the search
    held_out: Sequence[splits.Fold]  # of the newest bars, which nothing is chosen by; none where history is too short
    bars_needed: int  # labelled bars from which on any are held out
    digest: str
    bars: pd.DataFrame  # the newest ones, for the probe
    learner: Learner

    @property
    def window(self) -> tuple[datetime, datetime]:
        times = self.rows["event_time"]
        return times.iloc[0].to_pydatetime(), times.iloc[-1].to_pydatetime()


def prepare(s: TrainSettings, strategy: Strategy, known: pd.DataFrame, start: datetime | None) -> Study:
    """Rows, folds and digest, from bars that are all known, of units that close together."""
    delay = timedelta(seconds=s.bar_delay_s)
    bar_frequency.together(strategy.name, known.rename(columns={"symbol": "unit"}))
    features.refuse_late(known, delay)
    on_time = features.in_time(known, delay)
    leaks.audit(strategy, known, np.random.default_rng(s.seed), delay=delay)
    labelled = labels.table(strategy, known)
    _tell_held_up(strategy, labelled)
    rows = features.table(strategy, on_time).merge(labelled, on=["event_time", "unit"])
    rows = rows if start is None else rows[rows["event_time"] >= start].reset_index(drop=True)
    bars = rows["event_time"].nunique()
    if bars < s.min_bars:
        raise DataError(f"training must have {s.min_bars} labelled bars, got {bars}. Give more history.")
    keep = newest_bars(rows, rows=REFERENCE_ROWS, bars=REFERENCE_BARS)["event_time"].nunique()
    share, least = s.held_out_share, s.held_out_bars
    scheme = splits.Scheme(s.folds, strategy.horizon, s.embargo_bars, share, least, max(least, keep), s.min_bars)
    split = scheme.split(rows)
    table = Table(rows[list(strategy.feature_names)].to_numpy(np.float32), rows["label"].to_numpy(np.float64))
    key = hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes())
    key.update(json.dumps([strategy.name, strategy.feature_names, s.model_dump(exclude=NOT_OF_THE_STUDY)]).encode())
    key.update(b"" if s.learner == DEFAULT else s.learner.encode())  # studies on disk are older than other learners
    newest = on_time[on_time["event_time"] > on_time["event_time"].drop_duplicates().iloc[-strategy.lookback - 3]]
    needed, digest = scheme.bars_needed, key.hexdigest()
    return Study(strategy, rows, table, split.search, split.held_out, needed, digest, newest, learner_of(s.learner))


def _tell_held_up(strategy: Strategy, labelled: pd.DataFrame) -> None:
    """Say how many labels bars hold up that arrived or were revised late: no fold before that learns from them."""
    waited = labelled["known_at"] - labelled["event_time"]
    late = waited > HELD_UP * waited.median()
    if late.mean() > FEW:
        first = labelled.loc[late, "event_time"].min()
        log.warning("labels wait for late bars", strategy=strategy.name, labels=int(late.sum()), first=str(first))
