"""What the book of this second may lose, and whose loss that would be."""

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.measures import Loss
from mlops.risk.var.fitted import fit
from mlops.risk.var.snapshot import Options, snapshot


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    market = rng.standard_t(4, 2000) * 0.008
    return (market[:, None] + rng.normal(0, 0.01, (2000, 4))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(world):
    return fit("evt_gjr", world.mean(axis=1))


W = np.array([0.4, 0.3, -0.2, 0.0])


def test_components_add_up_to_the_headline_which_is_the_models(world, fitted):
    found = snapshot(world, W, fitted, confidence=0.99)

    past = (world @ W.astype(np.float32)).astype(float)
    assert found.loss.var == pytest.approx(float(fitted.now(past, (0.99,)).var[0]))
    assert found.loss.var == pytest.approx(found.component_var.sum())
    assert found.loss.es == pytest.approx(found.component_es.sum())
    assert 0.0 == found.component_var[3]
    assert found.component_es[2] < 0, "a short against a common market is a hedge"


def test_a_book_twice_as_large_loses_twice_as_much(world, fitted):
    once, twice = snapshot(world, W, fitted), snapshot(world, 2 * W, fitted)

    assert 2 * once.loss.var == pytest.approx(twice.loss.var, rel=1e-5)
    np.testing.assert_allclose(2 * once.component_es, twice.component_es, rtol=1e-4)


def test_nothing_held_loses_nothing(world, fitted):
    found = snapshot(world, np.zeros(4), fitted)

    assert Loss(0.0, 0.0) == found.loss
    assert not found.component_var.any()


def test_a_longer_horizon_scales_the_headline_and_all_its_parts(world, fitted):
    one, ten = snapshot(world, W, fitted), snapshot(world, W, fitted, growth=Loss(3.0, 3.5))

    assert 3.0 * one.loss.var == pytest.approx(ten.loss.var)
    assert 3.5 * one.loss.es == pytest.approx(ten.loss.es)
    assert ten.loss.var == pytest.approx(ten.component_var.sum())


def test_options_without_curvature_are_what_their_deltas_are(world, fitted):
    linear = Options(np.array([0.0, 0.0, 0.0, 0.3]), lambda r: (0.3 * r[:, [3]]).astype(float))

    found = snapshot(world, W, fitted, options=linear)
    plain = snapshot(world, W + linear.deltas, fitted)

    assert plain.loss.var == pytest.approx(found.loss.var, rel=1e-4)
    assert 0.0 == pytest.approx(found.curvature, abs=1e-6)
    assert 5 == len(found.component_var)
    assert plain.component_es[3] == pytest.approx(found.component_es[4], rel=1e-2)


@pytest.mark.parametrize(("sign", "worse"), [(1.0, False), (-1.0, True)])
def test_convexity_that_is_held_lowers_the_loss_and_convexity_that_is_sold_raises_it(world, fitted, sign, worse):
    straddle = Options(np.zeros(4), lambda r: sign * 20.0 * r[:, [0]].astype(float) ** 2)

    found, plain = snapshot(world, W, fitted, options=straddle), snapshot(world, W, fitted)

    assert worse == (found.loss.var > plain.loss.var)
    assert worse == (found.curvature > 0)
    assert found.loss.var == pytest.approx(found.component_var.sum())
    assert found.loss.es >= found.loss.var


def test_too_short_a_past_is_refused_by_name(world, fitted):
    with pytest.raises(DataError, match="returns must be"):
        snapshot(world[-10:], W, fitted)
