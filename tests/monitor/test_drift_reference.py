import io

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.monitor import DETECTORS, KS, PSI, ReferenceSummary, feature_drift, newest_bars, summarise
from mlops.types import Level


def _panel(bars, start="2000-01-01", seed=0, units=3):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"event_time": np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units)})
    frame["number"] = rng.normal(1e6, 1e-3, len(frame))
    frame["flag"] = rng.integers(0, 2, len(frame))
    return frame


EVERY = [make() for make in DETECTORS.values()]
REFERENCE, CURRENT = _panel(600), _panel(50, "2003-01-01", 1)
SUMMARY = summarise(REFERENCE).calibrated(50, EVERY)


def test_what_is_stored_and_loaded_finds_the_same_and_is_no_pickle():
    stored = SUMMARY.to_bytes()
    loaded = ReferenceSummary.from_bytes(stored)
    assert feature_drift(SUMMARY, CURRENT) == feature_drift(loaded, CURRENT)
    assert stored == loaded.to_bytes()
    assert SUMMARY.nulls.keys() == loaded.nulls.keys()
    with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive)


@pytest.mark.parametrize("stored", [b"", b"not an archive", SUMMARY.to_bytes()[:-200]])
def test_other_bytes_are_refused(stored):
    with pytest.raises(DataError, match="stored must be what to_bytes wrote, got"):
        ReferenceSummary.from_bytes(stored)


def test_an_archive_of_other_arrays_is_refused():
    file = io.BytesIO()
    np.savez(file, names=np.array(["a"]), unrelated=np.zeros(3))
    with pytest.raises(DataError, match="Summarise the reference again"):
        ReferenceSummary.from_bytes(file.getvalue())


def test_a_calibrated_summary_is_not_calibrated_again_and_the_first_one_stays_as_it_was():
    plain = summarise(REFERENCE)
    once = plain.calibrated(50, [KS()])
    assert once is once.calibrated(50, [KS(limit=0.3)])  # the limit does not change the null
    assert {} == plain.nulls
    assert {"ks 50", "psi-10 50", "psi-20 50"} == once.calibrated(50, [PSI(), PSI(bins=20)]).nulls.keys()


def test_a_window_as_long_as_the_reference_has_no_null():
    assert SUMMARY is SUMMARY.calibrated(600, EVERY)
    assert SUMMARY is SUMMARY.calibrated(0, EVERY)


def test_the_null_is_the_distance_of_each_block_from_the_rest():
    block = REFERENCE["number"][: 50 * 3]
    rest = REFERENCE["number"][50 * 3 :]
    edges = SUMMARY.edges[0]
    below = [np.searchsorted(np.sort(part), edges) / len(part) for part in (block, rest)]
    expected = np.abs(below[0] - below[1]).max()
    assert np.abs(SUMMARY.nulls["ks 50"][0] - expected).min() < 1e-12
    assert 1 + (600 - 50) // 5 == SUMMARY.nulls["ks 50"].shape[1]


def test_few_distinct_values_make_a_category_and_21_do_not():
    rows = _panel(600)
    kinds = {k: summarise(rows.assign(x=np.arange(len(rows)) % k), ["x"]).category[0] for k in (1, 2, 20, 21)}
    assert {1: True, 2: True, 20: True, 21: False} == kinds


def test_the_rows_may_come_in_any_order():
    shuffled = summarise(REFERENCE.sample(frac=1, random_state=3)).calibrated(50, EVERY)
    assert [f.level for f in feature_drift(SUMMARY, CURRENT)] == [f.level for f in feature_drift(shuffled, CURRENT)]
    for name, null in SUMMARY.nulls.items():
        assert null == pytest.approx(shuffled.nulls[name])


def test_an_empty_reference_is_unknown():
    findings = feature_drift(summarise(REFERENCE[:0]), CURRENT)
    assert {Level.UNKNOWN} == {f.level for f in findings}


def test_bins_that_do_not_divide_the_references_are_refused():
    with pytest.raises(DataError, match="bins must divide 200, got 7. Take 10 or 20"):
        SUMMARY.calibrated(50, [PSI(bins=7)])


def test_a_large_offset_costs_the_wasserstein_distance_nothing():
    found = {f.name: f.value for f in feature_drift(SUMMARY, CURRENT.assign(number=CURRENT["number"] + 1e-3))}
    assert 1.0 == pytest.approx(found["wasserstein"], abs=0.15)


@pytest.mark.parametrize(("units", "bars", "kept"), [(1, 300, 200), (20, 300, 50), (3, 40, 40), (7, 300, 50)])
def test_a_reference_is_kept_by_bars_and_none_is_cut(units, bars, kept):
    times = pd.date_range("2000-01-01", periods=bars, tz="UTC").repeat(units)
    found = newest_bars(pd.DataFrame({"event_time": times}), rows=200, bars=50)
    assert kept == found.event_time.nunique()
    assert {units} == set(found.groupby("event_time").size())
