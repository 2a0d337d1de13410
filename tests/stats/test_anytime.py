from math import inf

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import halfnorm, norm

from mlops.errors import DataError
from mlops.stats import confidence_sequence, evidence_path, ewc_error, mixture_log_e
from mlops.stats.anytime import FIRST, _bounds, _spread


def _noise(n=400, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, n)


@pytest.mark.parametrize(("z", "n"), [(-2.0, 50), (0.0, 10), (1.7, 250), (4.0, 1000)])
def test_the_mixture_is_the_integral_that_it_stands_for(z, n):
    spread = np.sqrt(_spread(250))
    found = quad(lambda d: np.exp(d * z * np.sqrt(n) - d**2 * n / 2) * halfnorm.pdf(d, scale=spread), 0, 10 * spread)[0]
    assert np.exp(mixture_log_e(np.array([z]), np.array([n])))[0] == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("total", [-10.0, 0.0, 25.0])
def test_without_drift_the_mixture_is_a_martingale_and_against_it_it_shrinks(total):
    def e(s, n):
        return np.exp(mixture_log_e(np.atleast_1d(s) / np.sqrt(n), np.array([n])))

    steps, weights = np.polynomial.hermite_e.hermegauss(80)
    weights /= weights.sum()
    assert weights @ e(total + steps, 101) == pytest.approx(e(total, 100)[0])
    assert weights @ e(total + steps - 0.2, 101) < e(total, 100)[0]


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.2, 0.5])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_the_interval_leaves_the_margin_out_exactly_where_the_e_value_says_so(mean, alpha):
    path = evidence_path(_noise(mean=mean), alpha=alpha, margin=0.1)
    assert (path.lower > 0.1).tolist() == (path.e_value >= 2 / alpha).tolist()
    below = evidence_path(-_noise(mean=mean), alpha=alpha, margin=-0.1)
    assert (path.upper < 0.1).tolist() == (below.e_value >= 2 / alpha).tolist()


def test_the_path_says_at_each_bar_what_was_said_at_that_bar():
    x = _noise(mean=0.2)
    path = evidence_path(x)
    for n in (1, FIRST, 133, 400):
        seen = confidence_sequence(x[:n])
        at = [float(part[n - 1]) for part in (path.estimate, path.lower, path.upper, path.e_value)]
        assert at == pytest.approx([seen.estimate, seen.lower, seen.upper, seen.e_value])
    some = evidence_path(x, at=[40, 400])
    assert some.e_value.tolist() == path.e_value[[39, 399]].tolist()


def test_it_moves_with_the_data_and_grows_with_their_unit():
    x = _noise(mean=0.2)
    seen, moved = confidence_sequence(x, margin=0.1), confidence_sequence(100 + 3 * x, margin=100.3)
    assert [moved.lower, moved.upper] == pytest.approx([100 + 3 * seen.lower, 100 + 3 * seen.upper])
    assert (moved.e_value, moved.n_needed) == (pytest.approx(seen.e_value), seen.n_needed)
    mirrored = confidence_sequence(-x)
    plain = confidence_sequence(x)
    assert [-mirrored.upper, -mirrored.lower] == pytest.approx([plain.lower, plain.upper])


def test_it_is_wider_than_an_interval_for_one_look_and_narrows():
    path = evidence_path(_noise(3000))
    half = (path.upper - path.lower)[FIRST - 1 :] / 2
    once = [norm.isf(0.025) * float(ewc_error(_noise(3000)[:n], cautious=True)) for n in (FIRST, 250, 3000)]
    assert (half[[0, 250 - FIRST, -1]] > once).all()
    assert half[-1] < half[250 - FIRST] < half[0]


def test_it_is_tightest_near_the_rows_that_it_was_tuned_at():
    widths = {t: confidence_sequence(_noise(2000), tuned_at=t) for t in (50, 2000, 50_000)}
    width = {t: found.upper - found.lower for t, found in widths.items()}
    assert width[2000] < width[50]
    assert width[2000] < width[50_000]


@pytest.mark.parametrize("x", [[], [1.0] * (FIRST - 1), [0.1] * 300, [0.0] * 300], ids=["none", "few", "one", "zero"])
def test_too_few_rows_or_a_constant_say_nothing(x):
    seen = confidence_sequence(x)
    assert (-inf, inf, 1.0, 1.0, None) == (seen.lower, seen.upper, seen.e_value, seen.p_value, seen.n_needed)
    assert seen.n == len(x)


def test_a_later_start_is_silent_longer_and_then_says_the_same():
    x = _noise(mean=0.5)
    early, late = evidence_path(x), evidence_path(x, min_n=100)
    assert (late.e_value[:99] == 1).all()
    assert late.e_value[99:].tolist() == early.e_value[99:].tolist()
    assert late.first(20.0) >= 100 > early.first(20.0)
    assert evidence_path(-x).first(20.0) is None


def test_it_tells_how_many_rows_the_present_estimate_needs():
    x = _noise(100)
    x -= x.mean()
    weak, strong, down = (confidence_sequence(x + mean) for mean in (0.05, 0.15, -0.15))
    assert 100 < strong.n_needed < weak.n_needed
    assert strong.n_needed == pytest.approx(down.n_needed, rel=0.01)  # noise leans to either side a little
    assert 100 == confidence_sequence(x + 2).n_needed
    assert confidence_sequence(np.tile([1.0, -1.0], 50)).n_needed is None
    # At the rows that it names, the same estimate with the same long-run variance is out of the interval.
    error = float(ewc_error(x, cautious=True)) * np.sqrt(100 / strong.n_needed)
    least, before = _bounds(np.array([strong.n_needed, strong.n_needed - 1]), 0.05, 250)
    assert least * error <= 0.15
    assert before * error * np.sqrt(strong.n_needed / (strong.n_needed - 1)) > 0.15


def test_overwhelming_evidence_stays_a_number():
    seen = confidence_sequence(_noise(2000, mean=1e6))
    assert 1e200 < seen.e_value < inf
    assert 0 < seen.p_value < 1e-200
    assert confidence_sequence(_noise(2000, mean=-1e6)).e_value < 0.01


@pytest.mark.parametrize("given", [{"tuned_at": 0}, {"min_n": FIRST - 1}])
def test_an_impossible_start_is_refused(given):
    with pytest.raises(DataError, match="tuned_at must be at least 1 and min_n at least"):
        confidence_sequence(_noise(), **given)


@pytest.mark.parametrize("at", [[0], [401]])
def test_rows_that_are_not_there_are_refused(at):
    with pytest.raises(DataError, match="at must lie between 1 and 400"):
        evidence_path(_noise(), at=at)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(DataError, match="alpha must lie between 0 and 1"):
        confidence_sequence(_noise(), alpha=alpha)
