import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.measures import component_loss, marginal_loss, var_es
from mlops.risk.var import revaluation
from mlops.risk.var.revaluation import ScenarioBook


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    return rng, rng.standard_t(4, (1000, 300)) * 0.01, rng.normal(0, 1 / 300, 300)


def test_it_says_what_double_precision_says(world):
    rng, scenarios, weights = world
    book, exact = ScenarioBook(scenarios, weights), var_es(scenarios @ weights)
    assert exact.var == pytest.approx(book.loss().var, rel=1e-5)
    assert exact.es == pytest.approx(book.loss().es, rel=1e-5)


@pytest.mark.parametrize("fresh", [7, 10_000])
def test_a_thousand_moves_end_where_a_revaluation_does(world, fresh, monkeypatch):
    monkeypatch.setattr(revaluation, "FRESH", fresh)
    rng, scenarios, weights = world
    book = ScenarioBook(scenarios, weights)
    for position in rng.integers(0, 300, 1000):
        book.move(int(position), float(rng.normal(0, 1 / 300)))
    again = ScenarioBook(scenarios, book.weights)
    assert again.pnl == pytest.approx(book.pnl, abs=1e-7)
    assert again.loss(0.95).es == pytest.approx(book.loss(0.95).es, rel=1e-5)


def test_components_are_those_of_the_plain_functions(world):
    _, scenarios, weights = world
    groups = np.arange(300) % 40
    found = ScenarioBook(scenarios, weights).components(groups=groups)
    exact = component_loss(marginal_loss(scenarios, weights), weights, groups)
    assert exact.es == pytest.approx(found.es, rel=1e-4, abs=1e-8)
    assert ScenarioBook(scenarios, weights).loss().var == pytest.approx(found.var.sum(), rel=1e-6)


def test_the_weights_of_the_caller_are_left_alone(world):
    _, scenarios, weights = world
    before = weights.copy()
    ScenarioBook(scenarios, weights).move(0, 5.0)
    assert np.array_equal(before, weights)


@pytest.mark.parametrize(
    ("scenarios", "weights"),
    [
        ([[0.1, np.nan]], [1, 1]),
        ([0.1, 0.2], [1, 1]),
        (np.empty((0, 2)), [1, 1]),
        ([[0.1, 0.2]], [1]),
        ([[0.1]], [np.nan]),
    ],
)
def test_what_does_not_fit_is_refused(scenarios, weights):
    with pytest.raises(DataError):
        ScenarioBook(scenarios, weights)


def test_a_price_that_is_not_known_does_not_become_a_weight(world):
    _, scenarios, weights = world
    with pytest.raises(DataError, match="weight must be finite"):
        ScenarioBook(scenarios, weights).move(0, float("nan"))
