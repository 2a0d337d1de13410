"""How often a whole decision promotes a challenger that is no better, in unkind worlds. Rates are printed with -s."""

import numpy as np
import pytest

from benchmarks.nulls import NULLS, YEAR, crossed, equally_far, measured, plan
from mlops.stats import sequential_test

pytestmark = pytest.mark.calibration
YEARS = 200
MOST = {  # what docs/evidence.md says, where it is more than the plan's 5 %
    "20 units, 20-bar labels": 0.06,
    "20 units, AR .95": 0.07,
    "disasters that nothing foretells": 0.41,
}


def test_the_many_years_form_is_the_sequential_test():
    trial, x = plan(5), np.random.default_rng(2).normal(0.12, 1, (40, YEAR))
    how = {"horizon": YEAR, "look_every": 5, "alpha": trial.alpha, "min_n": trial.min_bars}
    looks = [sequential_test(row, **how).crossed_at or YEAR + 1 for row in x]
    assert looks == crossed(x, trial).tolist()
    assert min(looks) < YEAR < max(looks)


def test_two_constant_forecasts_are_equally_far_off():
    high, low = equally_far(0.02, 1.6)
    losses = [-(0.02 * np.log(p) + 0.98 * np.log1p(-p)) for p in (high, low)]
    assert low < 0.02 < high == 0.032
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)


@pytest.mark.parametrize("null", NULLS, ids=lambda null: null.name)
def test_a_challenger_that_is_no_better_is_promoted_at_most_as_published(null):
    (share, low, high), _, _ = measured(null, YEARS, seed=31).values()
    most = 0.001 if null.worse else MOST.get(null.name, 0.05)
    print(f"a year  {null.name:38s} promoted {share:.1%} ({low:.1%} to {high:.1%})")
    assert share <= most + 3 * np.sqrt(most * (1 - most) / YEARS)
