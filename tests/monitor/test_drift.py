import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from mlops.errors import DataError
from mlops.monitor import DETECTORS, feature_drift, summarise
from mlops.types import Level


def _panel(bars, *, start="2000-01-01", units=5, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (bars * units, 3)).astype(np.float32)
    values[:, 1] += shift
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    frame.insert(0, "event_time", np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units))
    frame.insert(1, "unit", np.tile([f"U{i}" for i in range(units)], bars))
    return frame


def _levels(findings):
    return {(f.name, f.subject): f.level for f in findings}


NUMERIC = [name for name, make in DETECTORS.items() if not make().of_categories]
REFERENCE = _panel(1000)
MOVED = _panel(40, start="2004-01-01", seed=1, shift=1.5)


def test_only_the_feature_that_moved_alarms():
    levels = _levels(feature_drift(REFERENCE, MOVED, threshold=0.01))
    alarmed = {key for key, level in levels.items() if level is Level.ALERT}
    assert {(name, "b") for name in NUMERIC} == alarmed
    assert 12 == len(levels)


def test_keys_may_be_index_or_columns_and_rows_in_any_order():
    expected = feature_drift(REFERENCE, MOVED)
    shuffled = REFERENCE.sample(frac=1, random_state=0).set_index(["event_time", "unit"])
    assert expected == feature_drift(shuffled, MOVED.set_index(["event_time", "unit"]))


def test_the_reference_may_hold_more_and_the_current_window_not():
    more = REFERENCE.assign(label=1.0)
    assert feature_drift(REFERENCE, MOVED) == feature_drift(more, MOVED)
    with pytest.raises(DataError, match=r"reference must have the columns \['d'\]"):
        feature_drift(REFERENCE, MOVED.assign(d=0.0))


def test_nan_is_refused_by_name_and_row():
    broken = MOVED.copy()
    broken.loc[7, "c"] = np.nan
    with pytest.raises(DataError, match="current must be finite, got nan in c, row 7"):
        feature_drift(REFERENCE, broken)


def test_a_short_reference_is_unknown_and_says_what_is_needed():
    findings = feature_drift(REFERENCE[: 5 * 399], MOVED)
    assert {Level.UNKNOWN} == {f.level for f in findings}
    assert findings[0].note == "the reference has 9 stretches of 40 bars, 10 needed (400 bars)"


def test_few_or_no_current_rows_are_unknown():
    for rows in (0, 99):
        findings = feature_drift(REFERENCE, MOVED[:rows])
        assert {Level.UNKNOWN} == {f.level for f in findings}
        assert f"{rows} current rows, 100 needed" == findings[0].note


def test_a_significant_but_small_move_is_a_warning():
    reference, current = _panel(4000, units=50, seed=2), _panel(400, start="2012-01-01", units=50, seed=3, shift=0.1)
    finding = next(f for f in feature_drift(reference, current) if (f.name, f.subject) == ("ks", "b"))
    assert Level.WARN is finding.level
    assert finding.value < finding.limit


def test_a_feature_that_froze_alarms():
    frozen = MOVED.assign(a=0.0)
    levels = _levels(feature_drift(REFERENCE, frozen))
    assert Level.ALERT is levels[("ks", "a")]


def test_a_stricter_threshold_never_adds_alarms():
    current = _panel(40, start="2004-01-01", seed=4, shift=0.3)
    strict, loose = (_levels(feature_drift(REFERENCE, current, threshold=t)) for t in (0.001, 0.2))
    alarmed = [{k for k, level in levels.items() if level is Level.ALERT} for levels in (strict, loose)]
    assert alarmed[0] <= alarmed[1]


def test_adjusted_p_values_are_never_below_the_raw_ones():
    assert all(f.params["p_adjusted"] >= f.params["p"] for f in feature_drift(REFERENCE, MOVED))


def test_a_summary_finds_what_the_panel_itself_does():
    expected = feature_drift(REFERENCE, MOVED)
    summary = summarise(REFERENCE)
    assert expected == feature_drift(summary, MOVED)
    assert expected == feature_drift(summary.calibrated(40, [make() for make in DETECTORS.values()]), MOVED)


def test_a_summary_may_hold_more_features_in_another_order_and_no_fewer():
    summary = summarise(REFERENCE.assign(label=1.0))
    moved = MOVED[["event_time", "unit", "c", "b"]]
    assert feature_drift(REFERENCE, moved) == feature_drift(summary, moved)
    with pytest.raises(DataError, match=r"reference must have the columns \['d'\], got \['a', 'b', 'c', 'label'\]"):
        feature_drift(summary, MOVED.assign(d=0.0))


def test_a_feature_of_few_values_is_judged_as_a_category():
    rng = np.random.default_rng(5)
    reference = REFERENCE.assign(a=rng.integers(0, 4, len(REFERENCE)))
    same, other = (MOVED.assign(a=rng.choice(4, len(MOVED), p=p)) for p in ([0.25] * 4, [0.7, 0.1, 0.1, 0.1]))
    levels = [_levels(feature_drift(reference, current)) for current in (same, other)]
    names = {name for name, feature in levels[0] if feature == "a"}
    assert {"psi", "jensen_shannon", "chi_square"} == names
    assert {Level.OK} == {levels[0][name, "a"] for name in names}
    assert {Level.ALERT} == {levels[1][name, "a"] for name in names}


def test_a_category_that_never_was_alarms_between_and_beyond_the_known_ones():
    flags = np.random.default_rng(6).integers(0, 2, len(REFERENCE))
    for unseen in (-3.0, 0.5, 7.0):
        current = MOVED.assign(a=np.where(np.arange(len(MOVED)) % 4, flags[: len(MOVED)], unseen))
        assert Level.ALERT is _levels(feature_drift(REFERENCE.assign(a=flags), current))["chi_square", "a"]


def test_a_constant_that_stays_is_fine_and_one_that_changes_alarms():
    reference = REFERENCE.assign(a=1.0)
    stays, goes = (_levels(feature_drift(reference, MOVED.assign(a=value))) for value in (1.0, 2.0))
    assert {Level.OK} == {stays[name, "a"] for name in ("psi", "jensen_shannon", "chi_square")}
    assert {Level.ALERT} == {goes[name, "a"] for name in ("psi", "jensen_shannon", "chi_square")}


def test_only_the_wasserstein_distance_sees_how_far_a_tail_went():
    current = _panel(40, start="2004-01-01", seed=7)
    far = current.assign(a=np.where(current["a"] > current["a"].quantile(0.97), 60.0, current["a"]))
    levels = _levels(feature_drift(REFERENCE, far))
    assert Level.ALERT is levels["wasserstein", "a"]
    assert Level.OK is levels["ks", "a"]


def test_the_wasserstein_distance_is_scipys_in_standard_deviations_of_the_reference():
    found = {f.subject: f.value for f in feature_drift(REFERENCE, MOVED) if f.name == "wasserstein"}
    for feature in "abc":
        exact = wasserstein_distance(REFERENCE[feature], MOVED[feature]) / REFERENCE[feature].std(ddof=0)
        assert 0.95 * exact <= found[feature] <= exact + 1e-6


def test_the_ks_finding_carries_scipys_distance_and_its_p_value_for_independent_rows():
    for finding in (f for f in feature_drift(REFERENCE, MOVED) if f.name == "ks"):
        expected = ks_2samp(REFERENCE[finding.subject], MOVED[finding.subject], method="asymp")
        assert expected.statistic == pytest.approx(finding.value, abs=1e-12)
        assert expected.pvalue == pytest.approx(finding.params["p_iid"], abs=0.02)


def test_the_chi_square_finding_carries_scipys_p_value_for_independent_rows():
    rng = np.random.default_rng(8)
    one, other = rng.integers(0, 3, len(REFERENCE)), rng.choice(3, len(MOVED), p=[0.4, 0.3, 0.3])
    findings = feature_drift(REFERENCE.assign(a=one), MOVED.assign(a=other))
    finding = next(f for f in findings if f.name == "chi_square")
    expected = chi2_contingency([np.bincount(one), np.bincount(other)], correction=False).pvalue
    assert expected == pytest.approx(finding.params["p_iid"])


def test_only_the_current_window_and_its_length_count_not_what_another_check_asked():
    summary = summarise(REFERENCE).calibrated(30, [make() for make in DETECTORS.values()])
    assert feature_drift(REFERENCE, MOVED) == feature_drift(summary, MOVED)


def test_nothing_to_test_finds_nothing():
    assert () == feature_drift(REFERENCE, MOVED[["event_time", "unit"]])
