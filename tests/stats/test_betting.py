from itertools import product

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import anytime_mcnemar, bounded_confidence_sequence, bounded_e_process
from mlops.stats.betting import STAKES


def test_its_mean_is_exactly_one_under_the_null_and_less_inside_it():
    values, rows = np.array([-1.0, 0.0, 1.0]), np.array(list(product(range(3), repeat=5)))
    e = np.array([bounded_e_process(values[row])[-1] for row in rows])
    fair, worse = np.array([0.2, 0.6, 0.2]), np.array([0.3, 0.5, 0.2])
    assert 1.0 == pytest.approx(float((fair[rows].prod(axis=1) * e).sum()))
    assert float((worse[rows].prod(axis=1) * e).sum()) < 0.95


def test_the_chance_that_it_is_ever_wrong_is_under_alpha_by_counting_every_way():
    """Discordant pairs at even odds, 400 of them, looked at after each: exact, by the number of wins so far."""
    alive, crossed = np.array([1.0]), 0.0
    for pairs in range(1, 401):
        alive = (np.append(alive, 0.0) + np.append(0.0, alive)) / 2
        wins = np.arange(pairs + 1)[:, None]
        stakes = wins * np.log1p(STAKES) + (pairs - wins) * np.log1p(-STAKES)
        over = np.exp(stakes).mean(axis=1) >= 20
        crossed += alive[over].sum()
        alive[over] = 0.0
    print(f"anytime McNemar, 400 discordant pairs: ever proven {crossed:.2%} of equal ones")
    assert 0.01 < crossed <= 0.05


def test_all_wins_pay_what_the_stakes_won():
    assert np.mean((1 + STAKES) ** 12) == pytest.approx(anytime_mcnemar([1] * 12, [0] * 12).e_value)


def test_the_bounds_are_where_the_e_value_reaches_two_over_alpha():
    x = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 500, p=[0.1, 0.7, 0.2])
    seen = bounded_confidence_sequence(x, alpha=0.1)
    assert -1 < seen.lower < x.mean() < seen.upper < 1
    assert 20.0 == pytest.approx(bounded_confidence_sequence(x, margin=seen.lower).e_value, rel=1e-6)
    assert 20.0 == pytest.approx(bounded_confidence_sequence(-x, margin=-seen.upper).e_value, rel=1e-6)


def test_the_path_ends_where_the_last_row_says_and_order_does_not_matter():
    x = np.random.default_rng(1).uniform(-1, 1, 300)
    path = bounded_e_process(x, margin=0.05)
    assert path[-1] == pytest.approx(bounded_confidence_sequence(x, margin=0.05).e_value)
    assert path[99] == pytest.approx(bounded_e_process(x[:100], margin=0.05)[-1])
    assert path[-1] == pytest.approx(bounded_confidence_sequence(x[::-1], margin=0.05).e_value)


def test_pairs_on_which_both_agree_say_nothing_about_which_is_better():
    x, y = [1, 0, 1, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0, 1]
    assert anytime_mcnemar(x, y).e_value == pytest.approx(anytime_mcnemar([*x, *[1] * 90], [*y, *[1] * 90]).e_value)


def test_exchanging_the_models_mirrors_the_interval():
    rng = np.random.default_rng(2)
    x, y = (rng.random(200) < 0.6).astype(float), (rng.random(200) < 0.5).astype(float)
    there, back = anytime_mcnemar(x, y), anytime_mcnemar(y, x)
    assert [there.lower, there.upper] == pytest.approx([-back.upper, -back.lower], abs=1e-9)
    assert there.n_needed == back.n_needed


def test_a_margin_asks_for_more():
    x = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 800, p=[0.1, 0.7, 0.2])
    e = [bounded_confidence_sequence(x, margin=margin).e_value for margin in (-0.05, 0.0, 0.05)]
    assert sorted(e, reverse=True) == e


def test_it_tells_how_many_rows_the_present_estimate_needs():
    few = bounded_confidence_sequence([1.0] * 9 + [-1.0] * 5 + [0.0] * 30)
    assert 44 < few.n_needed < 1000
    times = few.n_needed // 44
    once, more = (bounded_confidence_sequence(([1.0] * 9 + [-1.0] * 5 + [0.0] * 30) * k) for k in (times, times + 1))
    assert once.lower <= 0 < more.lower
    assert bounded_confidence_sequence([1.0, -1.0]).n_needed is None
    sure = bounded_confidence_sequence([1.0] * 30)
    assert 30 == sure.n_needed
    assert 1.0 == pytest.approx(sure.upper)


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_rows_at_a_bound_have_an_interval_that_ends_there(end):
    seen = bounded_confidence_sequence([end] * 50)
    assert end == pytest.approx(seen.upper if end > 0 else seen.lower)
    assert seen.upper - seen.lower < 0.5


def test_no_rows_say_nothing():
    seen = anytime_mcnemar([], [])
    assert (0, -1.0, 1.0, 1.0, None) == (seen.n, seen.lower, seen.upper, seen.p_value, seen.n_needed)


def test_values_outside_the_bounds_are_refused():
    with pytest.raises(DataError, match=r"x must lie in \[-1.0, 1.0\], got 0.0 to 2.0"):
        bounded_confidence_sequence([0.0, 2.0])
    with pytest.raises(DataError, match="margin must lie between low and high"):
        bounded_e_process([0.0], margin=1.0)
    with pytest.raises(DataError, match="x and y must be 0 or 1"):
        anytime_mcnemar([0.7], [1.0])
    with pytest.raises(DataError, match="same length"):
        anytime_mcnemar([1.0, 0.0], [1.0])
