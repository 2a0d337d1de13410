"""What a job needs is said by its line of the schedule, and given to it by one function."""

import importlib
import inspect
import sys
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest
from mlflow import MlflowClient

from jobs import bars, schedule, worker
from jobs.context import Context
from jobs.schedule import ENTRIES, SCHEDULE, Entry
from mlops.errors import DataError
from mlops.io.ledger import BundleRow
from mlops.learn import STRATEGIES
from mlops.settings import Settings
from registry_hooks.aliases import Registry

T0 = datetime(2026, 3, 6, 22, tzinfo=UTC)


@pytest.fixture
def context(sqlite_ledger, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    return Context(Settings(state=tmp_path, tracking_uri=uri), Registry(client, sqlite_ledger, tmp_path / "bundles"))


@pytest.fixture
def calls(monkeypatch):
    """A job's module; what its function `at` was given."""
    given = []
    module = SimpleNamespace(at=lambda *arguments, **options: given.append((arguments[1:], options)) or [])
    monkeypatch.setitem(sys.modules, "noted", module)
    return given


def entry(**needs):
    return Entry("noted", None, "noted:at", **needs)


def register(context, model, kind="strategy", version=1):
    row = BundleRow(model, version, "digest", "run", "model", T0, T0, 5, T0)
    context.ledger.registry.add_bundle(replace(row, kind=kind))


@pytest.mark.parametrize("line", SCHEDULE, ids=lambda line: line.job)
def test_a_job_takes_what_its_line_says_and_nothing_else(line):
    module, _, name = line.does.partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    model = ["strategy" if line.needs_strategy else "model"] if line.per_model else []
    bars = ["bars"] if line.needs_bars else []
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    assert ["context", *model, *bars, "as_of"] == required


def test_a_job_is_given_the_model_the_bars_and_its_clock_in_this_order(context, calls, monkeypatch):
    register(context, "direction")
    frame = pd.DataFrame({"close": [1.0]})
    monkeypatch.setattr(bars, "bars_of", lambda context, source, at: pytest.fail("nothing needs bars from a file"))

    schedule.run(entry(per_model=False), context, "", T0)
    schedule.run(entry(), context, "direction", T0, page="never")
    schedule.run(entry(needs_bars=True, needs_strategy=True), context, "direction", T0, bars=frame)

    assert ((T0,), {}) == calls[0]
    assert (("direction", T0), {"page": "never"}) == calls[1]
    (strategy, known, at), _ = calls[2]
    assert (STRATEGIES["direction"], T0) == (strategy, at)
    assert known is frame


def test_bars_are_read_as_of_the_job_or_as_of_the_clock_where_the_scheduler_says_so(context, calls, monkeypatch):
    reads = []
    monkeypatch.setattr(bars, "bars_of", lambda context, source, at: reads.append((source, at)))
    now = datetime(2026, 3, 9, tzinfo=UTC)

    schedule.run(entry(per_model=False, needs_bars=True), context, "", T0)
    schedule.run(entry(per_model=False, needs_bars=True), context, "", T0, read_at=now)

    assert [("sp500", T0), ("sp500", now)] == reads


def test_a_model_that_nobody_trained_is_refused(context, calls):
    with pytest.raises(DataError, match="model must be one that was trained here"):
        schedule.run(entry(), context, "volatilty", T0)
    assert [] == calls


def test_a_model_of_another_kind_is_neither_planned_nor_looked_at(context, calls):
    register(context, "direction")
    register(context, "odd_trades", "detector")
    both, strategies = entry(kinds=("strategy", "detector")), entry()
    for at in (T0, datetime(2026, 3, 13, 22, tzinfo=UTC)):
        schedule.plan(context.ledger, context.ledger.registry.models(), at)

    assert not [run.job for run in context.ledger.job_runs.all() if run.job.endswith(":odd_trades")]
    assert [] == schedule.run(strategies, context, "odd_trades", T0)
    assert [] == calls
    assert "model of noted must be a strategy, got a detector" in context.outcomes[0][1]
    schedule.run(both, context, "odd_trades", T0)
    assert [(("odd_trades", T0), {})] == calls


def test_a_strategy_that_is_not_here_is_left_out_of_what_needs_it_and_looked_at_by_the_rest(context, calls):
    register(context, "momentum")

    assert [] == schedule.run(entry(needs_strategy=True), context, "momentum", T0)
    assert [] == calls
    told = "momentum is left out: model must be a strategy (direction, volatility), got 'momentum'. Check the name.\n"
    assert [("noted", told)] == context.outcomes
    schedule.run(entry(), context, "momentum", T0)
    assert [(("momentum", T0), {})] == calls


def test_a_scheduled_job_of_a_strategy_that_is_not_here_is_done_and_a_person_is_told_once(context, monkeypatch):
    register(context, "direction")
    register(context, "momentum")
    register(context, "odd_trades", "detector")
    for name in ("books:momentum", "train:momentum", "train-recent:momentum"):
        context.ledger.job_runs.plan(name, T0)
        claim = context.ledger.job_runs.claim("w", T0, lease_s=30, max_attempts=1)
        assert worker.do(context, claim)
    for _ in range(2):
        worker.tell_left_out(context.ledger, T0)

    titles = {alert.key: alert.title for alert in context.ledger.alerts.newest()}
    assert {
        "model_left_out:momentum": "books, train, train-recent leave momentum out: no strategy of that name is here "
        "(direction, volatility)",
        "model_left_out:odd_trades": "no job looks at odd_trades: no kind of model 'detector' is here (strategy)",
    } == titles
    monkeypatch.setitem(STRATEGIES, "momentum", STRATEGIES["direction"])
    worker.tell_left_out(context.ledger, T0)
    assert ["model_left_out:odd_trades"] == [alert.key for alert in context.ledger.alerts.newest()]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train:volatility", ("train", "volatility")),
        ("train-recent:volatility", ("train-recent", "volatility")),
        ("monitor:a:b", ("monitor", "a:b")),
        ("risk", ("risk", "")),
        ("risk:volatility", None),
        ("train", None),
        ("gone:a", None),
    ],
)
def test_a_name_in_job_runs_leads_to_its_line_and_its_model(name, line):
    found = schedule.line_of(name)
    assert line == (found and (found[0].job, found[1]))
    if found:
        assert [name] == found[0].names([found[1]])


def test_the_names_that_ledgers_hold_are_those_of_the_schedule():
    names = ["books", "limits", "risk", "monitor", "compare", "stress", "train", "train-recent", "tidy"]
    assert names == list(ENTRIES)
