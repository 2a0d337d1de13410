"""Power where no formula holds: by drawing worlds in which the effect is there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlops.stats.dependent import Floats
from mlops.stats.power import least_rows
from mlops.stats.results import ALPHA, POWER, Estimate, HypothesisTest, check_share

Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats]]  # n -> both samples, or both of the pairs
Test = Callable[[Floats, Floats], HypothesisTest]

RUNS = 1000  # standard error 1.3 points at a power of 80 %


def simulated_power(
    test: Test, draw: Draw, n: int, *, rng: np.random.Generator, runs: int = RUNS, alpha: float = ALPHA
) -> Estimate:
    """Share of drawn worlds in which `test` rejects at `alpha`; in a world without an effect, its size.

    The interval is Clopper and Pearson's at 95 %: the error of the simulation, not of the world that was assumed. An
    unknown test counts as no rejection.

    Parameters
    ----------
    test : callable
        Any test of this package of two samples, e.g. `ks_test`.
    draw : callable
        `draw(rng, n)` gives the two samples for `n` rows, with whatever law and dependence the question has.

    Examples
    --------
    >>> import numpy as np
    >>> from mlops.stats.ranks import ks_test
    >>> def shifted(rng, n):
    ...     return rng.normal(size=n), rng.normal(0.5, 1.0, size=n)
    >>> 0.7 < simulated_power(ks_test, shifted, 80, rng=np.random.default_rng(0), runs=200).value < 0.9
    True
    """
    from statsmodels.stats.proportion import proportion_confint  # late: a tenth of a second

    level = check_share(alpha, "alpha")
    hits = sum(bool(test(*draw(rng, n)).p_value <= level) for _ in range(runs))
    low, high = proportion_confint(hits, runs, alpha=0.05, method="beta")
    return Estimate("power", hits / runs, float(low), float(high), runs)


def simulated_sample_size(
    test: Test,
    draw: Draw,
    *,
    rng: np.random.Generator,
    power: float = POWER,
    alpha: float = ALPHA,
    runs: int = RUNS,
    least: int = 8,
    most: int = 20_000,
) -> int | None:
    """Rows, as `draw` counts them, at which `simulated_power` reaches `power`; None above `most`.

    Found by halving between `least` and `most`, each size with its own draws from one seed, so it is exact to the error
    of a simulation of `runs` worlds: some 4 % of the rows at 1,000.

    Examples
    --------
    >>> import numpy as np
    >>> from mlops.stats.means import dependent_t
    >>> def shifted(rng, n):
    ...     return rng.normal(size=n), rng.normal(0.5, 1.0, size=n)
    >>> 55 < simulated_sample_size(dependent_t, shifted, rng=np.random.default_rng(0), runs=100) < 110
    True
    """
    seed = int(rng.integers(2**63))

    def at(n: int) -> float:
        if n > most:
            return 1.0
        return simulated_power(test, draw, n, rng=np.random.default_rng([seed, n]), runs=runs, alpha=alpha).value

    rows = least_rows(at, power=power, least=least)
    return rows if rows is not None and rows <= most else None
