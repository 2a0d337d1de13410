"""What every test of two samples owes its caller."""

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import ALPHA, PAIRED_TESTS, UNPAIRED_TESTS

TESTS = {**PAIRED_TESTS, **UNPAIRED_TESTS}
HITS = {"mcnemar", "chi_square"}  # these take categories


def _samples(name, *, shift, n=400, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    return ((x > 0).astype(float), (y > 0).astype(float)) if name in HITS else (x, y)


@pytest.mark.parametrize("name", TESTS)
def test_it_is_quiet_on_one_law_and_loud_on_a_shift(name):
    assert TESTS[name](*_samples(name, shift=0.0)).p_value > ALPHA
    assert TESTS[name](*_samples(name, shift=0.5)).p_value < 1e-4


@pytest.mark.parametrize("name", TESTS)
def test_the_same_rows_give_the_same_result_and_are_left_alone(name):
    x, y = _samples(name, shift=0.2)
    before = x.copy(), y.copy()
    assert TESTS[name](x, y) == TESTS[name](x, y)
    assert np.array_equal(before, (x, y))


@pytest.mark.parametrize("name", TESTS)
def test_exchanging_the_samples_keeps_the_p_value(name):
    x, y = _samples(name, shift=0.2)
    there, back = TESTS[name](x, y), TESTS[name](y, x)
    assert there.p_value == pytest.approx(back.p_value)
    assert abs(there.effect.value) == pytest.approx(abs(back.effect.value))


@pytest.mark.parametrize("name", TESTS)
def test_the_interval_holds_the_estimate_and_grows_with_the_confidence(name):
    x, y = _samples(name, shift=0.2)
    effect, wide = TESTS[name](x, y).effect, TESTS[name](x, y, alpha=0.001).effect
    assert wide.low <= effect.low <= effect.value <= effect.high <= wide.high


@pytest.mark.parametrize("name", TESTS)
def test_too_few_rows_are_unknown_and_say_so(name):
    found = TESTS[name]([], [])
    assert not found.known
    assert not found.effect.known
    assert found.note
    assert found.n_needed is None


@pytest.mark.parametrize("name", TESTS)
def test_nan_is_refused_by_name_and_place(name):
    with pytest.raises(DataError, match=r"y must be finite, got nan at position 2. Drop or mend that bar."):
        TESTS[name]([0.0, 1.0, 1.0], [0.0, 1.0, np.nan])


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("alpha", [0.0, 1.0, 5.0])
def test_an_alpha_that_is_no_share_is_refused(name, alpha):
    with pytest.raises(DataError, match="alpha must lie between 0 and 1"):
        TESTS[name](*_samples(name, shift=0.2, n=50), alpha=alpha)


@pytest.mark.parametrize("name", PAIRED_TESTS)
def test_pairs_of_two_lengths_are_refused(name):
    with pytest.raises(DataError, match="same length, got 3 and 2"):
        PAIRED_TESTS[name]([0.0, 1.0, 1.0], [0.0, 1.0])


@pytest.mark.parametrize("name", sorted(TESTS.keys() - {"ks"}))
def test_a_smaller_effect_needs_more_rows(name):
    strong, weak = (TESTS[name](*_samples(name, shift=shift, n=4000)) for shift in (0.5, 0.2))
    assert 0 < strong.n_needed < weak.n_needed
