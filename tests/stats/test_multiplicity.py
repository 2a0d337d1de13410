import numpy as np
import pytest

from mlops.errors import DataError
from mlops.stats import benjamini_hochberg, e_bh, e_from_p, holm

P = np.array([0.001, np.nan, 0.012, 0.04, 0.3])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_unknown_tests_stay_unknown_and_do_not_count(adjust):
    adjusted = adjust(P)
    assert np.isnan(adjusted[1])
    assert adjust(P[~np.isnan(P)]).tolist() == adjusted[[0, 2, 3, 4]].tolist()
    assert (adjusted[[0, 2, 3, 4]] >= P[[0, 2, 3, 4]]).all()
    assert 0 == adjust([]).size
    assert np.isnan(adjust([np.nan])).all()


def test_holm_is_the_harder():
    assert (holm(P[[0, 2, 3]]) >= benjamini_hochberg(P[[0, 2, 3]])).all()


def test_e_values_are_rejected_by_the_rule_of_the_paper():
    assert [True, True, False] == e_bh([60.0, 30.0, 1.0]).tolist()  # 3 / (0.05 k) = 60, 30, 20
    assert [False] * 3 == e_bh([59.0, 29.0, 1.0]).tolist()
    assert [True, False, False] == e_bh([np.inf, np.nan, 1.0]).tolist()
    assert [] == e_bh([]).tolist()


def test_a_p_value_becomes_a_weaker_e_value():
    assert e_from_p([0.01])[0] < 1 / 0.01
    assert 1.0 == pytest.approx(e_from_p(np.random.default_rng(0).random(400_000) ** 1.0).mean(), rel=0.05)


@pytest.mark.parametrize(("p", "rule"), [([[0.1]], "one dimension"), ([1.2], r"lie in \[0, 1\]"), ([-0.1], "lie in")])
def test_what_is_no_p_value_is_refused(p, rule):
    with pytest.raises(DataError, match=rule):
        holm(p)
