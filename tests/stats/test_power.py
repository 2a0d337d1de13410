import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import (
    chi_square_power,
    chi_square_sample_size,
    ks_test,
    least_rows,
    mann_whitney_power,
    mann_whitney_sample_size,
    mcnemar,
    mcnemar_power,
    mcnemar_sample_size,
    shares_power,
    shares_sample_size,
    simulated_power,
    simulated_sample_size,
    t_power,
    t_sample_size,
    trades_needed,
    variance_inflation,
    years_needed,
)
from mlops.stats.results import rows_needed

PAIRS = [
    (lambda n: t_power(0.3, n), lambda: t_sample_size(0.3)),
    (lambda n: t_power(0.3, n, paired=True), lambda: t_sample_size(0.3, paired=True)),
    (lambda n: shares_power(0.5, 0.6, n, ratio=3.0), lambda: shares_sample_size(0.5, 0.6, ratio=3.0)),
    (lambda n: mcnemar_power(0.03, n, discordance=0.2), lambda: mcnemar_sample_size(0.03, discordance=0.2)),
    (lambda n: mann_whitney_power(0.6, n), lambda: mann_whitney_sample_size(0.6)),
    (lambda n: chi_square_power(0.2, n, dof=3), lambda: chi_square_sample_size(0.2, dof=3)),
]


@pytest.mark.parametrize(("power", "size"), PAIRS)
def test_the_sample_size_is_the_first_that_reaches_the_power(power, size):
    n = size()
    assert power(n - 1) < 0.8 <= power(n)


@pytest.mark.parametrize(
    "power",
    [
        lambda alpha: t_power(0.0, 50, alpha=alpha),
        lambda alpha: shares_power(0.5, 0.5, 50, alpha=alpha),
        lambda alpha: mcnemar_power(0.0, 50, discordance=0.2, alpha=alpha),
        lambda alpha: mann_whitney_power(0.5, 50, alpha=alpha),
        lambda alpha: chi_square_power(0.0, 50, dof=2, alpha=alpha),
    ],
)
def test_without_an_effect_the_power_is_the_size(power):
    assert 0.05 == pytest.approx(power(0.05), abs=1e-6)
    assert 0.01 == pytest.approx(power(0.01), abs=1e-6)


def test_no_effect_is_never_seen():
    assert t_sample_size(0.0) is None
    assert shares_sample_size(0.5, 0.5) is None
    assert mcnemar_sample_size(0.0, discordance=0.2) is None
    assert mann_whitney_sample_size(0.5) is None
    assert chi_square_sample_size(0.0, dof=1) is None
    assert trades_needed(0.0) is None
    assert np.inf == years_needed(0.0)
    assert rows_needed(100, 0.0) is None
    assert rows_needed(100, 1e-9) is None
    assert least_rows(lambda n: 0.0) is None


def test_a_gain_beyond_the_discordance_cannot_be():
    with pytest.raises(DataError, match="discordance must lie in"):
        mcnemar_power(0.3, 100, discordance=0.2)
    with pytest.raises(DataError, match="inflation must be at least 1"):
        trades_needed(0.02, inflation=0.5)
    with pytest.raises(DataError, match="p_y must lie between 0 and 1"):
        trades_needed(0.5, rate=0.55)


def test_overlapping_labels_need_as_many_more_trades_as_they_overlap():
    rng = np.random.default_rng(0)
    overlap = np.convolve(rng.normal(size=20_000), np.ones(5), "valid")
    assert 5 == pytest.approx(variance_inflation(overlap), rel=0.2)
    assert 1 == pytest.approx(variance_inflation(rng.normal(size=20_000)), rel=0.2)
    assert 5 * 3923 == trades_needed(0.02, discordance=0.2, inflation=5)
    assert np.isnan(variance_inflation(np.ones(20)))


def test_simulation_agrees_with_the_formula():
    def hits(rng, n):
        kind = rng.choice(3, size=n, p=[0.13, 0.07, 0.8])
        return (kind == 0).astype(float), (kind == 1).astype(float)

    found = simulated_power(mcnemar, hits, 500, rng=np.random.default_rng(0), runs=400)
    assert found.low < mcnemar_power(0.06, 500, discordance=0.2) < found.high
    n = simulated_sample_size(mcnemar, hits, rng=np.random.default_rng(1), runs=200)
    assert mcnemar_sample_size(0.06, discordance=0.2) == pytest.approx(n, rel=0.15)


def test_what_takes_too_many_rows_is_not_sought_for_ever():
    def same(rng, n):
        return rng.normal(size=n), rng.normal(size=n)

    assert simulated_sample_size(ks_test, same, rng=np.random.default_rng(0), runs=10, most=64) is None


def test_one_seed_gives_one_power():
    def shifted(rng, n):
        return rng.normal(size=n), rng.normal(0.4, 1, n)

    one, other = (simulated_power(ks_test, shifted, 60, rng=np.random.default_rng(3), runs=50) for _ in range(2))
    assert one == other
