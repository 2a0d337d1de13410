import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import (
    chi_square,
    chi_square_table,
    cohens_d,
    mcnemar,
    mcnemar_sample_size,
    mcnemar_table,
    odds_ratio,
    paired_difference,
    paired_odds_ratio,
    risk_difference,
)


def test_rows_of_categories_are_their_table():
    x, y = [3, 1, 1, 2], [2, 2, 3, 3, 3]
    assert chi_square_table([[2, 1, 1], [0, 2, 3]]) == chi_square(x, y)


def test_an_empty_category_is_none():
    assert chi_square_table([[30, 10], [20, 20]]) == chi_square_table([[30, 0, 10], [20, 0, 20]])


@pytest.mark.parametrize("table", [[[5, 5], [0, 0]], [[5, 0], [3, 0]]])
def test_one_row_or_one_category_is_unknown(table):
    assert not chi_square_table(table).known


def test_small_expected_counts_are_told():
    assert "expected count of 2.0" in chi_square_table([[3, 17], [1, 19]]).note
    assert not chi_square_table([[30, 10], [20, 20]]).note


def test_the_most_different_rows_have_the_largest_effect():
    assert 1.0 == pytest.approx(chi_square_table([[10, 0], [0, 10]]).effect.value)
    assert 0.0 == chi_square_table([[10, 10], [10, 10]]).effect.low


def test_equal_rows_do_not_prove_that_there_is_no_difference():
    assert chi_square_table([[10, 10], [10, 10]]).effect.high > 0.3


def test_hits_are_their_table():
    x, y = np.array([1, 1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 0, 0])
    assert mcnemar_table([[1, 3], [1, 1]]) == mcnemar(x, y)


def test_a_difference_of_hits_has_the_sign_of_the_better():
    found = mcnemar_table([[794, 150], [86, 570]])
    assert 0.04 == pytest.approx(found.effect.value)
    assert found.n_needed == mcnemar_sample_size(0.04, discordance=236 / 1600)


def test_models_that_never_differ_are_no_evidence():
    found = mcnemar_table([[50, 0], [0, 50]])
    assert (1.0, 0.0) == (found.p_value, found.effect.value)
    assert found.effect.low < 0 < found.effect.high


@pytest.mark.parametrize("method", ["exact", "mid-p"])
def test_as_many_for_as_against_is_no_evidence(method):
    assert 1.0 == pytest.approx(mcnemar_table([[0, 7], [7, 0]], method=method).p_value)
    assert mcnemar_table([[0, 7], [7, 0]], method=method).n_needed is None


@pytest.mark.parametrize(
    "table", [[[1, 2, 3], [1, 2, 3]], [[1, -1], [1, 1]], [[0.5, 1], [1, 1]], [[1, np.nan], [1, 1]]]
)
def test_what_is_no_table_of_counts_is_refused(table):
    with pytest.raises(DataError, match="table must"):
        mcnemar_table(table)


def test_probabilities_are_no_hits():
    with pytest.raises(DataError, match="x and y must be 0 or 1"):
        mcnemar([0.3, 1.0], [1.0, 0.0])


def test_the_interval_of_a_paired_difference_stays_in_its_bounds():
    assert -1.0 <= paired_difference(0, 3, 3).low <= paired_difference(3, 0, 3).high <= 1.0


def test_a_zero_count_still_has_an_odds_ratio():
    found = odds_ratio([[10, 0], [5, 5]])
    assert "one half" in found.note
    assert 0 < found.low < found.value < found.high < np.inf
    assert np.inf == odds_ratio([[10, 0], [5, 5]], kind="conditional").high


def test_exchanged_rows_turn_the_odds_over():
    one, other = odds_ratio([[30, 10], [20, 20]]), odds_ratio([[20, 20], [30, 10]])
    assert (one.value, one.low, one.high) == pytest.approx((1 / other.value, 1 / other.high, 1 / other.low))


def test_nothing_has_no_odds():
    assert not odds_ratio([[0, 0], [5, 5]]).known
    assert not paired_odds_ratio(0, 0).known
    assert not risk_difference(0, 0, 1, 2).known
    with pytest.raises(DataError, match="2 x 2"):
        odds_ratio([[1, 2, 3]])
    with pytest.raises(DataError, match="wins must lie between 0 and the trades, got 3 of 2"):
        risk_difference(3, 2, 0, 2)


def test_who_always_wins_has_infinite_odds():
    found = paired_odds_ratio(5, 0)
    assert (np.inf, np.inf) == (found.value, found.high)
    assert 0 == paired_odds_ratio(0, 5).low
    assert cohens_d([1.0], [1.0]).n == 2
