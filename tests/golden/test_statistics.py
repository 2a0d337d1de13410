"""mlops.stats says what R says. `statistics.R` beside this file makes the numbers in `statistics.csv`."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from mlops import stats


def _numbers():
    rows = defaultdict(list)
    with (Path(__file__).parent / "statistics.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["name"]].append(float(row["value"]))
    return dict(rows)


R = _numbers()
SLEEP = (R["data.sleep.x"], R["data.sleep.y"])
OZONE = (R["data.ozone.may"], R["data.ozone.august"])
APPROVAL = [[794, 150], [86, 570]]
PARTY = [[762, 327, 468], [484, 239, 477]]
TWO = [[30, 10], [20, 20]]


def normals(n, seed):
    """Park and Miller's generator, exact in double precision as in R."""
    uniforms = np.empty(n)
    for i in range(n):
        seed = (16807 * seed) % 2147483647
        uniforms[i] = seed / 2147483647
    return norm.ppf(uniforms)


def _test(found):
    return [found.statistic, found.p_value, found.effect.low, found.effect.high]


def _estimate(found):
    return [found.value, found.low, found.high]


def _mcnemar(method):
    found = stats.mcnemar_table(APPROVAL, method=method)
    return [found.statistic, found.p_value]


OURS = {
    "paired_t": lambda: _test(stats.paired_t(*SLEEP)),
    "paired_t.less": lambda: [stats.paired_t(*SLEEP, alternative="less").p_value],
    "welch_t": lambda: _test(stats.welch_t(*SLEEP)),
    "welch_t.less": lambda: [stats.welch_t(*SLEEP, alternative="less").p_value],
    "cohens_d": lambda: _estimate(stats.cohens_d(*SLEEP)),
    "cohens_d.paired": lambda: _estimate(stats.cohens_d(*SLEEP, paired=True)),
    "hedges_g": lambda: _estimate(stats.hedges_g(*SLEEP)),
    "hedges_g.paired": lambda: _estimate(stats.hedges_g(*SLEEP, paired=True)),
    "mcnemar.asymptotic": lambda: _mcnemar("asymptotic"),
    "mcnemar.corrected": lambda: _mcnemar("corrected"),
    "mcnemar.exact": lambda: _mcnemar("exact")[1:],
    "mcnemar.mid-p": lambda: _mcnemar("mid-p")[1:],
    "mcnemar.mid-p.small": lambda: [stats.mcnemar_table([[1, 1], [7, 12]]).p_value],
    "paired_odds_ratio": lambda: _estimate(stats.paired_odds_ratio(150, 86)),
    "paired_difference": lambda: _estimate(stats.paired_difference(150, 86, 1600))[1:],
    "chi_square": lambda: _test(stats.chi_square_table(PARTY))[:2],
    "chi_square.yates": lambda: _test(stats.chi_square_table(TWO, correction=True))[:2],
    "cramers_v": lambda: _estimate(stats.chi_square_table(PARTY).effect),
    "odds_ratio.sample": lambda: _estimate(stats.odds_ratio(TWO)),
    "odds_ratio.conditional": lambda: _estimate(stats.odds_ratio(TWO, kind="conditional")),
    "risk_difference": lambda: _estimate(stats.risk_difference(56, 70, 48, 80))[1:],
    "mann_whitney": lambda: _test(stats.mann_whitney(*OZONE))[:2],
    "mann_whitney.exact": lambda: _test(stats.mann_whitney(normals(7, 11), normals(8, 12) + 1))[:2],
    "ks": lambda: _test(stats.ks_test(normals(40, 101), normals(60, 20140) + 0.6))[:2],
    "cliffs_delta": lambda: _estimate(
        stats.cliffs_delta([10, 10, 20, 20, 20, 30, 30, 30, 40, 50], [10, 20, 30, 40, 40, 50])
    ),
    "cliffs_delta.negligible": lambda: _estimate(
        stats.cliffs_delta([10, 20, 20, 20, 30, 30, 30, 40, 50, 100], [10, 20, 30, 40, 40, 50])
    ),
    "cliffs_delta.large": lambda: _estimate(stats.cliffs_delta(*OZONE)),
    "t_power": lambda: [
        stats.t_power(0.7, 20),
        stats.t_power(0.5, 20, paired=True),
        stats.t_power(0.5, 20, alternative="greater"),
        stats.t_power(0.4, 30, ratio=2),
    ],
    "t_sample_size": lambda: [
        *(stats.t_sample_size(d) for d in (0.2, 0.5, 0.8)),
        stats.t_sample_size(0.5, paired=True),
        stats.t_sample_size(0.3, power=0.9),
    ],
    "shares_sample_size": lambda: [
        stats.shares_sample_size(0.55, 0.57),
        stats.shares_sample_size(0.5, 0.75, power=0.9),
        stats.shares_sample_size(0.6, 0.65),
    ],
    "shares_power": lambda: [stats.shares_power(0.5, 0.75, 50), stats.shares_power(0.5, 0.6, 300)],
    "chi_square_sample_size": lambda: [
        stats.chi_square_sample_size(0.3, dof=1),
        stats.chi_square_sample_size(0.1, dof=4),
        stats.chi_square_sample_size(0.2, dof=2, power=0.9),
    ],
    "holm": lambda: stats.holm([0.001, 0.012, 0.04, 0.0105, 0.3, 0.011]),
    "benjamini_hochberg": lambda: stats.benjamini_hochberg([0.001, 0.012, 0.04, 0.0105, 0.3, 0.011]),
}
# R's own intervals by root finding stop at these errors (uniroot, optimize).
ROUGH = {"cohens_d": 1e-4, "cohens_d.paired": 1e-4, "hedges_g": 1e-4, "hedges_g.paired": 1e-4, "cramers_v": 1e-4}
ROUGH["odds_ratio.conditional"] = 1e-4


@pytest.mark.parametrize("name", OURS)
def test_it_is_what_r_says(name):
    assert R[name] == pytest.approx(list(OURS[name]()), rel=ROUGH.get(name, 1e-9))


def test_every_number_of_r_is_held_against_ours():
    elsewhere = {"block_length", "pbo", "pbo.logits", "pbo.in_sample", "pbo.out_of_sample"}
    assert {name for name in R if not name.startswith("data.")} == OURS.keys() | elsewhere


def test_overfitting_is_what_two_packages_of_r_say():
    returns = normals(160 * 10, 15).reshape(10, 160).T + np.arange(10) * 0.03
    found = stats.backtest_overfitting(returns, blocks=8)
    assert R["pbo"] == pytest.approx([found.pbo] * 2)
    # Both list the splits in the order of the first half's blocks.
    for name in ("logits", "in_sample", "out_of_sample"):
        assert R[f"pbo.{name}"] == pytest.approx(list(getattr(found, name)))


def test_the_automatic_block_length_is_that_of_politis_and_white_in_r():
    x = np.zeros(600)
    previous = 0.0
    for i, shock in enumerate(normals(600, 16)):
        previous = x[i] = 0.5 * previous + shock
    ours = [stats.block_length(x), stats.block_length(x, scheme="circular")]
    assert R["block_length"] == pytest.approx(ours, rel=0.02)
