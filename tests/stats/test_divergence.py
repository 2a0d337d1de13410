import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from mlops.errors import DataError
from mlops.stats import ks_distance, psi, quantile_edges

SAMPLES = st.lists(st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6), min_size=2, max_size=60)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES)
def test_the_ks_distance_is_that_of_scipy_ties_included(reference, current):
    expected = ks_2samp(reference, current, method="asymp").statistic
    assert expected == pytest.approx(ks_distance(np.sort(reference), current), abs=1e-12)


def test_the_psi_of_two_bins_is_the_sum_by_hand():
    reference, current = np.arange(100.0), np.concatenate([np.arange(25.0), np.arange(50.0, 125.0)])
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert expected == pytest.approx(psi(reference, current, bins=2))


def test_the_edges_are_numpys_quantiles():
    x = np.sort(np.random.default_rng(0).normal(size=1003))
    assert np.quantile(x, np.arange(1, 10) / 10) == pytest.approx(quantile_edges(x, 10))


def test_ties_merge_bins_and_an_empty_bin_stays_finite():
    assert 0.0 == psi([1.0] * 50 + [2.0] * 50, [2.0] * 50 + [1.0] * 50)
    assert np.isfinite(psi(np.zeros(50), np.ones(50)))
    assert np.isfinite(psi(np.arange(100.0), np.full(100, 1e9)))


@settings(max_examples=40, deadline=None)
@given(SAMPLES, SAMPLES)
def test_psi_is_never_negative(reference, current):
    assert psi(reference, current) >= 0


@pytest.mark.parametrize("distance", [psi, ks_distance])
def test_nothing_and_nan_are_refused(distance):
    with pytest.raises(DataError, match="at least 1"):
        distance([1.0], [])
    with pytest.raises(DataError, match="finite"):
        distance([1.0, np.nan], [1.0])
