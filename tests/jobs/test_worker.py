"""The scheduler's process: its jobs in groups of their own, with limits, and what becomes of those that misbehave."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from mlflow import MlflowClient

from jobs import worker
from jobs.context import Context
from jobs.schedule import Entry
from jobs.worker import Worker
from mlops.io import logs, record
from mlops.io.ledger import BundleRow, Ledger
from mlops.settings import JobSettings, Settings
from mlops.types import Decision, ModelRef, Verdict
from registry_hooks.aliases import Registry

T0 = datetime(2026, 3, 2, 22, tzinfo=UTC)
DONE = """
from datetime import UTC, datetime
from mlops.io.ledger import Ledger
from mlops.io.ledger.job_runs import Claim
with Ledger({url!r}) as ledger:
    ledger.job_runs.complete(Claim({job!r}, datetime.fromisoformat({at!r}), "", {fence}, 1), datetime.now(UTC))
"""


@pytest.fixture
def place(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def here(place):
    with Ledger(place) as opened:
        yield opened


def scripted(url, tmp_path, script):
    """A launcher of `script`; braces are filled with the claim's fields."""

    def launch(claim):
        text = textwrap.dedent(script).format(
            url=url, job=claim.job, at=claim.scheduled_for.isoformat(), fence=claim.fence, tmp=str(tmp_path)
        )
        return [sys.executable, "-c", text], tmp_path / "log" / f"{claim.job}.log"

    return launch


def working(ledger, launch, until, *, limit_s=30, **settings):
    """Let a scheduler work until `until()` is true; whether it came true."""
    settings = JobSettings(**{"lease_s": 5.0, "back_off_s": 0.1, "max_attempts": 2, **settings})
    stop = threading.Event()
    scheduler = Worker(
        ledger, settings, models=list, launch=launch, schedule=(), report=lambda now: worker.report(ledger, now)
    )
    thread = threading.Thread(target=scheduler.work, args=(stop,))
    thread.start()
    deadline = time.monotonic() + limit_s
    while not (came := bool(until())) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()
    return came


def states(ledger):
    return [run.state for run in ledger.job_runs.all()]


def processes(mark):
    return [p for p in psutil.process_iter(["cmdline"]) if any(mark in word for word in p.info["cmdline"] or ())]


def test_a_run_is_done_when_its_process_says_so(here, place, tmp_path):
    here.job_runs.plan("monitor:a", T0)

    assert working(here, scripted(place, tmp_path, DONE), lambda: states(here) == ["done"])
    assert [1] == [run.attempts for run in here.job_runs.all()]


def test_a_failing_job_is_tried_again_and_ends_as_a_dead_letter_with_its_last_words(here, place, tmp_path):
    here.job_runs.plan("monitor:a", T0)

    assert working(
        here, scripted(place, tmp_path, "raise SystemExit('no bars today')"), lambda: states(here) == ["dead"]
    )
    run = here.job_runs.all()[0]
    assert 2 == run.attempts
    assert "no bars today" in run.error

    worker.report(here, T0)
    assert [f"job_dead:{run.key}:{run.ended_at:%Y-%m-%dT%H:%M:%S}"] == [alert.key for alert in here.alerts.newest()]
    here.job_runs.retry(run.job, run.scheduled_for)
    worker.report(here, T0)
    assert [] == here.alerts.newest()


def test_a_job_that_runs_too_long_goes_with_its_children_even_if_they_ignore_sigterm(
    here, place, tmp_path, monkeypatch
):
    monkeypatch.setattr("jobs.stack.servers.STOP_LIMIT_S", 1.0)
    stubborn = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)  # {tmp} child"
    subprocess.Popen([sys.executable, "-c", child])
    time.sleep(600)
    """
    here.job_runs.plan("monitor:a", T0)

    launch = scripted(place, tmp_path, stubborn)
    assert working(here, launch, lambda: states(here) == ["dead"], max_attempts=1, time_limit_s=2.0, limit_s=60)
    assert "jobs.time_limit_s" in here.job_runs.all()[0].error
    assert [] == processes(str(tmp_path))


def test_a_job_that_takes_too_much_memory_is_ended(here, place, tmp_path):
    greedy = "import time; much = bytearray(400 * 2**20); time.sleep(600)"
    here.job_runs.plan("monitor:a", T0)

    launch = scripted(place, tmp_path, greedy)
    assert working(here, launch, lambda: states(here) == ["dead"], max_attempts=1, memory_limit_mib=300)
    assert "jobs.memory_limit_mib" in here.job_runs.all()[0].error


def test_what_runs_at_the_stop_is_handed_back_and_no_attempt_is_lost(here, place, tmp_path):
    here.job_runs.plan("monitor:a", T0)

    assert working(here, scripted(place, tmp_path, "import time; time.sleep(600)"), lambda: states(here) == ["running"])
    assert [("due", 0)] == [(run.state, run.attempts) for run in here.job_runs.all()]
    assert [] == processes(str(tmp_path))


def test_a_job_without_its_code_is_parked_with_an_alert_and_runs_when_the_code_is_back(
    here, place, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker, "LOOK_AGAIN_S", 0.5)
    needs = f"import sys; sys.path.insert(0, {{tmp!r}})\ntry:\n    import brought_back\nexcept ImportError as e:\n    sys.exit({worker.NO_CODE})\n"
    launch = scripted(place, tmp_path, needs + DONE)
    here.job_runs.plan("monitor:a", T0)

    assert working(here, launch, lambda: states(here) == ["parked"])
    worker.report(here, T0)
    assert ["job_parked:"] == [alert.key[:11] for alert in here.alerts.newest()]

    (tmp_path / "brought_back.py").write_text("")
    assert working(here, launch, lambda: states(here) == ["done"])
    worker.report(here, T0)
    assert [] == here.alerts.newest()


def test_two_schedulers_share_the_work(url, ledger, tmp_path):
    for i in range(8):
        ledger.job_runs.plan(f"job{i}", T0 + timedelta(seconds=i))
    launch, stop = scripted(url, tmp_path, DONE), threading.Event()
    with Ledger(url) as other:
        both = [
            Worker(one, JobSettings(lease_s=5.0), models=list, launch=launch, schedule=()) for one in (ledger, other)
        ]
        threads = [threading.Thread(target=one.work, args=(stop,)) for one in both]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while set(states(ledger)) != {"done"} and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join()

    assert [("done", 1)] * 8 == [(run.state, run.attempts) for run in ledger.job_runs.all()]
    assert 2 == len({run.owner for run in ledger.job_runs.all()})


@pytest.fixture
def context(here, tmp_path):
    settings = Settings(state=tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = MlflowClient(settings.tracking_uri, registry_uri=settings.tracking_uri)
    return Context(settings, Registry(client, here, tmp_path / "bundles"))


def asks_for_a_retrain(context, model, at):
    return [Decision(Verdict.RETRAIN, ModelRef(model, 1), (), None, "skill is gone")]


def test_a_retrain_that_a_job_asks_for_is_planned_in_the_commit_of_its_done(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "asking", sys.modules[__name__])
    schedule = (Entry("monitor", None, "asking:asks_for_a_retrain"),)
    context.ledger.registry.add_bundle(BundleRow("volatility", 1, "digest", "run", "model", T0, T0, 5, T0))
    context.ledger.job_runs.plan("monitor:volatility", T0)
    claim = context.ledger.job_runs.claim("w", T0, lease_s=30, max_attempts=3)

    assert worker.do(context, claim, schedule)

    runs = [(run.job, run.scheduled_for, run.state) for run in context.ledger.job_runs.all()]
    assert [("monitor:volatility", T0, "done"), ("train:volatility", T0, "due")] == runs


def test_runs_that_a_kill_left_open_are_closed_and_those_under_way_are_not(context):
    client, experiment = context.client, record.experiment_id(context.client, "volatility")
    context.ledger.job_runs.plan("monitor:volatility", T0)
    claim = context.ledger.job_runs.claim("w", T0, lease_s=30, max_attempts=3)
    opened = {}
    for key in (claim.key, "monitor:volatility@2020-01-01T00:00:00+00:00"):
        with logs.bind(job_run=key, attempt=1):
            opened[key] = client.create_run(experiment, tags=logs.job_run()).info.run_id
    by_hand = client.create_run(experiment).info.run_id

    assert 1 == worker.close_killed(context)

    status = {key: client.get_run(run).info.status for key, run in opened.items()}
    assert {claim.key: "RUNNING", "monitor:volatility@2020-01-01T00:00:00+00:00": "KILLED"} == status
    assert "RUNNING" == client.get_run(by_hand).info.status


def test_a_second_attempt_sets_the_evidence_of_the_first_aside(context):
    client, experiment = context.client, record.experiment_id(context.client, "volatility")
    runs = [client.create_run(experiment, tags={"job_run": "monitor:volatility@x"}).info.run_id for _ in range(2)]
    client.set_terminated(runs[1])

    record.set_aside(client, "volatility", "monitor:volatility@x")

    first, second = (client.get_run(run) for run in runs)
    assert "KILLED" == first.info.status
    assert "true" == second.data.tags["superseded"]


def test_a_job_that_is_not_in_the_schedule_any_more_is_parked_not_lost(tmp_path):
    command = [
        sys.executable,
        "-m",
        "jobs.worker",
        "--job",
        "gone:a",
        "--at",
        T0.isoformat(),
        "--owner",
        "w",
        "--fence",
        "1",
    ]
    settings = {"MLOPS_STATE": str(tmp_path), "MLOPS_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}

    ended = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)

    assert worker.NO_CODE == ended.returncode, ended.stderr
    assert "job gone:a must be in the schedule" in ended.stderr
