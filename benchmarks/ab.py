"""What an A/B decision costs when nothing is there, and how soon it sees what is: ours, and the rules that others use.

False promotion: an equal challenger beside its champion for a year of daily bars, looked at every bar; the share that
is ever called better, in the series of `tests/calibration/worlds.py`. Two decisions are shipped, the planned test
(`sequential_test`, settings of `Trial`) and the open-ended one (`confidence_sequence`); the worse of both counts.
Power: paired hits, two points better, differing on three rows of ten. `python -m benchmarks.ab` (`--quick` for fewer
runs; `--growthbook PYTHON` names an interpreter that has gbstats, which is otherwise installed into a folder that is
thrown away, or, without a network, left out).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import venv
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binom, norm
from scipy.stats import t as student

from mlops import stats
from mlops.experiment import Plan
from mlops.stats.anytime import FIRST
from mlops.stats.sequential import DESIGN_SHARE
from tests.calibration.worlds import WORLDS

SEED, YEAR, CHUNK = 20261124, 252, 1000
GAIN, DISCORDANCE, PAIRS, LOOKS = 0.02, 0.3, 6000, 100
GROWTHBOOK, TUNED = "gbstats==0.8.0", 126.0  # tuned for the middle of the year; its default, 5,000 rows, is for clicks
WIN_RATE, TRADES, POINTS = 0.55, 100, 0.03
Rows = np.ndarray
Rates = dict[str, dict[str, float]]


def standardised(x: Rows, rows: range | tuple[int, ...]) -> Rows:
    """The cautious EWC t at each look, as its normal quantile; shape (looks, runs). Both decisions read only this."""
    out = np.empty((len(rows), len(x)))
    for i, n in enumerate(rows):
        t = stats.ewc_statistic(x[:, :n], cautious=True)[1]
        out[i] = np.sign(t) * norm.isf(np.clip(student.sf(np.abs(t), stats.ewc_dof(n)), 1e-300, 0.5))
    return out


def decided(x: Rows, looks: tuple[int, ...], alpha: float, power: float = 3.0) -> Rows:
    """Rows at which `sequential_test` proves the mean positive, for many series at once; past the horizon: never."""
    levels = np.asarray(stats.nominal_levels(looks, looks[-1], DESIGN_SHARE * alpha, power))
    over = standardised(x, looks) >= norm.isf(levels)[:, None]
    return np.where(over.any(axis=0), np.asarray(looks)[over.argmax(axis=0)], looks[-1] + 1)


def the_same_as_shipped(x: Rows) -> None:
    """The forms for many series say what the shipped functions say; else there is nothing to report."""
    looks = stats.look_times(horizon=YEAR, look_every=5)
    at, z = decided(x, looks, 0.05), standardised(x, range(FIRST, YEAR + 1))
    for i, row in enumerate(x):
        assert stats.sequential_test(row, horizon=YEAR, look_every=5).crossed == bool(at[i] <= YEAR)
        ours = np.exp(stats.mixture_log_e(z[:, i], np.arange(FIRST, YEAR + 1)))
        assert np.allclose(stats.evidence_path(row).e_value[FIRST - 1 :], ours)


def planned(x: Rows) -> Rows:
    plan = Plan()
    looks = stats.look_times(horizon=plan.horizon_bars, look_every=plan.look_every, min_n=plan.min_bars)
    return decided(x, looks, 1 - plan.confidence, plan.power) <= YEAR


def anytime(x: Rows) -> Rows:
    return robbins(standardised(x, range(FIRST, YEAR + 1)))


def robbins(z: Rows) -> Rows:
    e = np.array([stats.mixture_log_e(row, np.array([n])) for n, row in enumerate(z, FIRST)])
    return (e >= np.log(20)).any(axis=0)


def independent(x: Rows) -> tuple[Rows, Rows]:
    """Means and their standard errors as if rows were independent, at every bar from the same first one on."""
    n = np.arange(FIRST, YEAR + 1)
    means = x.cumsum(axis=1)[:, FIRST - 1 :] / n
    spread = np.maximum((x**2).cumsum(axis=1)[:, FIRST - 1 :] / n - means**2, 1e-300)
    return means.T, np.sqrt(spread / (n - 1)).T


def naive(x: Rows) -> Rows:
    """Student's t at 5 %, one-sided, at every bar."""
    means, errors = independent(x)
    dof = np.arange(FIRST, YEAR + 1)[:, None] - 1
    return (means / errors >= student.isf(0.05, dof)).any(axis=0)


def iid_bound(x: Rows) -> Rows:
    """The same mixture as ours on the plain standard error: anytime-valid, if rows are independent."""
    means, errors = independent(x)
    return robbins(means / errors)


def msprt(x: Rows) -> Rows:
    """Mixture SPRT (Johari et al. 2022), two-sided; mixes over 0.2 of the standard deviation, as it was on average."""
    means, errors = independent(x)
    n = np.arange(FIRST, YEAR + 1)[:, None]
    variance = errors**2 * (n - 1)
    mixed = n * 0.2**2 * variance.mean(axis=0)
    ratio = np.log(variance / (variance + mixed)) / 2 + n * mixed * means**2 / (2 * variance * (variance + mixed))
    return (ratio >= np.log(20)).any(axis=0)


# name -> (decision, whether it also speaks for "worse": then its 5 % is for both sides together)
DECISIONS: dict[str, tuple[Callable[[Rows], Rows], bool]] = {
    "planned test": (planned, False),
    "anytime evidence": (anytime, False),
    "naive t at every bar": (naive, False),
    "anytime bound for independent rows": (iid_bound, False),
    "mSPRT": (msprt, True),
}
OURS = ("planned test", "anytime evidence")


def false_promotion(runs: int) -> Rates:
    found: Rates = {name: {} for name in DECISIONS}
    for i, (world, draw) in enumerate(WORLDS.items()):
        x = draw(np.random.default_rng(SEED + i), runs, YEAR)
        for name, (decide, both) in DECISIONS.items():
            rate = decide(x).mean() if both else (decide(x).mean() + decide(-x).mean()) / 2
            found[name][world] = round(float(rate), 4)
    return found


def paired_hits(seed: int, pairs: int, alpha: float, runs: int) -> tuple[float, float]:
    """Power of the planned test by `pairs`, and mean pairs until it has decided or is over."""
    looks = stats.look_times(horizon=pairs, look_every=-(-pairs // LOOKS))
    rng, chances = np.random.default_rng(seed), [(DISCORDANCE + GAIN) / 2, (DISCORDANCE - GAIN) / 2, 1 - DISCORDANCE]
    sizes = [min(left, CHUNK) for left in range(runs, 0, -CHUNK)]
    drawn = (rng.choice([1.0, -1.0, 0.0], (size, pairs), p=chances) for size in sizes)
    rows = np.concatenate([decided(x, looks, alpha) for x in drawn])
    return float((rows <= pairs).mean()), float(np.minimum(rows, pairs).mean())


def power(runs: int) -> dict[str, Any]:
    effect = GAIN / sqrt(DISCORDANCE - GAIN**2)
    horizon = stats.sequential_sample_size(effect, looks=LOOKS)
    fixed = stats.mcnemar_sample_size(GAIN, discordance=DISCORDANCE, alpha=0.10)  # one-sided 5 %, as a promotion
    assert horizon is not None
    assert fixed is not None
    got, mean = paired_hits(SEED + 20, horizon, 0.05, runs)
    by, mean_by = paired_hits(SEED + 21, PAIRS, 0.05, runs)
    strict, mean_strict = paired_hits(SEED + 22, PAIRS, 0.025, runs)
    return {
        "planned_pairs": horizon,
        "fixed_pairs": fixed,
        "power_at_planned": round(got, 4),
        "power_gap": round(abs(got - 0.8), 4),
        "mean_pairs": round(mean),
        "mean_pairs_ratio": round(mean / fixed, 3),
        "power_by_6000": round(by, 4),
        "mean_pairs_by_6000": round(mean_by),
        "power_by_6000_two_sided": round(strict, 4),
        "mean_pairs_by_6000_two_sided": round(mean_strict),
    }


def both(rng: np.random.Generator, runs: int, n: int) -> Rows:
    """AR(.2) with GARCH shocks."""
    return lfilter([1], [1, -0.2], WORLDS["GARCH"](rng, runs, n + 50), axis=1)[:, 50:]


PNL = {name: WORLDS[name] for name in ("iid t5", "AR .2", "GARCH", "AR .5", "10-bar overlap")} | {"AR .2 + GARCH": both}


def pnl_size(runs: int) -> Rates:
    """How often `dependent_t` calls two equal P&L series different, two-sided at 5 %, looked at once."""
    found: Rates = {}
    for i, (name, draw) in enumerate(PNL.items()):
        found[name] = {}
        for n in (500, 2000):
            rng, hits = np.random.default_rng(SEED + 40 + i), []
            for _ in range(runs // CHUNK):
                x = draw(rng, CHUNK, n)
                hits.append(np.abs(stats.ewc_statistic(x)[1]) >= student.isf(0.025, stats.ewc_dof(n)))
            assert (stats.dependent_t(x[0]).p_value <= 0.05) == bool(hits[-1][0])
            found[name][str(n)] = round(float(np.mean(hits)), 4)
    return found


def newest_wins() -> dict[str, float]:
    """Take the newest when its accuracy on the same 1,000 held-out rows is not lower: exact."""
    worse, better = (DISCORDANCE + GAIN) / 2, (DISCORDANCE - GAIN) / 2
    n, differing = 1000, np.arange(1001)
    share = binom.pmf(differing, n, DISCORDANCE)
    equal = float(share @ binom.sf(np.ceil(differing / 2) - 1, differing, 0.5))
    lower = float(share @ binom.sf(np.ceil(differing / 2) - 1, differing, better / (better + worse)))
    return {
        "promotes_equal": round(equal, 4),
        "promotes_equal_within_12_retrainings": round(1 - (1 - equal) ** 12, 4),
        "promotes_two_points_worse": round(lower, 4),
    }


def three_points(runs: int) -> dict[str, float]:
    """Roll back when the first 100 trades win three points less often than promised, though nothing has changed."""
    rng, need = np.random.default_rng(SEED + 60), WIN_RATE - POINTS
    wins = (rng.random((runs, TRADES)) < WIN_RATE).cumsum(axis=1) / np.arange(1, TRADES + 1)
    best = rng.binomial(1000, WIN_RATE, (runs, 5)).max(axis=1) / 1000
    once = float(binom.cdf(np.ceil(TRADES * need) - 1, TRADES, WIN_RATE))
    return {
        "once_after_100_trades": round(once, 4),
        "after_each_trade_from_30": round(float((wins[:, 29:] < need).any(axis=1).mean()), 4),
        "once_promoted_as_best_of_5_on_1000_rows": round(float((wins[:, -1] < best - POINTS).mean()), 4),
        "misses_five_points_lost": round(float(binom.sf(np.ceil(TRADES * need) - 1, TRADES, WIN_RATE - 0.05)), 4),
    }


def growthbook(python: str | None, runs: int) -> dict[str, float] | str:
    """Its sequential interval of two arms' means, looked at weekly; in an environment of its own, or why not."""
    looks = np.arange(FIRST, YEAR + 1, 5)
    sums: dict[str, Rows] = {"n": looks}
    for i, world in enumerate(("iid t5", "AR .2", "AR .5", "10-bar overlap")):
        for arm in ("a", "b"):
            x = WORLDS[world](np.random.default_rng(SEED + 80 + 2 * i + (arm == "b")), runs, YEAR)
            sums[f"{world}/{arm}"] = np.stack([y.cumsum(axis=1)[:, looks - 1] for y in (x, x**2)], axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "sums.npz", **sums)
        script = str(Path(__file__).with_name("ab_peers.py"))
        try:
            command = [python or _install(Path(folder)), script, str(Path(folder) / "sums.npz"), str(TUNED)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=1200, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return f"not run: {type(error).__name__}"
    return {world: round(rate, 4) for world, rate in json.loads(done.stdout.splitlines()[-1]).items()}


def _install(folder: Path) -> str:
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", GROWTHBOOK]
    subprocess.run(command, timeout=300, check=True)
    return python


def table(rates: Rates, found: dict[str, Any], sizes: Rates, peers: dict[str, Any]) -> None:
    print(f"{'equal challenger, one year, every bar':38s} " + " ".join(f"{w:>14s}" for w in WORLDS))
    for name, row in rates.items():
        side = " (either)" if DECISIONS[name][1] else ""
        print(f"{name + side:38s} " + " ".join(f"{row[w]:14.1%}" for w in WORLDS))
    theirs = peers["growthbook"]
    shown = (
        theirs
        if isinstance(theirs, str)
        else " ".join(f"{theirs[w]:14.1%}" if w in theirs else " " * 14 for w in WORLDS)
    )
    print(f"{'GrowthBook, weekly (either)':38s} {shown}")
    print(f"\n+2 points, discordance {DISCORDANCE}, one-sided 5 %, {LOOKS} looks")
    print(f"horizon planned for 80 %: {found['planned_pairs']} pairs; simulated there {found['power_at_planned']:.1%}")
    print(
        f"pairs to the decision: {found['mean_pairs']} (one look: {found['fixed_pairs']}): {found['mean_pairs_ratio']}"
    )
    for key, side in (("", "one-sided"), ("_two_sided", "two-sided")):
        mean = found[f"mean_pairs_by_6000{key}"]
        print(f"by {PAIRS} pairs, {side} 5 %: power {found[f'power_by_6000{key}']:.1%}, {mean} pairs on average")
    print(f"\n{'two equal P&L series called different':38s} {'500 bars':>14s} {'2,000 bars':>14s}")
    for name, row in sizes.items():
        print(f"{name:38s} " + " ".join(f"{row[n]:14.1%}" for n in ("500", "2000")))
    print(f"\nnewest wins (>=): {peers['newest_wins']}\nthree points under: {peers['three_points']}")


def main() -> None:
    given = argparse.ArgumentParser()
    given.add_argument("--quick", action="store_true")
    given.add_argument("--growthbook", default=None)
    arguments = given.parse_args()
    quick = arguments.quick
    the_same_as_shipped(WORLDS["AR .5"](np.random.default_rng(SEED), 10, YEAR) + 0.1)
    rates = false_promotion(600 if quick else 4000)
    found, sizes = power(500 if quick else 4000), pnl_size(2000 if quick else 20_000)
    peers: dict[str, Any] = {name: row for name, row in rates.items() if name not in OURS}
    peers["growthbook"] = growthbook(arguments.growthbook, 100 if quick else 500)
    peers |= {"newest_wins": newest_wins(), "three_points": three_points(20_000)}
    table(rates, found, sizes, peers)
    dependent = [rates[name][world] for name in OURS for world in WORLDS if world != "iid t5"]
    flat = [rate for row in sizes.values() for rate in row.values()]
    out = {
        "false_promotion_iid": max(rates[name]["iid t5"] for name in OURS),
        "false_promotion_dependent": max(dependent),
        **found,
        "pnl_size_min": min(flat),
        "pnl_size_max": max(flat),
        "decisions": {name: rates[name] for name in OURS},
        "pnl_sizes": sizes,
        "peers": peers,
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
