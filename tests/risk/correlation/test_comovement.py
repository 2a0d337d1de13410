import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.correlation.breakdown import State
from mlops.risk.correlation.comovement import comovement
from mlops.risk.correlation.threshold import Calibration

FOUND = Calibration(threshold=0.8, shifting=0.5, chance_per_year=0.1, units=6, days=1000, window=60)


def _returns(units=6, days=130, seed=0):
    rng = np.random.default_rng(seed)
    return 0.01 * (rng.standard_normal((days, units)) + 0.7 * rng.standard_normal((days, 1)))


def test_the_page_has_the_matrix_its_change_and_the_state():
    r = _returns()
    found = comovement(r, np.full(6, 1 / 6), FOUND)
    o = found.order
    now, before = np.corrcoef(r[-60:].T), np.corrcoef(r[-120:-60].T)
    assert now[np.ix_(o, o)] == pytest.approx(found.matrix)
    assert (now - before)[np.ix_(o, o)] == pytest.approx(found.change, abs=1e-12)
    assert found.breakdown.state is State.CALM
    assert found.mean == pytest.approx(now[np.triu_indices(6, 1)].mean())
    assert 1 <= found.bets < found.dimension < 6
    assert found.held.names == pytest.approx(6.0)
    assert found.uncovered == 0.0


def test_a_unit_without_a_correlation_is_named_and_its_weight_is_told():
    r = _returns()
    r[:, 1], r[-100:-70, 2] = 0.0, np.nan
    found = comovement(r, np.array([0.1, 0.3, 0.0, 0.2, -0.2, 0.2]), FOUND)
    assert set(found.order.tolist()) == {0, 2, 3, 4, 5}
    assert list(found.left_out) == [1]
    assert found.uncovered == pytest.approx(0.3)
    new = found.order.tolist().index(2)
    assert np.isnan(found.change[new]).all()
    assert np.isfinite(np.delete(np.delete(found.change, new, 0), new, 1)).all()
    assert np.isfinite(found.matrix).all()


def test_no_book_no_history_and_no_calibration_are_no_error():
    empty = comovement(_returns(), np.zeros(6))
    assert np.isnan([empty.diversification_ratio, empty.bets, empty.held.hhi, empty.risk.hhi]).all()
    assert empty.breakdown.state is State.UNKNOWN
    assert empty.breakdown.note.endswith("no threshold: not calibrated yet")
    young = comovement(_returns(days=10), np.full(6, 0.1))
    assert young.matrix.shape == (0, 0)
    assert young.uncovered == 1.0
    half = comovement(_returns(days=70), np.full(6, 0.1))
    assert np.isnan(half.change).all()
    assert half.matrix.shape == (6, 6)
    assert comovement(np.empty((0, 0)), np.empty(0)).order.tolist() == []


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="weights must be 6 finite numbers"):
        comovement(_returns(), np.zeros(5))
    with pytest.raises(DataError, match="weights must be 6 finite numbers"):
        comovement(_returns(), np.array([np.nan, 0, 0, 0, 0, 0]))
