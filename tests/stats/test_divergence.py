import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare, ks_2samp, wasserstein_distance

from mlops.errors import DataError
from mlops.stats import (
    areas,
    cohens_w,
    jensen_shannon,
    ks_distance,
    ks_distances,
    ks_p_values,
    psi,
    quantile_edges,
    ranks,
)

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


@pytest.mark.parametrize("marks", [0, 1, 7, 200])
def test_the_ks_distances_of_many_features_do_not_depend_on_the_marks(marks):
    rng = np.random.default_rng(marks)
    for digits in (0, 1, 12):
        reference, current = (np.sort(np.round(rng.normal(size=(6, n)), digits), axis=1) for n in (700, 90))
        at = np.sort(np.round(rng.normal(size=(6, marks)), digits), axis=1)
        expected = [ks_2samp(x, y, method="asymp").statistic for x, y in zip(reference, current, strict=True)]
        found = ks_distances(reference, current, ranks(reference, at), ranks(current, at))
        assert expected == pytest.approx(found.tolist(), abs=1e-12)


def test_the_p_values_of_independent_rows_are_near_scipys():
    rng = np.random.default_rng(4)
    for _ in range(20):
        found = ks_2samp(rng.normal(size=2000), rng.normal(0.05, 1, size=1500), method="exact")
        assert found.pvalue == pytest.approx(float(ks_p_values(found.statistic, 2000, 1500)), abs=0.02)


def test_the_jensen_shannon_distance_is_scipys():
    p, q = np.array([[0.1, 0.4, 0.5, 0.0], [0.25] * 4]), np.array([0.2, 0.2, 0.0, 0.6])
    expected = [jensenshannon(row, q, base=2) for row in p]
    assert expected == pytest.approx(jensen_shannon(p, q).tolist())
    assert 0.0 == jensen_shannon(q, q)


def test_cohens_w_is_the_root_of_chi_square_a_row():
    counts, expected = np.array([30.0, 50.0, 20.0]), np.array([0.3, 0.4, 0.3])
    assert np.sqrt(chisquare(counts, expected * 100).statistic / 100) == pytest.approx(
        float(cohens_w(expected, counts / 100))
    )
    assert np.isfinite(cohens_w(np.array([1.0, 0.0]), np.array([0.0, 1.0])))


def test_the_areas_add_up_to_the_wasserstein_distance_and_never_exceed_it():
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.1, 1.0, 30.0):
        x, y = rng.standard_t(3, 2000), rng.standard_t(3, 500) + shift
        edges = quantile_edges(np.sort(x), 100)
        parts = []
        for sample in (x, y):
            code = np.searchsorted(edges, sample, side="right")
            share, total = (np.bincount(code, w, 100) / sample.size for w in (None, sample))
            parts.append(areas(share, total, edges))
        found, exact = np.abs(parts[0] - parts[1]).sum(), wasserstein_distance(x, y)
        assert 0.85 * exact <= found <= exact + 1e-9
