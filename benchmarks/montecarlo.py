"""What a simulation costs and how far it errs: `python -m benchmarks.montecarlo`.

10,000 paths x 252 bars x 20 units under a t copula with GARCH volatility, value and deepest fall of each path, one
thread; beside it the tutorial's way in numpy (`multivariate_normal`, `cumsum`; Gaussian, constant volatility) and
skfolio's vine copula (which draws single bars: its 10,000 x 252 are drawn bar after bar). Then VaR and ES at 99 % of a
linear book whose answer is known in closed form, 200 seeds each. CPU seconds, medians.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student
from skfolio.datasets import load_sp500_dataset
from threadpoolctl import threadpool_limits

from mlops.risk.stress.importance_sampling import tail_loss
from mlops.risk.stress.joint import elliptical, fit_joint
from mlops.risk.stress.montecarlo import simulate
from mlops.risk.stress.table import worst_windows
from mlops.stats import max_drawdown

PATHS, BARS, UNITS, HISTORY = 10_000, 252, 20, 2000
SEEDS, CONFIDENCE, DOF = 200, 0.99, 5.0
REPEATS = 7


def cpu(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median CPU seconds of a call, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return median(seconds)


def tutorial(covariance: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """As it stands in most of them."""
    drawn = np.random.default_rng(1).multivariate_normal(np.zeros(UNITS), covariance, (PATHS, BARS))
    value = np.exp(np.cumsum(drawn - np.diag(covariance) / 2, axis=1)) @ weights
    return max_drawdown(np.diff(value, axis=1, prepend=1.0) / np.hstack([np.ones((PATHS, 1)), value[:, :-1]]))


def vine(returns: NDArray[np.float64]) -> tuple[float, float]:
    """CPU seconds to fit skfolio's vine copula, and to draw one bar of all paths, times the bars."""
    from skfolio.distribution import VineCopula

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        fitted = VineCopula(log_transform=True, n_jobs=1, random_state=1).fit(returns)
        fit = time.process_time() - began
        draw = cpu(lambda: fitted.sample(n_samples=PATHS), 3)
    return fit, draw * BARS


def errors(dof: float, method: str, covariance: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, ...]:
    """Root mean squared error of VaR and ES in per cent of the closed form, and the milliseconds of a run."""
    law, spread, share = elliptical(covariance, dof), float(np.sqrt(weights @ covariance @ weights)), 1 - CONFIDENCE
    if np.isinf(dof):
        q = norm.ppf(share)
        known = np.array([-q, norm.pdf(q) / share]) * spread
    else:
        q, unit = student.ppf(share, dof), np.sqrt((dof - 2) / dof) * spread
        known = np.array([-q, student.pdf(q, dof) / share * (dof + q**2) / (dof - 1)]) * unit
    began = time.process_time()
    runs = [[e.value for e in tail_loss(law, weights, method=method, seed=s)] for s in range(SEEDS)]  # type: ignore[arg-type]
    each = (time.process_time() - began) / SEEDS
    var, es = 100 * np.sqrt(((np.array(runs) / known - 1) ** 2).mean(axis=0))
    return float(var), float(es), 1e3 * each


def main() -> None:
    prices = load_sp500_dataset()
    every = prices.pct_change().to_numpy()[1:]
    returns, weights = every[-HISTORY:], np.full(UNITS, 1 / UNITS)
    covariance = np.cov(returns, rowvar=False)
    law = fit_joint(returns)
    ours, gaussian = (
        cpu(lambda: simulate(law, weights, horizon=BARS, paths=PATHS)),
        fit_joint(returns, copula="gaussian"),
    )
    tails = {name: tail_loss(one, weights)[1].value for name, one in (("t", law), ("gaussian", gaussian))}
    fit, drawn = vine(returns)
    numbers = {
        "ours, t copula, GARCH": ours,
        "the same, Gaussian copula": cpu(lambda: simulate(gaussian, weights, horizon=BARS, paths=PATHS)),
        "its law, fitted": cpu(lambda: fit_joint(returns), 3),
        "numpy, tutorial, Gaussian": cpu(lambda: tutorial(covariance, weights), 3),
        "skfolio vine, fit": fit,
        "skfolio vine, draw": drawn,
        "worst windows of 33 years": cpu(lambda: worst_windows(every, weights)),
    }
    print(f"{PATHS:,} x {BARS} x {UNITS}; CPU seconds, one thread; Python {sys.version.split()[0]}\n")
    for name, seconds in numbers.items():
        print(f"{name:32s}{seconds:10.4f}")
    print(f"\n{'VaR and ES at 99 %, one bar':32s}{'VaR rmse %':>12s}{'ES rmse %':>12s}{'ms':>8s}")
    found = {}
    for kind, dof in (("normal", np.inf), ("t(5)", DOF)):
        for method in ("plain", "sobol", "importance"):
            found[kind, method] = errors(dof, method, covariance, weights)
            var, es, ms = found[kind, method]
            print(f"{kind + ', ' + method:32s}{var:12.3f}{es:12.3f}{ms:8.1f}")
    result = {
        "cpu_s": round(ours, 3),
        "var_rmse_pct": round(found["t(5)", "importance"][0], 4),
        "es_rmse_pct": round(found["t(5)", "importance"][1], 4),
        "var_rmse_pct_normal": round(found["normal", "importance"][0], 4),
        "es_rmse_pct_normal": round(found["normal", "importance"][1], 4),
        "var_rmse_pct_sobol": round(found["normal", "sobol"][0], 4),
        "var_rmse_pct_plain": round(found["t(5)", "plain"][0], 4),
        "es_gaussian_over_t": round(tails["gaussian"] / tails["t"], 3),
        "replay_ms": round(1e3 * numbers["worst windows of 33 years"], 2),
        "peers": {
            "numpy_tutorial_s": round(numbers["numpy, tutorial, Gaussian"], 3),
            "skfolio_vine_s": round(drawn, 1),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
