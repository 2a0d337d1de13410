"""Champion against challenger, and the watch on a new champion: once a week, on the bars that both have matured.

Load: the matured predictions of both since the comparison began. Compute: gates and shadow books. Log: a run with the
verdict, its reasons and plots, and a point on each version's live run. Act: promote, hold or roll back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure

from jobs.house import House, moment, run
from mlops import policy
from mlops.experiment import Trial, ab, assign, curve_metrics
from mlops.experiment.curve import equity_curve
from mlops.experiment.shadow import BARS_PER_YEAR
from mlops.io import plots, record
from mlops.io.ledger import Experiment
from mlops.learn import STRATEGIES
from mlops.monitor import accuracy_change
from mlops.types import Decision, Finding, ModelRef, Report, Role, Verdict
from registry_hooks import apply

LEAST_FOR_SHARPE = 60  # bars: an annual figure from a few days is noise that looks like news
PLOT_EVERY = 4  # weekly looks between two sets of plots; a verdict always has its own


def at(house: House, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """Judge every open comparison of `model`; whoever waits for a free place gets it."""
    apply.next_in_line(house.registry, model, house.act("jobs.compare", as_of))
    decisions: list[Decision] = []
    for trial in house.ledger.open_experiments(model):
        if _stands(house, trial) and trial.kind != "shadow":
            # The run that launched the job takes the first verdict; each other one has a run of its own.
            decisions.append(judge(replace(house, run_id=None) if decisions else house, trial, as_of))
    return decisions


def judge(house: House, trial: Experiment, as_of: datetime) -> Decision:
    """One look at one comparison."""
    champion = ModelRef(trial.model, trial.champion, Role.CHAMPION)
    other = ModelRef(trial.model, trial.challenger, Role.PREVIOUS if trial.kind == "watch" else Role.CHALLENGER)
    matured = house.ledger.matured(trial.model, start=trial.started_at, end=as_of, as_of=as_of)
    both = {v: matured[matured.version == v] for v in (trial.champion, trial.challenger)}
    curves = {v: _equity(trial.model, rows) for v, rows in both.items()}
    findings = _findings(house, trial, matured, curves)
    if trial.kind == "watch":
        findings = (*findings, _collapse(house, champion, both[trial.champion]))
    report = Report(champion, as_of, findings)
    decision = policy.on_watch(report, other) if trial.kind == "watch" else policy.on_comparison(report, other)
    _live(house, (champion, other), trial, both, as_of)
    figures = _figures(trial, matured, curves, decision)
    tags = {"kind": trial.kind, "against": str(other)}
    house.conclude("compare", report, decision, figures=figures, tags=tags)
    _end(house, trial, other, findings, decision, as_of)
    return decision


def plan(house: House, kind: str) -> Trial:
    """The plan of a comparison by the settings: the shipped defaults are the shipped gates."""
    s = house.settings.experiment
    common: dict[str, Any] = {"look_every": s.look_every, "min_bars": s.min_bars, "split": s.split}
    if kind == "watch":  # alpha spent evenly, for a bad champion costs money every day; the chart has the other half
        return Trial((1 + s.watch_confidence) / 2, 1, s.watch_bars, power=1.0, **common)
    return Trial(s.confidence, s.min_samples, s.horizon_bars, **common)


def _stands(house: House, trial: Experiment) -> bool:
    return house.ledger.champion(trial.model) == trial.champion


def _equity(model: str, rows: pd.DataFrame) -> pd.Series:
    strategy = STRATEGIES[model]
    return equity_curve(rows, strategy.position, strategy.cost_bps / 1e4)


def _findings(
    house: House, trial: Experiment, matured: pd.DataFrame, curves: Mapping[int, pd.Series]
) -> tuple[Finding, ...]:
    units = [str(unit) for unit in matured.unit.unique()]
    stays = assign(units, salt=trial.salt, split=trial.split).sum() if trial.kind == "compare" else len(units)
    return ab.compare(
        matured,
        champion=trial.champion,
        challenger=trial.challenger,
        settings=plan(house, trial.kind),
        base_rate=house.bundle(ModelRef(trial.model, trial.challenger)).meta["base_rate"],
        equity_champion=curves[trial.champion].to_numpy(),
        equity_challenger=curves[trial.challenger].to_numpy(),
        units_traded=(int(stays), int(len(units) - stays)) if trial.kind == "compare" else None,
    )


def _collapse(house: House, champion: ModelRef, rows: pd.DataFrame) -> Finding:
    """The new champion's accuracy against what it was out of fold, at half of the watch's chance of a false alarm."""
    s = house.settings.experiment
    return accuracy_change(
        house.bundle(champion).reference(),
        rows,
        false_alarms_per_year=(1 - s.watch_confidence) / 2 * BARS_PER_YEAR / s.watch_bars,
        rng=np.random.default_rng(house.settings.train.seed),
    )


def _live(
    house: House, arms: tuple[ModelRef, ...], trial: Experiment, both: Mapping[int, pd.DataFrame], as_of: datetime
) -> None:
    """The same metric names for every version, tied to its model: MLflow's Models table puts them side by side."""
    for arm in arms:
        rows = both[arm.version]
        if rows.empty:
            continue
        book = curve_metrics(_equity(trial.model, rows).to_numpy())
        metrics = {f"live.{k}": v for k, v in ab.arm_metrics(rows, arm.version).items()}
        metrics |= {"live.max_drawdown": book.max_drawdown, "live.n": float(len(rows))}
        if rows.event_time.nunique() >= LEAST_FOR_SHARPE:
            metrics["live.sharpe"] = book.sharpe
        record.LiveRun(house.client, arm, trial.id, trial.started_at).log(metrics, as_of)


def _figures(
    trial: Experiment, matured: pd.DataFrame, curves: Mapping[int, pd.Series], decision: Decision
) -> dict[str, Figure]:
    daily = ab.pairs(matured, champion=trial.champion, challenger=trial.challenger)["difference"]
    if daily.empty or (decision.verdict is Verdict.HOLD and (len(daily) // 5) % PLOT_EVERY):
        return {}
    pair = f"{trial.model}: v{trial.challenger} against champion v{trial.champion}"
    named = {f"v{version}": curve for version, curve in curves.items()}
    return {
        "paired_log_loss": plots.paired_evidence(daily, pair, decision.verdict.value.upper()),
        "equity": plots.equity(named, f"{trial.model}: shadow books"),
    }


def _end(
    house: House, trial: Experiment, other: ModelRef, findings: tuple[Finding, ...], decision: Decision, at: datetime
) -> None:
    """Close what is decided: proven worse, or the horizon reached without proof."""
    verdict = next(f for f in findings if f.name == "paired_log_loss")
    over = bool(verdict.params["finished"]) or (verdict.level == "alert" and trial.kind == "compare")
    if decision.verdict is not Verdict.HOLD or not over:
        return
    if trial.kind == "compare":
        apply.retire(house.registry, other, "hold", at)
    else:
        house.ledger.close_experiment(trial.id, "passed", at)


def main(model: str = "volatility", as_of: str = "now") -> None:
    run("compare", lambda house: at(house, model, pd.DataFrame(), moment(as_of)))


if __name__ == "__main__":
    typer.run(main)
