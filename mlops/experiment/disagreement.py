"""Where two arms decide differently, and who was right there. Counts for a reader, found after looking: no evidence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from mlops.experiment.arm import Arm
from mlops.stats import hits, log_losses

CONFIDENCE = (0.5, 0.55, 0.6, 0.7, 0.8, 1.0)  # of the challenger's likelier class
BIGGEST = 5
COLUMNS = ("rows", "differ", "champion_right", "challenger_right")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A decision is the likelier class. Tables have `COLUMNS`: rows, those decided differently, who was right there.

    `days`: the bars on which the arms' log-loss lay furthest apart, with `gain` (nats, positive where the challenger
    was better) beside the counts.
    """

    rows: int
    differ: int
    champion_right: int
    challenger_right: int
    by_unit: pd.DataFrame
    by_month: pd.DataFrame
    by_confidence: pd.DataFrame
    days: pd.DataFrame

    @property
    def share(self) -> float:
        """Share of the rows that were decided differently; NaN without rows."""
        return self.differ / self.rows if self.rows else float("nan")


def disagreement(champion: Arm, challenger: Arm) -> Disagreement:
    """Where the two decide differently, of the rows of both: by unit, by month, by confidence, and the biggest bars."""
    table = _rows(champion, challenger)
    total = {name: int(table[name].sum()) for name in COLUMNS}
    by_unit = _counted(table, table["unit"]).sort_values("differ", ascending=False, kind="stable")
    sure = pd.cut(table["confidence"], CONFIDENCE, right=False, include_lowest=True)
    by_month = _counted(table, pd.to_datetime(table["event_time"], utc=True).dt.strftime("%Y-%m"))
    # The bin that ends at 1 must hold the 1.
    labels = sure.cat.rename_categories(_labels()).fillna(_labels()[-1]) if len(table) else table["unit"]
    daily = _counted(table, table["event_time"])
    daily["gain"] = table.groupby("event_time")["gain"].mean()
    days = daily.loc[daily["gain"].abs().sort_values(ascending=False, kind="stable").index[:BIGGEST]]
    return Disagreement(
        rows=total["rows"],
        differ=total["differ"],
        champion_right=total["champion_right"],
        challenger_right=total["challenger_right"],
        by_unit=by_unit,
        by_month=by_month,
        by_confidence=_counted(table, labels),
        days=days,
    )


def _rows(champion: Arm, challenger: Arm) -> pd.DataFrame:
    """One row a prediction that both made."""
    columns = [
        pd.DataFrame({"p": arm["probability"], "label": arm["label"]}, index=arm.keys())
        for arm in (champion, challenger)
    ]
    both = columns[0].join(columns[1], how="inner", rsuffix="_challenger").reset_index()
    p, q, label = (both[name].to_numpy(dtype=np.float64) for name in ("p", "p_challenger", "label"))
    differ = (p >= 0.5) != (q >= 0.5)
    return both.assign(
        rows=1,
        differ=differ.astype(int),
        champion_right=(differ & (hits(p, label) > 0)).astype(int),
        challenger_right=(differ & (hits(q, label) > 0)).astype(int),
        confidence=np.maximum(q, 1 - q),
        gain=log_losses(p, label) - log_losses(q, label),
    )


def _labels() -> list[str]:
    return [f"{low:.2f} to {high:.2f}" for low, high in pairwise(CONFIDENCE)]


def _counted(table: pd.DataFrame, by: pd.Series) -> pd.DataFrame:
    return table.groupby(by, sort=True, observed=True)[list(COLUMNS)].sum()
