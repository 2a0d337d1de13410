import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from sklearn.covariance import ledoit_wolf

from mlops.errors import DataError
from mlops.risk.correlation.matrices import correlation, doubled_ranks
from mlops.risk.correlation.rolling import RollingCorrelation, rolling_correlation

KINDS = ["pearson", "spearman", "ewma", "shrunk"]


def _market(rng, days=60, units=12):
    return 0.01 * (rng.standard_t(4, (days, units)) + rng.uniform(0, 1.5, units) * rng.standard_t(4, (days, 1)))


def test_pearson_is_numpys():
    r = _market(np.random.default_rng(0))
    assert np.corrcoef(r.T) == pytest.approx(correlation(r).matrix, abs=1e-14)


def test_spearman_is_scipys_with_ties():
    r = np.round(_market(np.random.default_rng(1)), 2)
    assert spearmanr(r).statistic == pytest.approx(correlation(r, "spearman").matrix, abs=1e-14)


def test_ewma_is_pandas():
    r = _market(np.random.default_rng(2))
    expected = pd.DataFrame(r).ewm(alpha=0.06).corr().iloc[-12:].to_numpy()
    assert expected == pytest.approx(correlation(r, "ewma", decay=0.94).matrix, abs=1e-14)


@pytest.mark.parametrize("units", [2, 30, 100])
def test_shrunk_is_sklearns_on_standardised_returns(units):
    r = _market(np.random.default_rng(3), units=units)
    matrix, shrinkage = ledoit_wolf((r - r.mean(axis=0)) / r.std(axis=0), assume_centered=True)
    found = correlation(r, "shrunk")
    assert shrinkage == pytest.approx(found.shrinkage, abs=1e-13)
    assert matrix == pytest.approx(found.matrix, abs=1e-13)


@pytest.mark.parametrize("units", [5, 59, 60, 61, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_and_axes_are_those_of_the_matrix(kind, units):
    found = correlation(_market(np.random.default_rng(4), units=units), kind)
    assert np.linalg.eigvalsh(found.matrix)[::-1] == pytest.approx(found.eigenvalues, abs=1e-11)
    values, vectors = found.axes
    assert np.eye(len(values)) == pytest.approx(vectors.T @ vectors, abs=1e-9)
    rest = np.eye(units) - vectors @ vectors.T
    assert found.matrix == pytest.approx((vectors * values) @ vectors.T + found.shrinkage * rest, abs=1e-10)


def test_a_unit_that_does_not_move_is_left_out_and_named():
    r = _market(np.random.default_rng(5), units=4)
    r[:, 1], r[:, 3] = 0.0, 0.001
    found = correlation(r)
    assert found.columns.tolist() == [0, 2]
    assert dict.fromkeys([1, 3], "it did not move in 60 days") == dict(found.left_out)
    assert np.isfinite(found.matrix).all()


def test_a_duplicate_is_singular_and_fine():
    r = _market(np.random.default_rng(6), units=3)[:, [0, 1, 2, 2]]
    for kind in KINDS[:3]:
        found = correlation(r, kind)
        assert found.matrix[2, 3] == pytest.approx(1.0)
        assert found.eigenvalues[-1] == pytest.approx(0.0, abs=1e-12)
    assert correlation(r, "shrunk").eigenvalues[-1] > 0


def test_a_missing_day_says_nothing_and_too_many_leave_the_unit_out():
    r = _market(np.random.default_rng(7), units=3)
    r[10, 1], r[:7, 2] = np.nan, np.nan
    found = correlation(r)
    assert found.columns.tolist() == [0, 1]
    assert dict(found.left_out) == {2: "it has 53 of 60 days, 54 needed"}
    both = np.delete(r, 10, axis=0)
    assert found.matrix[0, 1] == pytest.approx(np.corrcoef(both[:, 0], both[:, 1])[0, 1], abs=0.02)


def test_ten_days_are_too_few_and_no_row_at_all_is_no_error():
    for days in (0, 1, 10):
        found = correlation(np.full((days, 2), 0.01))
        assert found.matrix.shape == (0, 0)
        assert len(found.left_out) == 2
        assert np.isnan(found.mean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_without_a_single_bar_is_left_out(kind):
    r = np.where(np.arange(3) == 1, np.nan, _market(np.random.default_rng(10), days=127, units=3))
    found = correlation(r, kind)
    assert dict(found.left_out) == {1: "it has 0 of 127 days, 115 needed"}


def test_infinity_and_a_wrong_shape_are_refused():
    with pytest.raises(DataError, match="finite"):
        correlation(np.array([[0.1, np.inf]]))
    with pytest.raises(DataError, match="shape"):
        correlation(np.zeros(5))
    with pytest.raises(DataError, match="kind must be one of"):
        correlation(np.zeros((30, 2)), "kendall")


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_ranks_are_scipys(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (rng.integers(2, 70), 3)).astype(float)
    values[rng.random(values.shape) < 0.1] = np.nan
    expected = 2 * rankdata(values, axis=0, nan_policy="omit")
    np.testing.assert_array_equal(expected, doubled_ranks(values))


@pytest.mark.parametrize("kind", KINDS)
def test_one_day_at_a_time_is_the_batch(kind):
    """With ties, gaps, a unit that comes and one that goes."""
    rng = np.random.default_rng(8)
    r = np.round(_market(rng, days=150, units=6), 3)
    r[rng.random(r.shape) < 0.02] = np.nan
    r[:50, 4], r[70:, 5] = np.nan, np.nan
    rolling = RollingCorrelation(kind=kind)
    for t, row in enumerate(r):
        now = rolling.update({f"u{i}": v for i, v in enumerate(row) if not np.isnan(v)})
        if t < 60:
            continue
        batch = correlation(r[t - 59 : t + 1], kind)
        names = [rolling.units[i] for i in now.columns]
        assert sorted(names) == [f"u{i}" for i in batch.columns]
        at = [names.index(f"u{i}") for i in batch.columns]
        assert batch.matrix == pytest.approx(now.matrix[np.ix_(at, at)], abs=1e-14)
    assert rolling.units == ["u0", "u1", "u2", "u3", "u4"]


def test_the_rolling_matrices_are_those_of_pandas():
    r = _market(np.random.default_rng(9), days=80, units=3)
    expected = pd.DataFrame(r).rolling(60).corr().dropna().to_numpy().reshape(-1, 3, 3)
    assert expected == pytest.approx(np.array([found.matrix for found in rolling_correlation(r)]), abs=1e-12)
