"""An account of MLflow that may only read takes no name that the platform uses, and keeps none that it took before."""

from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest

from jobs import train
from jobs.context import opened
from jobs.doctor import Setup, mlflow_writers
from jobs.doctor import command as doctor
from jobs.stack.servers import _process, free_port, mlflow_command, mlflow_server, own_secret
from mlops.errors import RegistryError
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import Level
from registry_hooks.account import AUTHORIZE

pytestmark = pytest.mark.e2e
MODEL, NOW = "volatility", datetime(2006, 1, 1, tzinfo=UTC)
SMALL = TrainSettings(trials=1, folds=2, min_bars=100)
READER = ("bot", "a long password")


class Account:
    """A process that speaks HTTP with MLflow and has one account."""

    def __init__(self, uri, auth):
        self.uri, self.auth = uri, auth

    def ask(self, method, path, **given):
        return httpx.request(method, f"{self.uri}/{path}", auth=self.auth, timeout=30, **given)

    def post(self, path, version="2.0", api="api", **body):
        return self.ask("POST", f"{api}/{version}/mlflow/{path}", json=body)

    def takes(self, name):
        return [self.post(f"{thing}/create", name=name).status_code for thing in ("experiments", "registered-models")]


@contextmanager
def _context(state, server, **settings):
    """(context, admin, reader) of a set-up whose MLflow is `server`."""
    with server as uri, pytest.MonkeyPatch.context() as patch:
        admin = ("admin", own_secret(state, "mlflow-admin"))
        patch.setenv("MLFLOW_TRACKING_USERNAME", admin[0])
        patch.setenv("MLFLOW_TRACKING_PASSWORD", admin[1])
        with opened(Settings(state=state, tracking_uri=uri, train=SMALL, **settings)) as context:
            owner = Account(uri, admin)
            assert 200 == owner.post("users/create", username=READER[0], password=READER[1]).status_code
            yield context, owner, Account(uri, READER)


@contextmanager
def _stock(state):
    """MLflow with accounts as a person starts it, by MLflow's own authorization."""
    port = free_port()
    command, variables = mlflow_command(state, port, auth=True)
    ini = state / "basic_auth.ini"
    ini.write_text(ini.read_text().replace(AUTHORIZE, "mlflow.server.auth:authenticate_request_basic_auth"))
    with _process(command, variables, state / "mlflow.log", f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


def _lines(context):
    setup = Setup(context.settings, environment={})
    try:
        return [line for line in doctor.examine(setup, ("ledger", "mlflow accounts")) if line.check != "ledger"]
    finally:
        setup.close()


def test_a_reader_takes_no_name_in_a_set_up_of_ours(tmp_path, bars):
    with _context(tmp_path, mlflow_server(tmp_path, free_port(), auth=True)) as (context, owner, reader):
        assert [403, 403] == reader.takes(MODEL)
        prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
        assert 403 == reader.post("registered-models/create", name=MODEL, tags=prompt).status_code
        assert 403 == reader.post("experiments/create", api="ajax-api", name=MODEL).status_code
        assert 401 == Account(reader.uri, ("bot", "a wrong one")).takes(MODEL)[0]
        assert 200 == reader.ask("GET", "api/2.0/mlflow/experiments/get", params={"experiment_id": "0"}).status_code
        assert [200, 200] == owner.takes("anything")

        assert 1 == train.train(context, STRATEGIES[MODEL], bars, as_of=NOW, start=None).version
        assert [] == context.ledger.alerts.newest()
        assert [Level.OK] == [line.level for line in _lines(context)]
        for path, body in (("alias", {"alias": "champion", "version": "1"}), ("rename", {"new_name": "x"})):
            assert 403 == reader.post(f"registered-models/{path}", name=MODEL, **body).status_code


def test_names_that_a_reader_took_before_are_taken_back_and_told(tmp_path, bars):
    with _context(tmp_path, _stock(tmp_path)) as (context, _, reader):
        assert [200, 200] == reader.takes(MODEL)
        lines = _lines(context)
        assert {Level.ALERT} == {line.level for line in lines}
        assert all("account bot of MLflow has MANAGE" in line.what for line in lines)
        assert 2 == len(lines)

        assert 1 == train.train(context, STRATEGIES[MODEL], bars, as_of=NOW, start=None).version

        (alert,) = context.ledger.alerts.newest()
        assert alert.key.startswith("mlflow_writer_revoked:bot@")
        assert "MANAGE on experiment" in alert.title
        assert f"MANAGE on registered_model {MODEL}" in alert.title
        set_alias = {"name": MODEL, "alias": "champion", "version": "1"}
        assert 403 == reader.post("registered-models/alias", **set_alias).status_code
        run = context.ledger.registry.bundles(MODEL)[0].run_id
        assert 403 == reader.post("runs/set-tag", run_id=run, key="verdict", value="PROMOTE").status_code
        removed = reader.ask("DELETE", "api/2.0/mlflow/registered-models/delete", json={"name": MODEL})
        assert 403 == removed.status_code
        assert [Level.OK] == [line.level for line in _lines(context)]


def test_rights_that_a_person_gave_are_refused_until_he_takes_them_back_or_names_the_account(tmp_path, bars):
    with _context(tmp_path, _stock(tmp_path)) as (context, owner, reader):
        role = owner.post("roles/create", version="3.0", name="writers", workspace="default").json()["role"]["id"]
        given = {"role_id": role, "resource_type": "registered_model", "resource_pattern": "*", "permission": "EDIT"}
        added = owner.post("roles/permissions/add", version="3.0", **given)
        assert 200 == added.status_code, added.text
        assert 200 == owner.post("roles/assign", version="3.0", username="bot", role_id=role).status_code

        with pytest.raises(RegistryError, match="account bot with EDIT on all registered_models"):
            train.train(context, STRATEGIES[MODEL], bars, as_of=NOW, start=None)
        assert [] == context.ledger.registry.bundles(MODEL)
        assert ["mlflow_writer:bot"] == [alert.key.partition("@")[0] for alert in context.ledger.alerts.newest()]

        named = context.settings.model_copy(update={"tracking_writers": ("bot",)})
        mlflow_writers.settle(context, NOW)
        assert 1 == len(context.ledger.alerts.newest())  # told once
        with opened(named) as trusting:
            assert [] == mlflow_writers.settle(trusting, NOW)
        assert [] == context.ledger.alerts.newest()

        raised = owner.ask("PATCH", "api/2.0/mlflow/users/update-admin", json={"username": "bot", "is_admin": True})
        assert 200 == raised.status_code
        (left,) = [right for right in mlflow_writers.settle(context, NOW) if right.kind == "thing"]
        assert "bot" == left.account
