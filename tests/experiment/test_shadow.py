import numpy as np
import pytest

from mlops.errors import DataError
from mlops.experiment import curve_metrics


def test_the_metrics_of_a_curve_are_those_by_hand():
    equity = np.array([100.0, 110.0, 99.0, 121.0])
    returns = np.array([0.1, -0.1, 22 / 99])
    found = curve_metrics(equity, traded=[10.0, 0.0, 0.0, 12.1], bars_per_year=252)
    assert returns.mean() / returns.std(ddof=1) * np.sqrt(252) == pytest.approx(found.sharpe)
    assert 0.1 == pytest.approx(found.max_drawdown)
    assert 0.05 * 252 == pytest.approx(found.turnover)


def test_a_flat_or_empty_curve_has_no_sharpe_and_no_drawdown():
    for curve in ([], [1.0], [1.0, 1.0, 1.0]):
        assert (0.0, 0.0, 0.0) == (lambda m: (m.sharpe, m.max_drawdown, m.turnover))(curve_metrics(curve))


def test_a_curve_must_be_positive_and_aligned():
    with pytest.raises(DataError, match="equity must be positive"):
        curve_metrics([1.0, -1.0])
    with pytest.raises(DataError, match="as many bars"):
        curve_metrics([1.0, 1.0], [1.0])
