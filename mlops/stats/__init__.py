"""Pure mathematics on arrays: tests that stay honest on dependent series. Imports nothing of ours but errors."""

from mlops.stats.bars import by_bar, constant_forecast
from mlops.stats.blocks import bar_counts, block_p_value, block_shares
from mlops.stats.change import CusumResult, calibrate_cusum, cusum, cusum_path
from mlops.stats.dependent import EwcResult, ewc_dof, ewc_error, ewc_statistic, ewc_test, finite_series
from mlops.stats.divergence import psi, psi_shares, quantile_edges
from mlops.stats.resample import stationary_indices
from mlops.stats.scores import accuracy, auc, brier, hits, log_loss, log_losses
from mlops.stats.sequential import SequentialResult, look_times, nominal_levels, sequential_test
from mlops.stats.twosample import ks_distance

__all__ = [
    "CusumResult",
    "EwcResult",
    "SequentialResult",
    "accuracy",
    "auc",
    "bar_counts",
    "block_p_value",
    "block_shares",
    "brier",
    "by_bar",
    "calibrate_cusum",
    "constant_forecast",
    "cusum",
    "cusum_path",
    "ewc_dof",
    "ewc_error",
    "ewc_statistic",
    "ewc_test",
    "finite_series",
    "hits",
    "ks_distance",
    "log_loss",
    "log_losses",
    "look_times",
    "nominal_levels",
    "psi",
    "psi_shares",
    "quantile_edges",
    "sequential_test",
    "stationary_indices",
]
