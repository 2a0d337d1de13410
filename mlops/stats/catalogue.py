"""The tests of two samples by name. A new one is a function and a line here; the contract tests find it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlops.stats.counts import chi_square, mcnemar
from mlops.stats.means import dependent_t, paired_t, welch_t
from mlops.stats.ranks import ks_test, mann_whitney
from mlops.stats.results import HypothesisTest

# Samples x and y, and `alpha` by keyword. McNemar takes hits (0 or 1).
PAIRED_TESTS: Mapping[str, Callable[..., HypothesisTest]] = {
    "paired_t": paired_t,
    "dependent_t": dependent_t,
    "mcnemar": mcnemar,
}
UNPAIRED_TESTS: Mapping[str, Callable[..., HypothesisTest]] = {
    "welch_t": welch_t,
    "mann_whitney": mann_whitney,
    "ks": ks_test,
    "chi_square": chi_square,
}
