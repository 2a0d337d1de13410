"""Evidently's page of a look: made after the fact, in another process; without it the job goes on."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import structlog
from mlflow import MlflowClient
from structlog.testing import capture_logs

from jobs.reports import evidently
from jobs.reports.evidently import When
from mlops.types import Finding, Level, ModelRef, Report

REPORT = Report(ModelRef("volatility", 3), datetime(2008, 10, 3, 22, tzinfo=UTC), ())
DRIFTED = [Finding("ks", 0.3, 0.1, level, 50, subject="trend") for level in (Level.OK, Level.ALERT)]


def _rows(n, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"trend": rng.normal(size=n), "regime": rng.integers(0, 3, n)})


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("volatility", artifact_location=str(tmp_path / "artifacts"))
    return client, client.create_run(experiment).info.run_id


def _said(run, reference, current):
    structlog.reset_defaults()
    with capture_logs() as said:
        evidently.attach(*run, REPORT, reference, current, 7)
    return said


@pytest.mark.slow
def test_the_page_hangs_at_the_run_and_says_what_it_was_drawn_from(run):
    assert [] == _said(run, _rows(20_000, 0), _rows(1000, 1))
    client, run_id = run
    with open(client.download_artifacts(run_id, evidently.NAME), encoding="utf-8") as file:
        page = file.read()
    assert "1,000 current rows against 5,000 of 20,000 reference rows (seed 7)" in page
    assert "volatility v3, 2008-10-03 22:00 UTC" in page
    assert "What decided is in monitor.json" in page
    assert "trend" in page
    assert "regime" in page


@pytest.mark.parametrize(("limit", "why"), [(0.01, "TimeoutExpired"), (60.0, "CalledProcessError")])
def test_a_page_that_hangs_or_fails_is_a_line_in_the_log(run, monkeypatch, tmp_path, limit, why):
    monkeypatch.setattr(evidently, "LIMIT_S", limit)
    if limit > 1:
        monkeypatch.setattr(evidently, "_repository", lambda: tmp_path)
        monkeypatch.setattr(evidently.sys, "executable", "false")
    said = _said(run, _rows(1000, 0), _rows(200, 1))
    assert [("drift report not made", "volatility v3")] == [(s["event"], s["model"]) for s in said]
    assert said[0]["error"].startswith(why)
    assert [] == run[0].list_artifacts(run[1])


def test_it_is_made_when_something_drifted_or_when_asked_for():
    assert When.DRIFTED.asks(DRIFTED)
    assert not When.DRIFTED.asks(DRIFTED[:1])
    assert When.ALWAYS.asks([])
    assert not When.NEVER.asks(DRIFTED)


def test_the_job_does_not_import_it():
    import subprocess
    import sys

    code = "import sys, jobs.monitor, jobs.replay; sys.exit('evidently' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


HOSTILE = "</script><img src=x onerror=alert(1)>'\"`${1}&\\"


@pytest.mark.slow
def test_the_name_of_a_feature_is_never_markup():
    rows = _rows(400, 0).rename(columns={"trend": HOSTILE})

    page = evidently.made(REPORT, rows, rows.head(100), seed=7)

    assert "<img src=x" not in page
    assert "onerror=alert" not in page
    assert "__script__img src_x onerror_alert(1)_" in page
