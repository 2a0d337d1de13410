"""What the monitor job computes, from its frames; the whole job runs in tests/e2e."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import structlog
from mlflow import MlflowClient
from mlflow.artifacts import load_dict
from structlog.testing import capture_logs

from jobs import monitor
from jobs.monitoring import charts
from jobs.reports import mlflow_runs
from mlops import monitor as room
from mlops.io import record
from mlops.settings import MonitorSettings, Settings
from mlops.types import Decision, Finding, Level, ModelRef, Report, Verdict

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
UNITS, NAMES = [f"U{i}" for i in range(20)], ("trend", "noise")
LABEL_FREE = {"confidence_mean", "confidence_entropy", "confidence_weak", "estimated_accuracy"}


def _rows(bars, *, start="2004-01-01", seed=0, truth=1.0):
    rng = np.random.default_rng(seed)
    n = bars * len(UNITS)
    logit = rng.normal(0, 0.8, n)
    return pd.DataFrame(
        {
            "event_time": np.repeat(pd.date_range(start, periods=bars, tz="UTC"), len(UNITS)),
            "unit": np.tile(UNITS, bars),
            "probability": 1 / (1 + np.exp(-logit)),
            "label": (rng.random(n) < 1 / (1 + np.exp(-truth * logit))).astype(float),
            "value": rng.normal(0, 0.01, n),
            "trend": rng.normal(size=n),
            "noise": rng.normal(size=n),
        }
    )


REFERENCE = _rows(1000, start="2000-01-01", seed=1).drop(columns="value")
HOUSE = SimpleNamespace(settings=Settings())
CHAMPION = ModelRef("volatility", 1)
NONE_DUE = Finding("pending", 0.0, 0.0, Level.OK, 0)
BUNDLE = SimpleNamespace(names=NAMES, meta={"horizon_bars": 5, "base_rate": 0.5})


def _found(rows):
    matured = rows.drop(columns=list(NAMES)).assign(known_at=rows.event_time)
    predicted = rows.drop(columns=["label", "value"])
    free = monitor._label_free(HOUSE, REFERENCE, predicted[["event_time", "unit", "probability"]])
    return {
        f.name: f
        for f in (
            *free,
            *charts.charts(HOUSE, BUNDLE, REFERENCE, matured, LONG_AGO, NONE_DUE),
            *monitor._matured(HOUSE, BUNDLE, REFERENCE, matured, predicted),
        )
    }


def test_a_healthy_model_is_quiet_in_every_layer():
    found = _found(_rows(120, seed=13))
    assert LABEL_FREE | {"accuracy_change", "log_loss_change", "accuracy_groups", "ageing", "error_runs"} <= set(found)
    assert {"ok"} == {f.level for f in found.values()}


def test_a_model_that_turned_over_is_loud_where_labels_speak_and_silent_where_none_do():
    found = _found(_rows(120, truth=-1.0))
    loud = {name for name, f in found.items() if f.level is Level.ALERT}
    assert {"accuracy_change", "log_loss_change", "accuracy_groups", "decay_log_loss", "estimate_error"} <= loud
    assert not loud & LABEL_FREE


def test_the_first_look_before_anything_was_predicted_is_unknown():
    found = _found(_rows(120)[:0])
    assert {Level.UNKNOWN} == {f.level for f in found.values()}
    nothing = monitor._matured(HOUSE, BUNDLE, REFERENCE, _rows(120)[:0], pd.DataFrame({"probability": []}))
    assert {Level.UNKNOWN} == {f.level for f in nothing}


def test_evidence_of_nothing_logs_no_number_but_how_much_there_was(tmp_path):
    client, at = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"), datetime(2007, 6, 1, tzinfo=UTC)
    nothing = monitor._matured(HOUSE, BUNDLE, REFERENCE, _rows(120)[:0], pd.DataFrame({"probability": []}))
    report = Report(ModelRef("volatility", 1), at, (*nothing, *room.layers(nothing)))

    plotted = mlflow_runs.monitor_metrics(report)
    evidence = record.Evidence("monitor", report, Decision(Verdict.HOLD, report.model), plotted=plotted)
    run = client.get_run(record.emit(client, evidence))

    assert {} == {name: value for name, value in run.data.metrics.items() if name != "matured_rows"}
    assert 0.0 == run.data.metrics.get("matured_rows", 0.0)
    assert "too few labels yet" in mlflow_runs.monitor_headline(report, evidence.decision)
    assert {0} == {finding["n"] for finding in load_dict(f"{run.info.artifact_uri}/monitor.json")["findings"]}


@pytest.mark.parametrize(("a_year", "alpha"), [(1.0, 1 / 52), (0.1, 0.1 / 52), (50.0, 0.05)])
def test_all_families_together_cry_wolf_as_often_as_a_chart_may(a_year, alpha):
    settings = MonitorSettings(false_alarms_per_year=a_year)
    assert alpha == pytest.approx(charts.FAMILIES * charts.alpha(settings))
    said = charts.false_words(settings)
    assert said.value == pytest.approx(min(52, 1.25 * a_year + 52 * alpha + 52 * 0.05))
    assert "looks a year" in said.note


def test_a_chart_that_is_only_shown_is_loud_at_the_look_that_first_sees_its_alarm():
    good, bad = _rows(60, seed=1), _rows(30, start="2004-03-01", truth=-1.0)
    matured = pd.concat([good, bad]).assign(known_at=lambda rows: rows.event_time + pd.Timedelta(days=5))

    def chart(rows):
        return room.log_loss_change(REFERENCE, rows, rng=np.random.default_rng(0))

    first = charts.news(chart, matured, LONG_AGO)
    assert Level.ALERT is first.level
    known = pd.Timestamp(first.params["alarm_at"]) + pd.Timedelta(days=5)
    assert first == charts.news(chart, matured, (known - pd.Timedelta(days=1)).to_pydatetime())
    later = charts.news(chart, matured, known.to_pydatetime())
    assert later.n < first.n
    assert later.params.get("alarm_at") is None or later.params["alarm_at"] > first.params["alarm_at"]


def test_however_many_units_the_window_has_bars_enough_to_speak():
    units, bars = 200, 80
    rows = pd.concat([_rows(bars, seed=i).assign(unit=[f"{i}-{u}" for u in UNITS * bars]) for i in range(10)])
    found = _found(rows.sort_values(["event_time", "unit"], ignore_index=True))
    assert not {name for name, f in found.items() if f.level is Level.UNKNOWN}
    assert 60 == found["decay_accuracy"].n

    few = MonitorSettings(window=1000, window_bars=20)
    assert [1000, 1000] == [len(monitor._window(few, _rows(80)[:n])) for n in (1000, 1600)]
    assert 12_000 == len(monitor._window(MonitorSettings(), rows.sort_values("event_time")))
    assert units * 20 == len(monitor._window(few, rows.sort_values("event_time")))


class _Stored(SimpleNamespace):
    def summary(self):
        return self.stored


def test_a_check_reads_what_training_computed_and_an_old_bundle_is_summarised_as_before():
    keys, now = ["event_time", "unit"], _rows(50, start="2004-01-01")
    kept = room.summarise(REFERENCE[[*keys, *NAMES]]).calibrated(50, [make() for make in room.DETECTORS.values()])
    stored = monitor._summary(HOUSE, _Stored(names=NAMES, stored=kept.to_bytes()), REFERENCE[:0])
    rows = now[[*keys, "probability", *NAMES]]
    found = monitor._drift(CHAMPION, stored, rows, 0.05)
    for old in (None, b"of another release"):
        anew = monitor._summary(HOUSE, _Stored(names=NAMES, stored=old), REFERENCE)
        assert found == monitor._drift(CHAMPION, anew, rows, 0.05)


def test_a_window_that_was_changed_after_training_is_told_in_the_log():
    kept = room.summarise(REFERENCE[["event_time", *NAMES]]).calibrated(50, [room.KS()])
    rows = _rows(30, start="2004-01-01")[["event_time", "unit", "probability", *NAMES]]
    structlog.reset_defaults()
    with capture_logs() as said:
        monitor._drift(CHAMPION, kept, rows, 0.05)
    assert [("drift null computed", 30, [50])] == [(s["event"], s["bars"], s["kept"]) for s in said]


def test_evidence_of_many_findings_is_all_in_the_files(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    findings = tuple(Finding(f"f{i}", 1.0, 0.5, Level.OK, 9, {"p": 0.5, "since": i}) for i in range(80))
    rule = "rule: confidence over 0.6 and trend at most -1.2"
    findings += (Finding("error_segment", 0.1, 0.05, Level.ALERT, 40, subject=rule),)
    at, champion = datetime(2007, 6, 1, tzinfo=UTC), ModelRef("volatility", 1)
    evidence = record.Evidence("monitor", Report(champion, at, findings), Decision(Verdict.HOLD, champion))

    run = client.get_run(record.emit(client, evidence))

    assert record.PLOTTED == len(run.data.metrics)
    stored = load_dict(f"{run.info.artifact_uri}/monitor.json")["findings"]
    assert 81 == len(stored)
    assert (0.1, rule) == (stored[-1]["value"], stored[-1]["subject"])
    assert {"p": 0.5, "since": 79} == stored[79]["params"]
