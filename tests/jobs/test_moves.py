"""What a person asks for and cannot have leaves no evidence that says otherwise."""

from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from jobs import promote, worker
from jobs.cli import main
from jobs.context import opened
from mlops.errors import DataError, RegistryError
from mlops.io import record
from mlops.io.ledger import BundleRow
from mlops.io.ledger.job_runs import Claim
from mlops.settings import Settings
from mlops.types import Decision, ModelRef, Report, Verdict

NOW = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with opened(Settings(state=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")) as context:
        row = BundleRow("volatility", 1, "d", "r", "m-1", NOW, NOW, 5, NOW)
        context.ledger.registry.add_bundle(row)
        yield context


def _runs(client: MlflowClient):
    experiments = [e.experiment_id for e in client.search_experiments()]
    return client.search_runs(experiments)


def _experiments(context):
    return {e.name for e in context.client.search_experiments()}


@pytest.mark.parametrize(("model", "version"), [("volatility", 99), ("volatilty", 1)])
def test_a_version_or_a_model_that_is_not_there_leaves_no_run_and_no_experiment(context, model, version):
    with pytest.raises((DataError, RegistryError), match="must be"):
        promote.promote(context, ModelRef(model, version), reason="typo", actor="test", at=NOW)
    with pytest.raises((DataError, RegistryError), match="must"):
        promote.rollback(context, model, reason="typo", actor="test", at=NOW)
    assert {"Default"} >= _experiments(context) - {"volatility"}
    assert not [run for run in _runs(context.client) if run.info.status != "FAILED"]


def test_a_version_that_trades_already_is_not_promoted_and_leaves_no_run(context):
    said = {"kind": "promote", "actor": "test", "reason": "first", "evidence_run": "", "correlation_id": "", "at": NOW}
    context.ledger.registry.append_promotion("volatility", expected=None, to=1, **said)
    before = context.ledger.registry.promotions("volatility")

    done = CliRunner().invoke(main.app, ["promote", "volatility", "1", "--reason", "again"])

    assert isinstance(done.exception, RegistryError)
    assert "v1, which trades already" in str(done.exception)
    assert before == context.ledger.registry.promotions("volatility")
    assert [] == _runs(context.client)


def test_a_decision_that_cannot_be_carried_out_leaves_a_failed_run(context):
    ref = ModelRef("volatility", 7)
    with pytest.raises(RegistryError):
        context.conclude("compare", Report(ref, NOW, ()), Decision(Verdict.PROMOTE, ref, (), None, "better"))
    assert ["FAILED"] == [run.info.status for run in _runs(context.client)]


def test_the_run_of_a_job_is_finished_by_whoever_began_it(context):
    with record.run(context.client, "compare", "volatility", NOW, None) as run:
        assert "RUNNING" == context.client.get_run(run).info.status
        with record.run(context.client, "compare", "volatility", NOW, run) as same:
            assert run == same
        assert "RUNNING" == context.client.get_run(run).info.status
    assert "FINISHED" == context.client.get_run(run).info.status


def test_a_job_of_an_unknown_model_is_refused_and_never_done(context):
    done = CliRunner().invoke(main.app, ["job", "run", "train:nosuch"])
    assert isinstance(done.exception, DataError)
    assert "nosuch" in str(done.exception)
    assert [] == context.ledger.job_runs.all("train:nosuch")

    with pytest.raises(DataError, match="nosuch"):
        worker.do(context, Claim("train:nosuch", NOW, "test", 1, 1))
