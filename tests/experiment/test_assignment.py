import pytest

from mlops import experiment
from mlops.errors import DataError

UNITS = [f"unit-{i}" for i in range(20_000)]


def assign(units, *, salt, split):
    """True where the champion trades the unit, of two arms."""
    return experiment.assign(units, salt=salt, weights={7: 1 - split}, champion=3) == 3


def test_a_unit_stays_with_its_arm_whoever_else_is_there():
    alone = assign(["AAPL"], salt="x", split=0.5)
    crowd = assign([*UNITS, "AAPL", "AAPL"], salt="x", split=0.5)
    assert alone[0] == crowd[-1] == crowd[-2]


def test_the_split_is_as_asked_and_a_salt_assigns_anew():
    first, second = (assign(UNITS, salt=salt, split=0.9) for salt in "ab")
    assert 0.9 == pytest.approx(first.mean(), abs=0.01)
    assert 0.82 == pytest.approx((first == second).mean(), abs=0.01)  # independent: 0.9^2 + 0.1^2


def test_a_wider_split_only_moves_units_to_the_champion():
    narrow, wide = (assign(UNITS[:2000], salt="s", split=split) for split in (0.5, 0.9))
    assert (wide | ~narrow).all()


def test_the_assignment_never_changes_between_releases():
    assert [False, True, False, True] == assign(["AAPL", "MSFT", "XOM", "GE"], salt="volatility-1", split=0.5).tolist()


def test_the_ends_and_an_empty_assignment():
    assert assign(UNITS, salt="s", split=1.0).all()
    assert not assign(UNITS, salt="s", split=0.0).any()
    assert 0 == len(assign([], salt="s", split=0.5))
    with pytest.raises(DataError, match="weights must be shares"):
        assign(UNITS, salt="s", split=90)


def test_each_arm_gets_its_share_and_the_champion_the_rest():
    assigned = experiment.assign([*UNITS, UNITS[0]], salt="s", weights={8: 0.05, 9: 0.0, 7: 0.2}, champion=3)
    shares = {version: float((assigned == version).mean()) for version in (3, 7, 8, 9)}
    assert {3: 0.75, 7: 0.2, 8: 0.05, 9: 0.0} == pytest.approx(shares, abs=0.01)
    assert assigned[0] == assigned[-1]
    assert 0 == len(experiment.assign([], salt="s", weights={7: 0.5}, champion=3))


@pytest.mark.parametrize("weights", [{7: -0.1}, {7: 1.5}, {7: float("nan")}, {7: 0.6, 8: 0.6}])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(DataError, match="weights must be shares"):
        experiment.assign(UNITS[:2], salt="s", weights=weights, champion=3)
