"""What a challenger must pass: each gate is one finding (OK: passed; UNKNOWN: not yet; ALERT: failed)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.experiment.plan import Plan
from mlops.stats import (
    SequentialResult,
    bootstrap_interval,
    confidence_sequence,
    dependent_t,
    evidence_path,
    max_drawdown,
    p_greater,
    sequential_test,
    srm_e_value,
    usual_drawdown,
)
from mlops.stats.dependent import MIN_TERMS
from mlops.types import Finding, Level

Floats = NDArray[np.float64]
LEAST_FOR_MONEY = 20  # bars before returns are said anything of


def paired_log_loss(difference: Floats, plan: Plan, least_bars: int = 0) -> Finding:
    """The verdict: mean gain of the challenger in log-loss, nats a bar.

    Nothing is proven at a look before `least_bars` (`mlops.experiment.events.enough_at`).

    Null: mean gain <= margin, error rate `plan.alpha` over all looks together (`mlops.stats.sequential_test`). OK:
    proven better; ALERT: proven worse, by the mirrored test without margin, each challenger at an error of its own: to
    set an equal one aside costs no money. `n_needed` counts bars. `p_now`: p-value of "no better", were this the
    only look: it proves nothing by itself.
    """
    better = _test(difference - plan.margin, plan, least_bars)
    worse = _test(-difference, replace(plan, arms=1, joined=()), least_bars)
    # Both can have crossed only when the truth changed in between; then neither is proven.
    undecided = better.crossed == worse.crossed
    level = Level.UNKNOWN if undecided else Level.OK if better.crossed else Level.ALERT
    result = worse if level is Level.ALERT else better
    now = float(p_greater(difference)) if difference.size >= MIN_TERMS else 1.0
    parameters = {**asdict(plan), **_told(result), "p_now": now}
    gain = float(difference.mean()) if difference.size else 0.0
    over = f", more than the margin of {plan.margin:g}" if plan.margin and level is Level.OK else ""
    note = f"{_verdict(level)}: log-loss gain {gain:+.4f} a bar over {result.n} bars{over}, {_plan(result, plan)}"
    if result.looks and least_bars > result.n:
        note += f"; the rarer label has not happened {plan.min_events:g} times independently yet"
    return Finding("paired_log_loss", gain, plan.margin, level, result.n, parameters, note=note)


def skill(gains: Floats, plan: Plan, least_bars: int = 0) -> Finding:
    """The challenger against the constant forecast, by the same plan: to be less bad than the champion is no skill."""
    test = _test(gains, plan, least_bars)
    level = Level.OK if test.crossed else Level.UNKNOWN
    words = "beats" if test.crossed else "is not proven to beat"
    note = f"the challenger {words} the constant forecast, {_plan(test, plan)}"
    return Finding("skill", float(gains.mean()) if gains.size else math.nan, 0.0, level, test.n, _told(test), note=note)


def samples(rows: int, bars: int, plan: Plan) -> Finding:
    """Paired predictions against the least number of them; ALERT where the plan ends before there can be so many."""
    needed, reachable = plan.min_samples, rows / bars * plan.horizon_bars if bars else float("inf")
    level = Level.OK if rows >= needed else Level.UNKNOWN if reachable >= needed else Level.ALERT
    note = f"{rows} paired predictions on {bars} bars, {needed} needed"
    if level is Level.ALERT:
        note += (
            f", and {plan.horizon_bars} bars give {reachable:.0f} at {rows / bars:.3g} a bar: this can never pass. "
            "Lower experiment.min_samples, or raise experiment.horizon_bars"
        )
    return Finding("samples", float(rows), float(needed), level, bars, {"n_needed": needed}, note=note)


def pairing(paired: int, rows: int, plan: Plan) -> Finding:
    """Share of the fuller arm's `rows` that both arms have."""
    share = paired / rows if rows else math.nan
    level = Level.UNKNOWN if not rows else Level.OK if share >= plan.least_paired else Level.ALERT
    note = f"{paired} of {rows} rows have a partner"
    return Finding("pairing", share, plan.least_paired, level, paired, note=note)


def drawdown(returns: pd.DataFrame, plan: Plan, rng: np.random.Generator) -> Finding:
    """Non-inferiority: the challenger's book does not fall deeper than the champion's by more than a margin.

    Null: the deepest fall over as many bars exceeds the champion's by more than the margin: `drawdown_margin` of
    equity, or what a book of `drawdown_volatility` more volatility than the champion's usually falls deeper over as
    many bars (`usual_drawdown`), whichever is more. OK where the upper bound of the excess lies under it; ALERT where
    the excess itself lies over it. The bound is a paired stationary bootstrap percentile; a drawdown is not smooth, so
    that its rate is not exact: docs/ab.md has what was measured.

    Parameters
    ----------
    returns : DataFrame
        Columns `champion`, `challenger`: simple returns of both books on the same bars.
    """
    champion, challenger = (returns[name].to_numpy(dtype=np.float64) for name in ("champion", "challenger"))
    deepest, its = float(max_drawdown(champion)), float(max_drawdown(challenger))
    bound = bootstrap_interval(
        [champion, challenger],
        lambda x, y: max_drawdown(y) - max_drawdown(x),
        rng=rng,
        method="percentile",
        alpha=2 * (1 - plan.drawdown_confidence),
    ).estimate
    same = champion.size > 0 and bool((champion == challenger).all())  # the same book: nothing to draw
    margin = allowed_drawdown(champion, plan)
    level = Level.UNKNOWN
    if its - deepest > margin:
        level = Level.ALERT
    elif same or (bound.known and bound.high <= margin):
        level = Level.OK
    note = f"the challenger's book fell {its:.1%} from its peak, the champion's {deepest:.1%}"
    if bound.known:
        note += (
            f"; with {plan.drawdown_confidence:.0%} confidence at most {max(bound.high, its - deepest):.1%} deeper,"
            f" {margin:.1%} allowed"
        )
    parameters = {"drawdown_champion": deepest, "drawdown_challenger": its, "upper": bound.high}
    return Finding("drawdown", its - deepest, margin, level, champion.size, parameters, note=note)


def allowed_drawdown(returns: Floats, plan: Plan) -> float:
    """How much deeper a challenger's book may fall than one of such returns: the margin of `drawdown`."""
    volatility = float(returns.std()) if returns.size else 0.0
    wild = (1 + plan.drawdown_volatility) * volatility
    usual, wilder = (usual_drawdown(v, returns.size) for v in (volatility, wild))
    return max(plan.drawdown_margin, wilder - usual)


@dataclass(frozen=True, slots=True)
class ArmUnits:
    """Units assigned to each version, and the share of units planned for each; one row an epoch of weights."""

    versions: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]


def srm(assigned: ArmUnits, plan: Plan) -> Finding:
    """Sample-ratio mismatch: units traded by each arm against the plan, valid at every look.

    Null: each unit fell to an arm with its planned chance. ALERT where the e-value reaches `1 / srm_alpha`
    (`mlops.stats.srm_e_value`); `value` is the anytime-valid p-value.
    """
    if not assigned.counts:
        return Finding("srm", 1.0, plan.srm_alpha, Level.OK, 0, note="no unit was assigned yet")
    e = srm_e_value(assigned.counts, assigned.weights)
    p = min(1.0, 1 / e)
    level = Level.OK if p > plan.srm_alpha else Level.ALERT
    counts, weights = (np.asarray(rows, dtype=np.float64) for rows in (assigned.counts, assigned.weights))
    planned = (counts.sum(axis=1, keepdims=True) * weights / weights.sum(axis=1, keepdims=True)).sum(axis=0)
    shares = [
        f"v{version} trades {n:.0f} units, {want:.1f} planned"
        for version, n, want in zip(assigned.versions, counts.sum(axis=0), planned, strict=True)
    ]
    return Finding("srm", p, plan.srm_alpha, level, int(counts.sum()), {"e_value": e}, note="; ".join(shares))


def gain_interval(difference: Floats, plan: Plan) -> Finding:
    """The gain, with an interval that holds at every bar at once, however often somebody looks. Shown, not a gate.

    Null of its e-value: mean gain <= margin (`mlops.stats.confidence_sequence`). OK: above the margin; ALERT: below 0.
    """
    gain = confidence_sequence(difference, alpha=2 * plan.alpha, margin=plan.margin, min_n=plan.first)
    level = Level.OK if gain.lower > plan.margin else Level.ALERT if gain.upper < 0 else Level.UNKNOWN
    parameters = {"lower": gain.lower, "upper": gain.upper, "e_value": gain.e_value, "n_needed": gain.n_needed}
    note = f"at least {plan.first} bars needed, {gain.n} so far"
    if gain.upper < np.inf:
        needed = "" if gain.n_needed is None else f"; {gain.n_needed} bars would decide at this rate"
        note = f"gain {gain.lower:+.4f} to {gain.upper:+.4f} a bar at every look ({1 - 2 * plan.alpha:.1%}){needed}"
    return Finding("gain_interval", gain.estimate, plan.margin, level, gain.n, parameters, note=note)


def waiting(returns: pd.DataFrame, proof: Finding, plan: Plan) -> Finding:
    """What it is estimated to cost to wait for the verdict: return forgone by the champion's book until then.

    `value` is a fraction of equity, positive where the challenger's book earns more; its interval is that of the
    mean difference a bar (EWC t). It decides nothing: it tells a person what patience costs.
    """
    needed = proof.params.get("n_needed") or plan.horizon_bars
    bars = max(0, int(needed) - proof.n)
    difference = (returns["challenger"] - returns["champion"]).to_numpy(dtype=np.float64)
    if difference.size < LEAST_FOR_MONEY or np.ptp(difference) == 0:
        note = f"{difference.size} bars of both books, {LEAST_FOR_MONEY} that differ needed to say what waiting costs"
        return Finding("waiting", math.nan, 0.0, Level.UNKNOWN, difference.size, {"bars": bars}, note=note)
    mean = dependent_t(difference).effect
    value, low, high = (float(bars * x) for x in (mean.value, mean.low, mean.high))
    note = f"waiting {bars} more bars forgoes an estimated {value:+.2%} of equity (95 %: {low:+.2%} to {high:+.2%})"
    if proof.level is not Level.UNKNOWN:
        note = "nothing to wait for: the paired test has decided"
    parameters: Mapping[str, float] = {"bars": bars, "low": low, "high": high}
    return Finding("waiting", value, 0.0, Level.OK, difference.size, parameters, note=note)


def _test(x: Floats, plan: Plan, least_bars: int) -> SequentialResult:
    """The mean of `x` > 0, by the plan's kind of evidence."""
    if plan.evidence == "anytime":
        return _anytime(x[: plan.horizon_bars], plan, least_bars)
    return sequential_test(
        x,
        horizon=plan.horizon_bars,
        look_every=plan.look_every,
        alpha=plan.alphas(plan.looks),
        power=plan.power,
        min_n=plan.min_bars,
        least_n=least_bars,
    )


def _anytime(x: Floats, plan: Plan, least_bars: int) -> SequentialResult:
    """The same at every bar, without a plan of looks: proven once the e-value reached 1 / alpha."""
    first, n = plan.first, x.size
    if n < first:
        return SequentialResult(n, 0, float(x.mean()) if n else 0.0, 1.0, 0.0, False, None, None, False)
    path = evidence_path(x, alpha=plan.alpha, min_n=first)  # the e-value does not depend on alpha
    alphas = plan.alphas(path.rows.tolist())
    proven = np.flatnonzero((path.e_value >= 1 / alphas) & (path.rows >= least_bars))
    crossed_at = int(path.rows[proven[0]]) if proven.size else None
    at = crossed_at or n
    ahead = crossed_at or confidence_sequence(x, alpha=2 * plan.alpha, min_n=first).n_needed
    estimate, p = float(path.estimate[at - 1]), min(1.0, 1 / float(path.e_value[at - 1]))
    reachable = ahead is not None and estimate > 0 and ahead <= plan.horizon_bars
    over = n >= plan.horizon_bars
    return SequentialResult(
        n,
        n - first + 1,
        estimate,
        p,
        float(alphas[at - 1]),
        crossed_at is not None,
        crossed_at,
        ahead if reachable else None,
        over,
    )


def _told(test: SequentialResult) -> dict[str, float | int | bool | None]:
    return {
        "p": test.p_greater,
        "nominal": test.nominal,
        "looks": test.looks,
        "crossed_at": test.crossed_at,
        "n_needed": test.n_needed,
        "finished": test.finished,
    }


def _verdict(level: Level) -> str:
    return {Level.OK: "proven better", Level.ALERT: "proven worse"}.get(level, "not enough evidence")


def _plan(test: SequentialResult, plan: Plan) -> str:
    if test.crossed:
        return f"decided at bar {test.crossed_at} (p {test.p_greater:.2g}, limit {test.nominal:.2g})"
    if test.finished:
        return f"finished at {plan.horizon_bars} bars without proof"
    if test.n_needed is None:
        return f"more than {plan.horizon_bars} bars needed at this rate"
    return f"about {test.n_needed} bars needed at this rate"
