"""Every line of the schedule, run as the scheduler runs it: planned, claimed, done; on an empty and on a full ledger."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from jobs import context as context_module
from jobs import promote, train, worker
from jobs.paper_bot import PaperBot
from jobs.schedule import SCHEDULE, plan
from mlops.io import bar_feed, logs
from mlops.io.ledger import BundleRow, Instrument
from mlops.learn import STRATEGIES
from mlops.settings import JobSettings, RiskSettings, Settings, StorageSettings, TrainSettings
from mlops.types import Kind

STRATEGY = STRATEGIES["volatility"]
SYMBOLS = ("AAPL", "GE", "XOM")
TRAINED, START, NOW = (datetime(2007, m, 1, tzinfo=UTC) for m in (1, 4, 7))
LATER = datetime(2007, 7, 9, 12, tzinfo=UTC)  # past a Friday night and past July's first Saturday


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A user's own file of bars."""
    path = tmp_path_factory.mktemp("bars") / "bars.csv"
    bars = bar_feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=LATER).frame
    bars[bars.symbol.isin(SYMBOLS)].to_csv(path, index=False)
    return path


@pytest.fixture
def context(url, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        state=tmp_path / "state",
        ledger_url=url,
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        train=TrainSettings(trials=1, folds=2, min_bars=100),
        risk=RiskSettings(paths=256, history_bars=300),
        jobs=JobSettings(source=str(source), max_attempts=1),
        storage=StorageSettings(ballast_mib=0),
        retention_days=30,
    )
    logs.configure(settings.state / "logs" / "jobs.jsonl")  # as a job's process does: what cannot be logged fails
    with context_module.opened(settings) as opened:
        yield opened


def _fill(context):
    """A champion that scored and traded for a quarter, an option, quotes."""
    bars = bar_feed.load_bars(context.settings.jobs.source).frame
    ref = train.train(context, STRATEGY, bars, as_of=TRAINED, start=None)
    promote.promote(context, ref, reason="first", actor="test", at=START)
    bot = PaperBot(context, STRATEGY, bars, START)
    for at, bar in bars[(bars.event_time >= START) & (bars.event_time < NOW)].groupby("event_time", sort=True):
        bot.on_bar(bar, pd.Timestamp(str(at)).to_pydatetime())
    put = Instrument("PUT", Kind.PUT, multiplier=100.0, underlying="AAPL", strike=100.0, expiry=LATER + timedelta(90))
    context.ledger.instruments.put([put], START)
    common = {"model": "volatility", "version": 1, "book": "paper", "fee": 0.0, "event_time": NOW - timedelta(days=3)}
    context.ledger.telemetry.add_fills(
        pd.DataFrame([{**common, "fill_id": "put", "unit": "PUT", "quantity": 2.0, "price": 5.0}])
    )
    quote = {"unit": "AAPL", "event_time": NOW - timedelta(days=3), "bid": 120.0, "ask": 120.1}
    quote |= {"known_at": quote["event_time"], "bid_size": 1.0, "ask_size": 1.0}
    context.ledger.quotes.add(pd.DataFrame([quote]))


def _run_all(context, models):
    """Plan what fell due between NOW and LATER and run it in this process; the runs that are in the ledger then."""
    plan(context.ledger, models, NOW)
    plan(context.ledger, models, LATER)
    ended = []
    while claim := context.ledger.job_runs.claim("w", LATER, lease_s=3600, max_attempts=1):
        assert worker.do(context, claim)
        ended.append(claim.job)
    return ended


def _lines(models):
    return sorted(job for entry in SCHEDULE for job in entry.names(models))


def test_every_line_is_done_on_a_ledger_that_is_empty_but_for_the_name_of_a_model(context):
    context.ledger.registry.add_bundle(BundleRow("volatility", 1, "digest", "run", "model", TRAINED, START, 5, START))
    assert _lines(["volatility"]) == sorted(_run_all(context, ["volatility"]))
    assert {"done", "skipped"} == {run.state for run in context.ledger.job_runs.all()}


@pytest.mark.slow
def test_every_line_is_done_on_a_full_ledger(context):
    _fill(context)

    assert _lines(context.ledger.registry.models()) == sorted(_run_all(context, context.ledger.registry.models()))

    assert {"done", "skipped"} == {run.state for run in context.ledger.job_runs.all()}
    assert context.ledger.risk.state("stress", "all", as_of=LATER) is not None
    assert context.ledger.archive.manifest("predictions")
    assert not len(
        context.ledger.telemetry.predictions("volatility", start=START, end=START + timedelta(30), as_of=LATER)[0]
    )


@pytest.mark.slow
def test_the_scheduler_itself_brings_the_lines_of_all_models_to_their_end(sqlite_ledger, source, tmp_path, monkeypatch):
    """In processes of their own, by the command that the scheduler starts."""
    given = {"STATE": tmp_path, "TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "JOBS__SOURCE": source}
    for name, value in given.items():
        monkeypatch.setenv(f"MLOPS_{name}", str(value))
    for entry in SCHEDULE:
        if not entry.per_model:
            sqlite_ledger.job_runs.plan(entry.job, NOW)
    settings, stop = JobSettings(max_attempts=1), threading.Event()
    scheduler = worker.Worker(sqlite_ledger, settings, models=list, launch=worker._launch(tmp_path), schedule=())
    thread = threading.Thread(target=scheduler.work, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 180
    while sqlite_ledger.job_runs.all(states=("due", "running")) and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    thread.join()

    assert [("done", "")] * 3 == [(run.state, run.error) for run in sqlite_ledger.job_runs.all()]
