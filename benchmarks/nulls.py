"""False promotions in unkind worlds where no challenger is better: whole decisions, all gates, a year of weekly looks.

What decides is `mlops.experiment.compare` and `policy.proven` with the shipped plan: every gate but that of having
traded, which takes no evidence but time. There is no registry, so that thousands of years are affordable. Beside the
decision stands what the paired test alone said.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import expit, logit

from benchmarks.simulated.cells import rate
from benchmarks.simulated.world import CLIP, Floats, Law, World, announced
from jobs.comparison.plans import LABELS_APART
from mlops import policy
from mlops.experiment import Plan, compare
from mlops.experiment.events import enough_at, happened
from mlops.experiment.gates import paired_log_loss, skill
from mlops.settings import ExperimentSettings
from mlops.stats import log_losses, look_levels, look_times, p_greater
from mlops.types import Level, ModelRef, Report

YEAR, BURN, BATCH = 252, 400, 100
RETURN, ALIKE = 0.01, 0.9  # a bar of either book, and their correlation
BASE = 0.5  # of the constant forecast; of rare labels any forecast beats it, so that `skill` hides nothing
AT = datetime(2007, 6, 4, 21, tzinfo=UTC)
MODEL = ModelRef("m", 1)
LITTLE, MUCH = 0.2769, 4.0  # log-odds; on average as bad at a disaster in 150 bars


@dataclass(frozen=True, slots=True)
class Pair:
    """Labels and the forecasts of champion and challenger, each of shape (bars, units)."""

    labels: Floats
    champion: Floats
    challenger: Floats


Draw = Callable[[np.random.Generator], Pair]


@dataclass(frozen=True, slots=True)
class Null:
    """A world, and the bars that its labels span."""

    name: str
    draw: Draw
    horizon: int = 1
    worse: bool = False


def lawful(law: Law, push: float = 1.0) -> Draw:
    """The world of `benchmarks.decisions`; the challenger says what it knows `push` times too loudly, in log-odds."""

    def draw(rng: np.random.Generator) -> Pair:
        world = World(law, YEAR, int(rng.integers(1 << 40)))
        return Pair(world.labels, world.forecasts(1), _pushed(world.forecasts(2), push))

    return draw


def slow(phi: float, units: int = 20) -> Draw:
    """Labels and errors of the forecasts are autoregressions: a model that is right stays right."""

    def draw(rng: np.random.Generator) -> Pair:
        hidden, base, *own = (_ar(rng, phi, units) for _ in range(4))
        noises = (np.sqrt(0.8) * base + np.sqrt(0.2) * noise for noise in own)
        one, other = (announced(hidden, noise, 0.61, 0.61) for noise in noises)
        return Pair((hidden > 0).astype(np.float64), one, other)

    return draw


def wild(units: int = 20) -> Draw:
    """Both forecasts are off by the same GARCH(1, 1) series of t3 shocks, to either side of the truth."""

    def draw(rng: np.random.Generator) -> Pair:
        truth, off = rng.normal(0, 0.5, (YEAR, units)), 0.5 * _garch(rng)[:, None]
        labels = (rng.random(truth.shape) < expit(truth)).astype(np.float64)
        one, other = (np.clip(expit(truth + side * off), CLIP, 1 - CLIP) for side in (1, -1))
        return Pair(labels, one, other)

    return draw


def tied(share: float, units: int = 20) -> Draw:
    """The two say the same but on a share of the bars; there one of them is off, whichever."""

    def draw(rng: np.random.Generator) -> Pair:
        truth = rng.normal(0, 0.5, (YEAR, units))
        labels = (rng.random(truth.shape) < expit(truth)).astype(np.float64)
        off = np.where(rng.random(YEAR) < share, rng.choice([-1.0, 1.0], YEAR), 0.0)[:, None]
        return Pair(labels, expit(truth + np.maximum(off, 0)), expit(truth + np.maximum(-off, 0)))

    return draw


def constant(chance: float, said: tuple[float, float], units: int = 1) -> Draw:
    """Two constant forecasts of a label that comes by itself: their difference is one number until it does."""

    def draw(rng: np.random.Generator) -> Pair:
        labels = (rng.random((YEAR, units)) < chance).astype(np.float64)
        return Pair(labels, *(np.full(labels.shape, p) for p in said))

    return draw


def disastrous(share: float = 1 / 150, units: int = 20) -> Draw:
    """Labels of even odds; the champion is always a little off, the challenger never but on a few bars, and there much.

    Nothing that is seen before such a bar tells of it: no test of what was seen keeps its rate.
    """

    def draw(rng: np.random.Generator) -> Pair:
        truth = rng.normal(0, 0.5, (YEAR, units))
        labels = (rng.random(truth.shape) < expit(truth)).astype(np.float64)
        sides = rng.choice([-1.0, 1.0], (2, *truth.shape))
        blind = (rng.random(YEAR) < share)[:, None]
        return Pair(labels, expit(truth + LITTLE * sides[0]), expit(np.where(blind, MUCH * sides[1], truth)))

    return draw


def rare(said: tuple[float, float], cluster: int = 5) -> Draw:
    """Labels of 5.6 % in clusters of so many bars that hit all units; forecasts are so many times that share."""

    def draw(rng: np.random.Generator) -> Pair:
        inside = _states(rng, 1 / (8 * cluster), 1 / cluster)[:, None]
        labels = (inside & (rng.random((YEAR, LAW.units)) < 0.5)).astype(np.float64)
        return Pair(labels, *(np.full(labels.shape, one / 18) for one in said))

    return draw


def equally_far(chance: float, high: float) -> tuple[float, float]:
    """Two constant forecasts with the same expected log-loss, the champion's too high."""

    def loss(p: float) -> float:
        return float(-(chance * np.log(p) + (1 - chance) * np.log1p(-p)))

    low, top = 1e-9, chance
    for _ in range(60):
        middle = (low + top) / 2
        low, top = (middle, top) if loss(middle) > loss(high * chance) else (low, middle)
    return high * chance, low


LAW = Law()
NULLS = (
    Null("20 units, 5-bar labels", lawful(LAW), 5),
    Null("1 unit, 5-bar labels", lawful(replace(LAW, units=1)), 5),
    Null("50 units, 5-bar labels", lawful(replace(LAW, units=50)), 5),
    Null("20 units, 1-bar labels", lawful(replace(LAW, horizon=1))),
    Null("20 units, 20-bar labels", lawful(replace(LAW, horizon=20)), 20),
    Null("1 unit, 20-bar labels", lawful(replace(LAW, units=1, horizon=20)), 20),
    Null("20 units, AR .8", slow(0.8)),
    Null("20 units, AR .95", slow(0.95)),
    Null("20 units, GARCH t3", wild()),
    Null("rare labels in clusters of 5 bars", rare((1.6, 0.5657))),
    Null("rare labels in clusters of 20 bars", rare((1.6, 0.5657), 20)),
    Null("rare labels one by one", constant(0.02, equally_far(0.02, 1.6), units=4)),
    Null("constant until it happens", constant(0.01, equally_far(0.01, 1.6))),
    Null("ties but on 2 % of the bars", tied(0.02)),
    Null("ties but on 20 % of the bars", tied(0.20)),
    Null("over-confident x2, 20 units, 5-bar", lawful(replace(LAW, gain=0.0606), 2.0), 5),
    Null("over-confident x2, 1 unit, 5-bar", lawful(replace(LAW, units=1, gain=0.0606), 2.0), 5),
    Null("disasters that nothing foretells", disastrous()),
    Null("2 points worse", lawful(replace(LAW, gain=-0.02)), 5, worse=True),
    Null("rare in clusters, truly worse", rare((1.6, 0.4)), worse=True),
)


def plan(horizon: int) -> Plan:
    """The shipped one, for labels of so many bars."""
    s = ExperimentSettings()
    least = min(s.horizon_bars, max(s.min_bars, LABELS_APART * horizon))
    return Plan(s.confidence, s.min_samples, s.horizon_bars, s.look_every, least, s.min_events, s.margin)


def crossed(differences: Floats, trial: Plan) -> NDArray[np.intp]:
    """First planned look at which the paired test of each year crosses, no other gate asked; past the horizon if none.

    As `mlops.stats.sequential_test`, for many years at once; `differences` has shape (years, bars).
    """
    looks = look_times(horizon=trial.horizon_bars, look_every=trial.look_every, min_n=trial.min_bars)
    levels = look_levels(looks, trial.horizon_bars, trial.alphas(looks), trial.power)
    first = np.full(len(differences), trial.horizon_bars + 1)
    for bars, level in zip(looks, levels, strict=True):
        first = np.where(p_greater(differences[:, :bars]) <= level, np.minimum(first, bars), first)
    return first


def promoted(pair: Pair, trial: Plan, rng: np.random.Generator) -> bool:
    """Whether a weekly look of the year promotes."""
    seen = happened(pair.labels.ravel(), np.repeat(np.arange(YEAR), pair.labels.shape[1]))
    proof = paired_log_loss(_difference(pair), trial, enough_at(seen, trial))
    if proof.level is not Level.OK:  # too few events for a verdict, or the truth changed: no look promotes
        return False
    books, frame = _books(rng), _frames(pair)
    looks = range(int(str(proof.params["crossed_at"])), YEAR + 1, trial.look_every)
    return any(_passed(frame, books, pair, trial, bars) for bars in looks)


def _passed(frame: pd.DataFrame, books: Floats, pair: Pair, trial: Plan, bars: int) -> bool:
    base = log_losses(np.full_like(pair.labels[:bars], BASE), pair.labels[:bars])
    gains = (base - log_losses(pair.challenger[:bars], pair.labels[:bars])).mean(axis=1)
    if skill(gains, trial).level is not Level.OK:
        return False
    times = _times()[:bars]
    findings = compare(
        frame[frame["event_time"] <= times[-1]],
        champion=1,
        challenger=2,
        settings=trial,
        base_rate=BASE,
        books={v: pd.Series(books[v - 1, :bars], index=times) for v in (1, 2)},
        rng=np.random.default_rng(0),
    )
    return policy.proven(Report(MODEL, AT, findings))


def _frames(pair: Pair) -> pd.DataFrame:
    bars, units = pair.labels.shape
    keys = {"event_time": np.repeat(_times().to_numpy(), units), "unit": np.tile(np.arange(units).astype(str), bars)}
    arms = [(1, pair.champion), (2, pair.challenger)]
    rows = [
        pd.DataFrame({**keys, "version": v, "probability": p.ravel(), "label": pair.labels.ravel()}) for v, p in arms
    ]
    return pd.concat(rows, ignore_index=True)


def _times() -> pd.DatetimeIndex:
    return pd.bdate_range("2007-06-04", periods=YEAR)


def _books(rng: np.random.Generator) -> Floats:
    market, own = rng.standard_normal(YEAR), rng.standard_normal((2, YEAR))
    return np.asarray(RETURN * (np.sqrt(ALIKE) * market + np.sqrt(1 - ALIKE) * own))


def _pushed(p: Floats, push: float) -> Floats:
    return p if push == 1 else np.asarray(np.clip(expit(push * logit(p)), CLIP, 1 - CLIP))


def _ar(rng: np.random.Generator, phi: float, units: int) -> Floats:
    common = np.sqrt(0.3) * rng.standard_normal((YEAR + BURN, 1))
    steps = common + np.sqrt(0.7) * rng.standard_normal((YEAR + BURN, units))
    return np.asarray(lfilter([np.sqrt(1 - phi**2)], [1, -phi], steps, axis=0)[BURN:])


def _states(rng: np.random.Generator, begin: float, end: float) -> NDArray[np.bool_]:
    """Whether a bar lies within a cluster, which begins and ends with such a chance a bar."""
    inside, out = bool(rng.random() < begin / (begin + end)), np.empty(YEAR, dtype=np.bool_)
    for i, chance in enumerate(rng.random(YEAR).tolist()):
        out[i] = inside
        inside = chance >= end if inside else chance < begin
    return out


def _garch(rng: np.random.Generator) -> Floats:
    shocks, variance, last, out = rng.standard_t(3, YEAR + BURN) / np.sqrt(3), 1.0, 0.0, np.empty(YEAR + BURN)
    for i, shock in enumerate(shocks):
        variance = 0.05 + 0.10 * last**2 + 0.85 * variance
        last = out[i] = np.sqrt(variance) * shock
    return out[BURN:]


def measured(null: Null, years: int, seed: int = 1) -> Mapping[str, tuple[float, float, float]]:
    """Share of so many years, with its 95 % interval: promoted; proven better, and worse, by the paired test alone."""
    rng, trial = np.random.default_rng(seed), plan(null.horizon)
    found: dict[str, list[float]] = {"promoted": [], "better": [], "worse": []}
    while len(found["better"]) < years:
        pairs = [null.draw(rng) for _ in range(min(BATCH, years - len(found["better"])))]
        differences = np.array([_difference(pair) for pair in pairs])
        better, worse = crossed(differences - trial.margin, trial), crossed(-differences, trial)
        found["better"] += (better <= YEAR).astype(float).tolist()
        found["worse"] += (worse <= YEAR).astype(float).tolist()
        of_each = zip(pairs, better.tolist(), strict=True)
        found["promoted"] += [float(first <= YEAR and promoted(pair, trial, rng)) for pair, first in of_each]
    return {name: rate(values, share=True) for name, values in found.items()}


def _difference(pair: Pair) -> Floats:
    one, other = (log_losses(p, pair.labels) for p in (pair.champion, pair.challenger))
    return np.asarray((one - other).mean(axis=1))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=3000, help="Of each world.")
    parser.add_argument("--only", default="", help="Worlds whose name contains this.")
    chosen = parser.parse_args(arguments)
    figures = {}
    for null in (null for null in NULLS if chosen.only in null.name):
        found = measured(null, chosen.years)
        shown = "  ".join(f"{name} {x:6.2%} ({low:.2%} to {high:.2%})" for name, (x, low, high) in found.items())
        print(f"{null.name:38s} {shown}", flush=True)
        figures[null.name] = {name: [round(x, 5) for x in values] for name, values in found.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
