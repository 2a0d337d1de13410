"""Summary of one comparison: every number that its report shows, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.experiment.answer import Answer, Facts, answer
from mlops.experiment.arm import Arm, Floats, arms_of
from mlops.experiment.bands import EquityBands, equity_bands
from mlops.experiment.battery import MetricTest, batteries, peeking_rate
from mlops.experiment.comparison import Comparison
from mlops.experiment.disagreement import Disagreement, disagreement
from mlops.experiment.methods import pair_of
from mlops.experiment.metrics import METRICS, Metric, MetricTable, measure
from mlops.experiment.multiple_testing import Tries, summary_of_tries
from mlops.experiment.plan import Plan
from mlops.stats import (
    Estimate,
    EvidencePath,
    decisive_gains,
    dependent_t,
    evidence_path,
    look_levels,
)
from mlops.types import Decision, Finding

TESTED = ("log_loss", "accuracy", "brier", "return_per_trade", "sharpe", "turnover")
UNTESTED = {
    "auc": "a rank over all rows, no mean over bars",
    "drawdown": "the worst point of a path: no test holds its level; the gate is a guard",
    "latency": "a 99th percentile of scorings, not of bars",
}


@dataclass(frozen=True, slots=True)
class Boundary:
    """Each planned look up to now: bars, the mean gain so far, and the gains that decide, for better and for worse."""

    bars: tuple[int, ...]
    mean: Floats
    better: Floats
    worse: Floats


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that the report of one comparison shows; arms by version, the champion first.

    `others`: further versions that scored (nearly) all of the same rows. `late`: those that scored some, with their
    rows; they are in no table. `evidence`: the confidence sequence of the mean gain after each of the `times`.
    """

    comparison: Comparison
    answer: Answer
    findings: tuple[Finding, ...]
    decision: Decision
    arms: Mapping[int, Arm]
    others: tuple[int, ...]
    late: Mapping[int, int]
    rows: int
    units: int
    table: MetricTable
    tests: tuple[MetricTest, ...]
    peeking: float
    times: pd.Index
    gain: Floats
    profit: Estimate
    evidence: EvidencePath
    boundary: Boundary
    bands: EquityBands
    disagreement: Disagreement
    tries: Tries

    @property
    def bars(self) -> int:
        """Bars on which every arm predicted and that have matured."""
        return len(self.times)

    @property
    def champion(self) -> Arm:
        """The champion's arm."""
        return self.arms[self.comparison.champion]

    @property
    def challenger(self) -> Arm:
        """The challenger's arm: the one that the verdict is about."""
        return self.arms[self.comparison.challenger]


def summarise(
    comparison: Comparison,
    matured: pd.DataFrame,
    books: Mapping[int, pd.DataFrame],
    *,
    findings: Sequence[Finding],
    decision: Decision,
    tried: int,
    rng: np.random.Generator,
    scorings: Mapping[int, Floats] | None = None,
) -> Summary:
    """Summarise a comparison that has ended or still runs; with too few bars its answer is UNKNOWN.

    Parameters
    ----------
    matured : DataFrame
        Rows of all versions since the comparison began, known at `comparison.as_of`; columns `version`, `unit`,
        `event_time`, `probability`, `label`, and any others that the metrics read.
    books : mapping of version to DataFrame
        As `arms_of`; of the champion, the challenger and every version that scored the same rows.
    findings : sequence of Finding
        The gates, as `compare` found them; `decision` is what the policy made of them. Neither is computed anew here.
    tried : int
        Challengers of this model ever registered.
    scorings : mapping of version to array, optional
        As `arms_of`; without one of every version there is no latency.

    Raises
    ------
    DataError
        `matured` or a book breaks its contract.
    """
    versions, late = _versions(matured, comparison)
    if missing := [version for version in versions if version not in books]:
        raise DataError(f"books must hold every version compared, got none of {missing}. Make one of its matured rows.")
    rows = _common(matured, versions)
    times = pd.DatetimeIndex(rows["event_time"].unique()).sort_values()
    on_bars = {version: books[version].loc[books[version].index.intersection(times)] for version in versions}
    arms = arms_of(rows, on_bars, scorings=scorings, versions=versions)
    champion, *challengers = (arms[version] for version in versions)
    plan, looks = comparison.plan, _looks(comparison.plan, len(times))
    table, gain = measure(arms), _gain(champion, challengers[0])
    facts = Facts(
        comparison=comparison,
        findings=findings,
        decision=decision,
        losses=(table.values[comparison.champion]["log_loss"], table.values[comparison.challenger]["log_loss"]),
        gain=dependent_t(gain).effect,
        profit=dependent_t(*_aligned(challengers[0].returns(), champion.returns())).effect,
        bars=len(times),
        rows=len(champion.bar),
    )
    return Summary(
        comparison=comparison,
        answer=answer(facts),
        findings=tuple(findings),
        decision=decision,
        arms=arms,
        others=versions[2:],
        late=late,
        rows=len(champion.bar),
        units=len(set(champion.unit)),
        table=table,
        tests=batteries(_tested(table), champion, challengers, rng=rng, looks=looks),
        peeking=peeking_rate(looks, rng=rng),
        times=times,
        gain=gain,
        profit=facts.profit,
        evidence=evidence_path(gain, alpha=2 * plan.alpha, margin=plan.margin, min_n=plan.first),
        boundary=_boundary(gain, plan, looks),
        bands=equity_bands(champion, {arm.version: arm for arm in challengers}, rng=rng),
        disagreement=disagreement(champion, challengers[0]),
        tries=summary_of_tries(champion, challengers, tried=tried, rng=rng),
    )


def _versions(matured: pd.DataFrame, compared: Comparison) -> tuple[tuple[int, ...], dict[int, int]]:
    """Champion, challenger, whoever else scored nearly all of their rows; and who came too late for that."""
    pair = (compared.champion, compared.challenger)
    keys = matured.set_index(["event_time", "unit"])["version"]
    both = keys[keys == pair[0]].index.intersection(keys[keys == pair[1]].index)
    shares = {int(v): len(keys[keys == v].index.intersection(both)) for v in set(keys) if v not in pair}
    enough = compared.plan.least_paired * len(both)
    others = sorted(version for version, rows in shares.items() if rows >= enough and rows)
    late = {version: rows for version, rows in sorted(shares.items()) if version not in others}
    return (*pair, *others), late


def _common(matured: pd.DataFrame, versions: Sequence[int]) -> pd.DataFrame:
    """The rows that every one of the versions has."""
    rows = matured[matured["version"].isin(versions)]
    having = rows.groupby(["event_time", "unit"])["version"].transform("nunique")
    return rows[having == len(versions)]


def _tested(table: MetricTable) -> list[Metric]:
    return [METRICS[name] for name in TESTED if name not in table.absent]


def _aligned(first: pd.Series, second: pd.Series) -> tuple[Floats, Floats]:
    both = pd.concat([first, second], axis=1, join="inner").to_numpy(dtype=np.float64)
    return both[:, 0], both[:, 1]


def _gain(champion: Arm, challenger: Arm) -> Floats:
    """Log-loss a bar by which the challenger is better, in nats."""
    pair = pair_of(METRICS["log_loss"], champion, challenger)
    return pair.x - pair.y


def _looks(plan: Plan, bars: int) -> tuple[int, ...]:
    """Bars at which the evidence was judged so far."""
    return tuple(n for n in plan.looks if n <= bars)


def _boundary(gain: Floats, plan: Plan, looks: Sequence[int]) -> Boundary:
    mean = np.array([float(gain[:n].mean()) for n in looks])
    sides = ((gain, plan), (-gain, replace(plan, arms=1, joined=())))  # as `gates.paired_log_loss`
    better, worse = (_far(of, rule, looks) for of, rule in sides)
    return Boundary(tuple(looks), mean, plan.margin + better, -worse)


def _far(gain: Floats, plan: Plan, looks: Sequence[int]) -> Floats:
    """How far from zero the mean must be at each look."""
    if plan.evidence == "anytime":
        # One side of an interval at twice the error reaches zero when the e-value reaches 1 / alpha.
        alphas = plan.alphas(looks)
        paths = {a: evidence_path(gain, alpha=2 * a, min_n=plan.first, at=looks) for a in set(alphas.tolist())}
        return np.array([(paths[a].estimate - paths[a].lower)[look] for look, a in enumerate(alphas.tolist())])
    levels = look_levels(plan.looks, plan.horizon_bars, plan.alphas(plan.looks), plan.power)
    return decisive_gains(gain, looks, levels)
