import numpy as np
import pytest
from scipy.stats import spearmanr

from mlops.errors import DataError
from mlops.risk.correlation.joint_losses import bleed_together, joint_losses
from mlops.types import Level


def _books(share, days=1000, seed=0):
    rng = np.random.default_rng(seed)
    z = np.sqrt(share) * rng.standard_normal((days, 1)) + np.sqrt(1 - share) * rng.standard_normal((days, 2))
    return 0.01 * z * np.sqrt(4 / rng.chisquare(4, (days, 1)))


def _found(r, **given):
    return {f.name: f for f in bleed_together(r, ("a", "b"), rng=np.random.default_rng(1), **given)}


def test_the_correlation_is_scipys_and_its_interval_holds_it():
    r = _books(0.4)
    found = _found(r)["strategy_correlation"]
    assert spearmanr(r).statistic == pytest.approx(found.value)
    assert found.params["low"] < found.value < found.params["high"]
    assert found.subject == "a + b"


def test_two_models_that_are_one_are_loud_and_two_strangers_are_quiet():
    loud, quiet = _found(_books(0.98)), _found(_books(0.0))
    assert {Level.ALERT} == {f.level for f in loud.values()}
    assert {Level.OK} == {f.level for f in quiet.values()}


def test_losses_that_come_together_are_seen_where_correlation_is_not():
    """On one day in ten both lose; on the others the books go against each other."""
    rng = np.random.default_rng(2)
    common = rng.standard_normal(2000)
    r = np.stack([common, -common], axis=1)
    bad = rng.permutation(2000)[:200]
    r[bad] = -3 - rng.random((200, 1))
    found = _found(r)
    assert found["strategy_correlation"].level is not Level.ALERT
    assert found["joint_losses"].level is Level.ALERT
    assert joint_losses(*r.T) > 0.98


def test_too_few_days_and_a_book_that_does_not_move_are_unknown():
    short = _found(_books(0.5, days=100))
    assert {(f.level, f.note) for f in short.values()} == {(Level.UNKNOWN, "100 days that both have, 250 needed")}
    r = _books(0.5)
    r[:, 1] = 0.0
    assert {f.note for f in _found(r).values()} == {"one of the two does not move"}
    r[:900, 1] = np.nan
    assert {f.n for f in _found(r).values()} == {100}
    assert bleed_together(r[:, :1], ("a",), rng=np.random.default_rng(0)) == ()


def test_three_books_are_three_pairs_and_the_seed_decides():
    r = np.hstack([_books(0.5), _books(0.5, seed=3)[:, :1]])
    first, second = (bleed_together(r, "abc", rng=np.random.default_rng(4), paths=50) for _ in range(2))
    assert [f.subject for f in first[::2]] == ["a + b", "a + c", "b + c"]
    assert first == second


def test_a_name_for_each_column_is_asked_for():
    with pytest.raises(DataError, match="returns must be finite"):
        bleed_together(np.zeros((300, 3)), ("a", "b"), rng=np.random.default_rng(0))
