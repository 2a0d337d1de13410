"""Pure mathematics on arrays: tests that stay honest on dependent series. Imports nothing of ours but errors."""

from mlops.stats.anytime import ConfidenceSequence, EvidencePath, confidence_sequence, evidence_path, mixture_log_e
from mlops.stats.bars import by_bar, constant_forecast
from mlops.stats.betting import anytime_mcnemar, bounded_confidence_sequence, bounded_e_process
from mlops.stats.blocks import block_p_value, block_starts, block_sums
from mlops.stats.bootstrap import Bootstrap, block_length, bootstrap_interval, bootstrap_test
from mlops.stats.catalogue import PAIRED_TESTS, UNPAIRED_TESTS
from mlops.stats.change import CusumResult, calibrate_cusum, cusum, cusum_path, cusum_power
from mlops.stats.charts import GroupChart, LabelChart, group_chart, label_alarms, label_chart, label_path, run_length
from mlops.stats.counts import chi_square, chi_square_table, mcnemar, mcnemar_table, paired_difference
from mlops.stats.dependent import EwcResult, ewc_dof, ewc_error, ewc_statistic, ewc_test, finite_series
from mlops.stats.divergence import areas, cohens_w, jensen_shannon, psi, psi_shares, quantile_edges
from mlops.stats.drawdown import max_drawdown, underwater, usual_drawdown
from mlops.stats.edetector import sr_mixture
from mlops.stats.effects import cliffs_delta, cohens_d, hedges_g
from mlops.stats.family import e_holm, sequential_holm
from mlops.stats.influence import sharpe_difference, sharpe_influence, sharpe_ratio
from mlops.stats.means import dependent_t, paired_t, welch_t
from mlops.stats.multiplicity import benjamini_hochberg, e_bh, e_from_p, holm
from mlops.stats.odds import odds_ratio, paired_odds_ratio, risk_difference
from mlops.stats.overfitting import Overfitting, backtest_overfitting
from mlops.stats.planning import trades_needed, variance_inflation, years_needed
from mlops.stats.power import (
    chi_square_power,
    chi_square_sample_size,
    least_rows,
    mann_whitney_power,
    mann_whitney_sample_size,
    mcnemar_power,
    mcnemar_sample_size,
    shares_power,
    shares_sample_size,
    t_power,
    t_sample_size,
)
from mlops.stats.ranks import ks_test, mann_whitney
from mlops.stats.resample import circular_indices, stationary_indices
from mlops.stats.results import ALPHA, POWER, Alternative, Estimate, HypothesisTest, per_cent
from mlops.stats.sample_ratio import srm_e_value
from mlops.stats.scores import accuracy, auc, brier, hits, log_loss, log_losses
from mlops.stats.sequential import (
    SequentialResult,
    decisive_gains,
    look_levels,
    look_times,
    nominal_levels,
    p_greater,
    sequential_test,
)
from mlops.stats.sequential_plan import SequentialPower, proven_by, sequential_power, sequential_sample_size
from mlops.stats.sharpe import (
    SharpeMoments,
    deflated_sharpe,
    expected_max_sharpe,
    independent_trials,
    min_backtest_years,
    min_track_record,
    probabilistic_sharpe,
    sharpe_error,
    sharpe_moments,
)
from mlops.stats.shift import Shift, mean_shift, mean_slope, segment_shift
from mlops.stats.simulation import simulated_power, simulated_sample_size
from mlops.stats.superiority import ConfidenceSet, Superiority, model_confidence_set, superior_predictive_ability
from mlops.stats.twosample import ks_distance, ks_distances, ks_p_values, ranks

__all__ = [
    "ALPHA",
    "Alternative",
    "Bootstrap",
    "ConfidenceSequence",
    "ConfidenceSet",
    "CusumResult",
    "Estimate",
    "EvidencePath",
    "EwcResult",
    "GroupChart",
    "HypothesisTest",
    "LabelChart",
    "Overfitting",
    "PAIRED_TESTS",
    "POWER",
    "SequentialPower",
    "SequentialResult",
    "SharpeMoments",
    "Shift",
    "Superiority",
    "UNPAIRED_TESTS",
    "accuracy",
    "anytime_mcnemar",
    "areas",
    "auc",
    "backtest_overfitting",
    "benjamini_hochberg",
    "block_length",
    "block_p_value",
    "block_starts",
    "block_sums",
    "bootstrap_interval",
    "bootstrap_test",
    "bounded_confidence_sequence",
    "bounded_e_process",
    "brier",
    "by_bar",
    "calibrate_cusum",
    "chi_square",
    "chi_square_power",
    "chi_square_sample_size",
    "chi_square_table",
    "circular_indices",
    "cliffs_delta",
    "cohens_d",
    "cohens_w",
    "confidence_sequence",
    "constant_forecast",
    "cusum",
    "cusum_path",
    "cusum_power",
    "decisive_gains",
    "deflated_sharpe",
    "dependent_t",
    "e_bh",
    "e_from_p",
    "e_holm",
    "evidence_path",
    "ewc_dof",
    "ewc_error",
    "ewc_statistic",
    "ewc_test",
    "expected_max_sharpe",
    "finite_series",
    "group_chart",
    "hedges_g",
    "hits",
    "holm",
    "independent_trials",
    "jensen_shannon",
    "ks_distance",
    "ks_distances",
    "ks_p_values",
    "ks_test",
    "label_alarms",
    "label_chart",
    "label_path",
    "least_rows",
    "log_loss",
    "log_losses",
    "look_levels",
    "look_times",
    "mann_whitney",
    "mann_whitney_power",
    "mann_whitney_sample_size",
    "max_drawdown",
    "mcnemar",
    "mcnemar_power",
    "mcnemar_sample_size",
    "mcnemar_table",
    "mean_shift",
    "mean_slope",
    "min_backtest_years",
    "min_track_record",
    "mixture_log_e",
    "model_confidence_set",
    "nominal_levels",
    "odds_ratio",
    "p_greater",
    "paired_difference",
    "paired_odds_ratio",
    "paired_t",
    "per_cent",
    "probabilistic_sharpe",
    "proven_by",
    "psi",
    "psi_shares",
    "quantile_edges",
    "ranks",
    "risk_difference",
    "run_length",
    "segment_shift",
    "sequential_holm",
    "sequential_power",
    "sequential_sample_size",
    "sequential_test",
    "shares_power",
    "shares_sample_size",
    "sharpe_difference",
    "sharpe_error",
    "sharpe_influence",
    "sharpe_moments",
    "sharpe_ratio",
    "simulated_power",
    "simulated_sample_size",
    "sr_mixture",
    "srm_e_value",
    "stationary_indices",
    "superior_predictive_ability",
    "t_power",
    "t_sample_size",
    "trades_needed",
    "underwater",
    "usual_drawdown",
    "variance_inflation",
    "welch_t",
    "years_needed",
]
