"""Predictions, outcomes, fills: what goes in comes out, as it was known."""

from datetime import timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.io.ledger import telemetry
from mlops.io.storage import windows
from mlops.types import FILL_COLUMNS, OUTCOME_COLUMNS, PREDICTION_COLUMNS, Role

NAMES = ("return", "range", "calm")


@pytest.fixture
def features():
    def draw(n, k=3):
        return np.random.default_rng(n).normal(size=(n, k)).astype(np.float32)

    return draw


@pytest.fixture
def span(make):
    def between(start, end, as_of):
        return {"start": make.at(start), "end": make.at(end), "as_of": make.at(as_of)}

    return between


def test_predictions_come_back_as_they_were_scored(ledger, make, features, span, monkeypatch):
    monkeypatch.setattr(windows, "CHUNK", 4)
    monkeypatch.setattr(telemetry, "BATCH", 3)
    keys = [(v, u, d) for d in range(5) for v in (1, 2) for u in ("A", "B")]
    frame, scored = make.predictions(keys, probability=np.linspace(0, 1, len(keys))), features(len(keys))
    frame["event_time"] += timedelta(microseconds=1)
    frame["known_at"] += timedelta(microseconds=2)
    shuffled = np.random.default_rng(0).permutation(len(keys))

    assert len(keys) == ledger.telemetry.add_predictions(frame.iloc[shuffled], scored[shuffled], NAMES, "abc")
    found, values, names = ledger.telemetry.predictions("volatility", **span(0, 10, 10))

    assert NAMES == names
    assert np.float32 == values.dtype
    np.testing.assert_array_equal(scored, values)
    pd.testing.assert_frame_equal(frame[list(PREDICTION_COLUMNS)], found, check_dtype=False)
    assert "datetime64[ns, UTC]" == str(found.event_time.dtype)


def test_a_window_is_closed_at_its_start_open_at_its_end_and_blind_after_as_of(ledger, make, features, span):
    ledger.telemetry.add_predictions(
        make.predictions([(1, "A", d) for d in range(6)], delay=timedelta(days=2)), features(6), NAMES
    )

    found, values, _ = ledger.telemetry.predictions("volatility", **span(1, 5, 4))

    assert [make.at(1), make.at(2)] == list(found.event_time)
    np.testing.assert_array_equal(features(6)[1:3], values)


def test_versions_with_other_features_are_read_one_at_a_time(ledger, make, features, span):
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)]), features(1), NAMES)
    ledger.telemetry.add_predictions(make.predictions([(2, "A", 0)]), features(1, 1), ["return"])

    assert ("return",) == ledger.telemetry.predictions("volatility", **span(0, 9, 9), version=2)[2]
    with pytest.raises(DataError, match="Name one version"):
        ledger.telemetry.predictions("volatility", **span(0, 9, 9))


def test_the_same_features_in_another_order_are_read_in_one_order(ledger, make, span):
    one, other = np.array([[1, 2]], dtype=np.float32), np.array([[4, 3]], dtype=np.float32)
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)]), one, ["a", "b"])
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 1)]), other, ["b", "a"])

    frame, values, names = ledger.telemetry.predictions("volatility", **span(0, 9, 9))
    assert ("a", "b") == names
    assert [[1, 2], [3, 4]] == values.tolist()
    assert 2 == len(frame)
    assert [] == ledger.audit.verify()


def test_nothing_stored_reads_as_nothing(ledger, make, span):
    found, values, names = ledger.telemetry.predictions("volatility", **span(0, 9, 9))

    assert (0, (0, 0), ()) == (len(found), values.shape, names)
    assert list(PREDICTION_COLUMNS) == list(found.columns)
    assert list(telemetry.MATURED_COLUMNS) == list(ledger.telemetry.matured("volatility", **span(0, 9, 9)).columns)
    assert ledger.telemetry.latest_event_time("volatility") is None
    assert 0 == ledger.telemetry.pending("volatility", as_of=make.at(9))
    assert ledger.telemetry.positions("volatility", "paper").empty
    for add, columns in ((ledger.telemetry.add_outcomes, OUTCOME_COLUMNS), (ledger.telemetry.add_fills, FILL_COLUMNS)):
        assert 0 == add(pd.DataFrame(columns=list(columns)))
    empty = pd.DataFrame(columns=list(PREDICTION_COLUMNS))
    assert 0 == ledger.telemetry.add_predictions(empty, np.empty((0, 2), dtype=np.float32), ["a", "b"])


def test_a_row_that_contradicts_a_stored_one_never_overwrites_it(ledger, make, features, span):
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)], probability=0.25), features(1), NAMES)
    ledger.telemetry.add_outcomes(make.outcomes([("A", 0)], label=1.0))

    assert 0 == ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)], probability=0.75), features(1), NAMES)
    assert 0 == ledger.telemetry.add_outcomes(make.outcomes([("A", 0)], label=0.0))
    matured = ledger.telemetry.matured("volatility", **span(0, 9, 9))
    assert [(0.25, 1.0)] == list(zip(matured.probability, matured.label, strict=True))


def test_the_same_key_twice_in_one_batch_is_one_row(ledger, make, features):
    assert 1 == ledger.telemetry.add_predictions(make.predictions([(1, "A", 0), (1, "A", 0)]), features(2), NAMES)


def test_one_outcome_serves_every_version_and_waits_until_it_is_known(ledger, make, features, span):
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 0), (2, "A", 0), (1, "B", 0)]), features(3), NAMES)
    ledger.telemetry.add_outcomes(make.outcomes([("A", 0)], value=-0.02, label=0.0))

    assert 0 == len(ledger.telemetry.matured("volatility", **span(0, 9, 4)))
    assert 3 == ledger.telemetry.pending("volatility", as_of=make.at(4))
    found = ledger.telemetry.matured("volatility", **span(0, 9, 5))
    assert [(1, "A"), (2, "A")] == list(zip(found.version, found.unit, strict=True))
    assert {-0.02} == set(found.value)
    assert {pd.Timestamp(make.at(5))} == set(found.known_at)
    assert 1 == len(ledger.telemetry.matured("volatility", **span(0, 9, 5), version=2))
    assert (1, 0) == tuple(ledger.telemetry.pending("volatility", as_of=make.at(5), version=v) for v in (1, 2))


def test_models_do_not_mix(ledger, make, features, span):
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)], model="direction"), features(1), NAMES)
    ledger.telemetry.add_outcomes(make.outcomes([("A", 0)], model="volatility"))

    assert ledger.telemetry.matured("direction", **span(0, 9, 9)).empty
    assert 1 == ledger.telemetry.pending("direction", as_of=make.at(9))
    assert make.at(0) == ledger.telemetry.latest_event_time("direction")
    assert ledger.telemetry.latest_event_time("volatility") is None


def test_positions_are_what_the_fills_add_up_to(ledger, make):
    rows = [("1", "A", 10, 5.0, 0.5), ("2", "A", -4, 6.0, 0.25), ("3", "B", -1, 2.0, 0.0)]

    assert 3 == ledger.telemetry.add_fills(make.fills(rows))
    assert 0 == ledger.telemetry.add_fills(make.fills(rows[:1]))
    ledger.telemetry.add_fills(make.fills([("4", "A", 99, 1.0, 0.0)], book="other"))

    expected = pd.DataFrame({"unit": ["A", "B"], "quantity": [6.0, -1.0], "cash_flow": [-50.5 + 23.75, 2.0]})
    pd.testing.assert_frame_equal(expected, ledger.telemetry.positions("volatility", "paper"))


def test_an_instant_is_the_same_in_every_time_zone(ledger, make, features, span):
    frame = make.predictions([(1, "A", 0)])
    local = frame.assign(event_time=frame.event_time.dt.tz_convert("America/New_York"))
    east = {name: at.astimezone(timezone(timedelta(hours=9))) for name, at in span(0, 1, 1).items()}

    assert 1 == ledger.telemetry.add_predictions(local, features(1), NAMES)
    assert 0 == ledger.telemetry.add_predictions(frame, features(1), NAMES)
    assert 1 == len(ledger.telemetry.predictions("volatility", **east)[0])


def test_roles_are_kept_as_plain_text(ledger, make, features, span):
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)], role=Role.PREVIOUS), features(1), NAMES)

    assert ["previous_champion"] == list(ledger.telemetry.predictions("volatility", **span(0, 9, 9))[0].role)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"probability": 1.2}, "probability of predictions must be within 0 and 1, got .*1.2"),
        ({"probability": np.nan}, "probability of predictions must be known"),
        ({"probability": "high"}, "probability of predictions must be numbers"),
        ({"unit": ""}, "unit of predictions must be text"),
        ({"unit": 7}, "unit of predictions must be text"),
        ({"version": 1.5}, "version of predictions must be whole numbers"),
        ({"known_at": pd.Timestamp("2019-01-01", tz="UTC")}, "known_at of predictions must not lie before event_time"),
        ({"event_time": pd.Timestamp("2020-01-02")}, "event_time of predictions must carry a time zone"),
        ({"event_time": pd.NaT}, "event_time of predictions must be known"),
        ({"event_time": pd.Timestamp("2020-01-02 00:00:00.000000001", tz="UTC")}, "must be whole microseconds"),
        ({"event_time": pd.Series(np.array(["9999-01-01"], "M8[s]")).dt.tz_localize("UTC")}, "1678 and 2261"),
    ],
)
def test_a_bad_prediction_is_refused_by_name(sqlite_ledger, make, features, change, rule):
    with pytest.raises(DataError, match=rule):
        sqlite_ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)]).assign(**change), features(1), NAMES)


@pytest.mark.parametrize(
    ("add", "rows", "rule"),
    [
        ("add_outcomes", lambda make: make.outcomes([("A", 0)], label=0.5), "label of outcomes must be 0 or 1"),
        (
            "add_outcomes",
            lambda make: make.outcomes([("A", 0)], value=np.inf),
            "value of outcomes must be under 1e\\+20",
        ),
        ("add_outcomes", lambda make: make.outcomes([("A", 0)]).drop(columns="label"), r"none named \['label'\]"),
        ("add_fills", lambda make: make.fills([("1", "A", 1, 0.0, 0.0)]), "price of A must be positive"),
        ("add_fills", lambda make: make.fills([("1", "A", 1, -1.0, 0.0)]), "price of A must be positive"),
        ("add_fills", lambda make: make.fills([("1", "A", 1, 1.0, 1e300)]), "fee of fills must be under"),
        ("add_fills", lambda make: make.fills([("1", "A", 4e-9, 1.0, 0.0)]), "quantity of fills must be 0, or"),
        ("add_fills", lambda make: make.fills([("1", "A", 1e15, 1e9, 0.0)]), "value of a fill of A must be under"),
        ("add_fills", lambda make: make.fills([("1", "A", np.inf, 1.0, 0.0)]), "quantity of fills must be 0, or 1e-08"),
    ],
)
def test_a_bad_outcome_or_fill_is_refused_by_name(sqlite_ledger, make, add, rows, rule):
    with pytest.raises(DataError, match=rule):
        getattr(sqlite_ledger.telemetry, add)(rows(make))


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.zeros((1, 2), np.float32), np.zeros((2, 3), np.float32)])
def test_features_other_than_those_scored_are_refused(sqlite_ledger, make, bad):
    with pytest.raises(DataError, match=r"features must be float32 of shape \(1, 3\)"):
        sqlite_ledger.telemetry.add_predictions(make.predictions([(1, "A", 0)]), bad, NAMES)


def test_a_naive_instant_is_refused_when_asking(sqlite_ledger, make):
    with pytest.raises(DataError, match="instant must carry its time zone"):
        sqlite_ledger.telemetry.pending("volatility", as_of=make.at(0).replace(tzinfo=None))
