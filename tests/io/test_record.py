"""Evidence as a person finds it in MLflow: one run for each thing that is looked at, a step for each look."""

from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict, load_text

from mlops.io import logs, record
from mlops.types import Decision, Finding, Level, ModelRef, Report, Verdict

SINCE = datetime(2008, 1, 4, 22, tzinfo=UTC)
CHAMPION = ModelRef("volatility", 2)
SERIES = record.Series("compare v2 → v3", SINCE, {"job": "compare", "model": "volatility", "series": "v2:v3"})


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # files of runs go there
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


def _evidence(week, verdict=Verdict.HOLD, gain=0.1, series=SERIES, **more):
    at = SINCE + timedelta(days=7 * week)
    findings = (Finding("gain", gain, 0.0, Level.OK, 5 * week, {"alpha": 0.05}, note="better"),)
    decision = Decision(verdict, CHAMPION, findings, CHAMPION, f"{verdict.value} after {week} weeks")
    headline = f"{verdict.value}, {5 * week} of 150 bars"
    return record.Evidence(
        "compare", Report(CHAMPION, at, findings), decision, series=series, headline=headline, **more
    )


def _runs(client, query="", model="volatility"):
    return client.search_runs([client.get_experiment_by_name(model).experiment_id], query)


def _paths(client, run, folder=None):
    return {file.path for file in client.list_artifacts(run, folder)}


def test_looks_that_hold_are_steps_of_one_run_whose_name_has_the_newest_verdict(client):
    runs = {record.emit(client, _evidence(week, gain=week / 10)) for week in (1, 2, 3)}

    (run,) = _runs(client)
    assert {run.info.run_id} == runs
    assert "compare v2 → v3: hold, 15 of 150 bars" == run.info.run_name
    assert "FINISHED" == run.info.status
    history = client.get_metric_history(run.info.run_id, "gain")
    assert [(7, 0.1), (14, 0.2), (21, 0.3)] == [(point.step, point.value) for point in history]
    assert "hold after 3 weeks" == run.data.tags["reason"]


def test_the_files_of_the_newest_look_are_at_the_top_and_those_of_every_look_by_its_day(client):
    for week in (1, 2):
        run = record.emit(client, _evidence(week, numbers={"arm.v3.sharpe": 1.5}, pages={"page.html": f"week {week}"}))

    assert {"compare.json", "findings.csv", "page.html", "looks"} == _paths(client, run)
    days = {f"looks/2008-01-{day}.{end}" for day in (11, 18) for end in ("csv", "json")}
    assert days == _paths(client, run, "looks")
    place = client.get_run(run).info.artifact_uri
    newest = load_dict(f"{place}/compare.json")
    assert ("hold after 2 weeks", 1.5) == (newest["reason"], newest["numbers"]["arm.v3.sharpe"])
    table = load_text(f"{place}/findings.csv").splitlines()
    assert "name,subject,value,limit,level,n,note" == table[0]
    assert {"gain", "arm.v3.sharpe"} == {line.split(",")[0] for line in table[1:]}


def test_a_look_that_is_done_twice_is_one_step(client):
    for gain in (0.1, 0.2):  # the second attempt knew one label more
        record.emit(client, _evidence(1, gain=gain))

    (run,) = _runs(client)
    assert [(7, 0.1)] == [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "gain")]


@pytest.mark.parametrize("verdict", record.ACTS)
def test_a_look_that_acts_is_a_step_and_has_a_run_of_its_own_beneath(client, verdict):
    record.emit(client, _evidence(1))
    own = client.get_run(record.emit(client, _evidence(2, verdict)))

    (series,) = _runs(client, "tags.series = 'v2:v3'")
    assert series.info.run_id == own.data.tags["mlflow.parentRunId"]
    assert series.info.run_name == own.info.run_name == f"compare v2 → v3: {verdict.value}, 10 of 150 bars"
    assert [7, 14] == [p.step for p in client.get_metric_history(series.info.run_id, "gain")]
    assert {"compare.json", "findings.csv"} == _paths(client, own.info.run_id)
    assert [own.info.run_id] == [run.info.run_id for run in _runs(client, "tags.acts = 'true'")]


def test_an_act_that_fails_leaves_failed_runs_and_the_next_look_goes_on(client):
    with pytest.raises(ZeroDivisionError), record.look(client, _evidence(1, Verdict.PROMOTE)):
        raise ZeroDivisionError
    assert ["FAILED", "FAILED"] == [run.info.status for run in _runs(client)]

    record.emit(client, _evidence(2))
    assert ["FINISHED"] == [run.info.status for run in _runs(client, "tags.series = 'v2:v3'")]


def test_a_late_look_at_an_earlier_day_is_a_step_and_renames_nothing(client):
    for week in (2, 1):
        run = record.emit(client, _evidence(week))

    found = client.get_run(run)
    assert "compare v2 → v3: hold, 10 of 150 bars" == found.info.run_name
    assert {7, 14} == {point.step for point in client.get_metric_history(run, "gain")}
    assert 4 == len(_paths(client, run, "looks"))


def test_a_run_has_at_most_twelve_metrics_and_no_unknown_one(client):
    plotted = {f"m{i}": float(i) for i in range(20)} | {"unknown": float("nan")}
    run = client.get_run(record.emit(client, _evidence(1, plotted={"unknown": float("nan"), **plotted})))
    assert {f"m{i}" for i in range(12)} == set(run.data.metrics)


def test_what_a_person_launched_elsewhere_lands_in_the_models_experiment_and_the_launched_run_says_where(client):
    record.emit(client, _evidence(1))
    tags = {"mlflow.project.entryPoint": "compare", "mlflow.user": "ann"}
    launched = client.create_run("0", tags=tags, run_name="gregarious-wolf-42").info.run_id

    own = client.get_run(record.emit(client, _evidence(2), launched))

    assert client.get_experiment_by_name("volatility").experiment_id == own.info.experiment_id
    assert ("compare", "ann") == (own.data.tags["mlflow.project.entryPoint"], own.data.tags["mlflow.user"])
    assert "compare v2 → v3: hold, 10 of 150 bars" == own.info.run_name
    pointer = client.get_run(launched)
    assert "RUNNING" == pointer.info.status  # its launcher ends it
    assert f"/runs/{own.info.run_id}" in pointer.data.tags["mlflow.note.content"]
    assert "compare v2 → v3: hold, 10 of 150 bars (in experiment volatility)" == pointer.info.run_name
    (series,) = _runs(client, "tags.series = 'v2:v3'")
    assert series.info.run_id == own.data.tags["mlflow.parentRunId"]
    assert [7] == [p.step for p in client.get_metric_history(series.info.run_id, "gain")]


def test_what_a_person_launched_in_the_models_experiment_is_that_run(client):
    experiment = record.experiment_id(client, "volatility")
    launched = client.create_run(experiment, run_name="gregarious-wolf-42").info.run_id

    assert launched == record.emit(client, _evidence(1), launched)

    run = client.get_run(launched)
    assert ("compare v2 → v3: hold, 5 of 150 bars", "RUNNING") == (run.info.run_name, run.info.status)
    assert "mlflow.parentRunId" in run.data.tags


def test_a_second_attempt_goes_on_in_the_series_and_sets_the_own_run_of_the_first_aside(client):
    with logs.bind(job_run="compare:volatility@x", attempt=1):
        first = record.emit(client, _evidence(1, Verdict.RETRAIN))
    with logs.bind(job_run="compare:volatility@x", attempt=2):
        record.set_aside(client, "volatility", "compare:volatility@x")
        record.emit(client, _evidence(1, Verdict.RETRAIN))

    assert "true" == client.get_run(first).data.tags["superseded"]
    (series,) = _runs(client, "tags.series = 'v2:v3'")
    assert "superseded" not in series.data.tags
    assert 2 == len(_runs(client, "tags.acts = 'true'"))


def test_a_series_that_a_kill_left_open_is_closed_and_goes_on_at_the_next_look(client):
    with logs.bind(job_run="compare:volatility@x", attempt=1):
        run = record.emit(client, _evidence(1))
    client.update_run(run, status="RUNNING")  # as a kill leaves it

    assert 1 == record.close_left(client, set())
    assert "KILLED" == client.get_run(run).info.status
    assert run == record.emit(client, _evidence(2))
    assert "FINISHED" == client.get_run(run).info.status


def test_an_experiment_is_described_with_links_and_a_persons_own_words_stay(client):
    number = client.create_experiment("direction", tags={"mlflow.note.content": "mine"})
    record.emit(client, _evidence(1))

    note = client.get_experiment_by_name("volatility").tags["mlflow.note.content"]
    assert "searchFilter=tags.series" in note
    assert "#/models/volatility" in note
    record.experiment_id(client, "direction")
    assert "mine" == client.get_experiment(number).tags["mlflow.note.content"]
