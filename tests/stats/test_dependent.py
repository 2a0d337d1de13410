import numpy as np
import pytest
from scipy.stats import t

from mlops.errors import DataError
from mlops.stats import ewc_dof, ewc_statistic, ewc_test


def _by_hand(x):
    """Lazarus et al. (2018), equations 3 and 4, term by term."""
    n = len(x)
    nu = round(0.4 * n ** (2 / 3))
    waves = [np.sqrt(2 / n) * sum(x[i] * np.cos(np.pi * j * (i + 0.5) / n) for i in range(n)) for j in range(1, nu + 1)]
    return np.mean(x) / np.sqrt(np.mean(np.square(waves)) / n), nu


def test_the_statistic_equals_the_formula_of_the_paper():
    x = np.random.default_rng(0).normal(0.2, 1, 120)

    expected, nu = _by_hand(x)

    result = ewc_test(x)
    assert expected == pytest.approx(result.statistic, rel=1e-12)
    assert nu == result.dof == ewc_dof(120)
    assert t.sf(expected, nu) == pytest.approx(result.p_greater, rel=1e-12)


def test_rows_of_a_table_are_tested_each_on_its_own():
    x = np.random.default_rng(1).normal(size=(3, 50))
    assert [ewc_test(row).statistic for row in x] == pytest.approx(list(ewc_statistic(x)[1]))


def test_turning_the_sign_turns_the_p_value():
    x = np.random.default_rng(2).normal(0.1, 1, 80)
    assert ewc_test(x).p_greater == pytest.approx(1 - ewc_test(-x).p_greater)


def test_two_equal_models_are_no_evidence():
    assert (0.0, 0.5) == (ewc_test(np.zeros(50)).statistic, ewc_test(np.zeros(50)).p_greater)


def test_the_cautious_error_is_never_the_smaller():
    x = np.random.default_rng(3).normal(0.3, 1, (200, 60))
    assert (np.abs(ewc_statistic(x, cautious=True)[1]) <= np.abs(ewc_statistic(x)[1]) + 1e-12).all()


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        ([0.0] * 7, "at least 8 values, got 7"),
        ([[0.0] * 9], "one dimension, got 2"),
        ([0.0] * 8 + [np.nan], "finite, got nan at position 8"),
    ],
)
def test_what_cannot_be_tested_is_refused(x, rule):
    with pytest.raises(DataError, match=rule):
        ewc_test(x)
