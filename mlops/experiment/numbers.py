"""The numbers of an account under names that a tracking server takes: what the report shows, as metrics."""

from __future__ import annotations

from math import isfinite

from mlops.experiment.summary import Summary
from mlops.stats import Estimate


def numbers(summary: Summary) -> dict[str, float]:
    """Every finite number of the report.

    `arm.v3.accuracy`, with `.low` and `.high`; `gain.accuracy.v3` likewise (positive where the challenger is better);
    `p.accuracy.mcnemar.v3` with `p_adjusted` and `rate` (what its 5 % is); `tries.deflated` and its like.
    """
    values: dict[str, float] = {"bars": summary.bars, "rows": summary.rows, "disagreement": summary.disagreement.share}
    for version, estimates in summary.table.values.items():
        for name, estimate in estimates.items():
            values |= _ends(f"arm.v{version}.{name}", estimate)
    for test in summary.tests:
        place = f"{test.metric}.{test.method}.v{test.challenger}"
        values |= {
            f"p.{place}": test.test.p_value,
            f"p_adjusted.{place}": test.p_adjusted,
            f"rate.{place}": test.rate,
        }
        if test.method == "ewc":
            values |= _ends(f"gain.{test.metric}.v{test.challenger}", test.gain)
    tries = summary.tries
    values |= {"tries.n": tries.tried, "tries.ratio": tries.ratio, "tries.luck": tries.luck}
    values |= {"tries.single": tries.single, "tries.deflated": tries.deflated}
    if tries.overfitting is not None:
        values["tries.pbo"] = tries.overfitting.pbo
    if tries.superiority is not None:
        values["tries.spa"] = tries.superiority.p_value
    values |= {"peeking": summary.peeking, "n_needed": float(summary.answer.n_needed or 0)}
    return {name: float(value) for name, value in values.items() if isfinite(value)}


def _ends(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
