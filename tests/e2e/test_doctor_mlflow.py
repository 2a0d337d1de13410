"""Every error that the doctor can find in MLflow's server, its webhooks and the registry, made for real."""

import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookStatus
from mlflow.server import get_app_client
from place import eventually
from pydantic import SecretStr

from jobs import demo, promote, train
from jobs.doctor import Setup
from jobs.doctor import command as doctor
from jobs.stack.servers import _process, free_port, mlflow_command, own_secret
from mlops.io.ledger import Ledger
from mlops.learn import STRATEGIES
from mlops.settings import ServiceSettings, Settings, TrainSettings
from mlops.types import Level, ModelRef
from registry_hooks.webhooks import mlflow_events

pytestmark = pytest.mark.e2e

NOW = datetime(2006, 1, 6, 22, tzinfo=UTC)
MLFLOW = ("ledger", "mlflow store", "mlflow server", "mlflow release", "clock", "mlflow webhook", "models")
KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"


@pytest.fixture(scope="module")
def context(tmp_path_factory, bars):
    """A platform of this module's own, with a champion."""
    before = dict(os.environ)
    with demo.stage(tmp_path_factory.mktemp("doctor"), free_port(), free_port()) as (opened, _):
        small = TrainSettings(trials=1, folds=2, min_bars=100)
        mine = replace(opened, settings=opened.settings.model_copy(update={"train": small}))
        ref = train.train(mine, STRATEGIES["volatility"], bars, as_of=NOW, start=None)
        promote.promote(mine, ref, reason="first", actor="test", at=datetime.now(UTC))
        service = f"http://127.0.0.1:{mine.settings.service.port}/readyz"
        eventually(lambda: httpx.get(service, timeout=10).is_success, limit_s=90)  # each of its loops has looked
        yield mine
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _server(request):
    if "context" in request.fixturenames:
        mlflow.set_tracking_uri(request.getfixturevalue("context").settings.tracking_uri)


def _found(settings, *checks, **changes):
    setup = Setup(settings, **{"environment": {}, **changes})
    try:
        return [found for found in doctor.examine(setup, checks or MLFLOW) if found.level in (Level.WARN, Level.ALERT)]
    finally:
        setup.close()


def _one(settings, *checks, **changes):
    (found,) = _found(settings, *checks, **changes)
    assert found.remedy
    return found


def test_a_healthy_platform_is_all_well(context):
    assert [] == _found(context.settings, *(set(doctor.CHECKS) - {"api keys", "mlflow accounts"}))  # this one has none


@contextmanager
def _webhook(context, **changes):
    """Our webhook, changed, and put right at the end."""
    client = context.client
    (mine,) = [hook for hook in client.list_webhooks() if hook.name == "trader-mlops"]
    client.update_webhook(mine.webhook_id, **changes)
    try:
        yield mine
    finally:
        mlflow_events.subscribe(client, mine.url, context.settings.service.webhook_secret.get_secret_value())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "http://127.0.0.1:9/hooks/mlflow"}, "webhook calls http://127.0.0.1:9/hooks/mlflow"),
        ({"status": WebhookStatus.DISABLED}, "webhook is DISABLED"),
        ({"events": [mlflow_events.EVENTS[0]]}, "does not tell of model_version_alias.deleted"),
        ({"secret": "another secret of more than 24 bytes"}, "webhook secrets differ"),
    ],
)
def test_a_webhook_that_is_not_as_it_should_be_is_named(context, changes, said):
    with _webhook(context, **changes):
        assert said in _one(context.settings).what


def test_a_webhook_that_is_not_there_is_named_and_trying_leaves_none(context):
    with _webhook(context) as mine:
        context.client.delete_webhook(mine.webhook_id)

        assert "has no webhook of ours" in _one(context.settings).what
        assert [] == list(context.client.list_webhooks())


def test_a_service_that_writes_into_another_ledger_is_named(context, tmp_path):
    elsewhere = context.settings.model_copy(update={"ledger_url": f"sqlite:///{tmp_path / 'other.db'}"})
    with Ledger(elsewhere.ledger):
        pass

    assert "not in this ledger" in _one(elsewhere).what


def test_a_service_that_is_away_fails_the_test_delivery(context):
    gone = context.settings.model_copy(
        update={"service": context.settings.service.model_copy(update={"port": free_port()})}
    )
    with _webhook(context, url=f"http://127.0.0.1:{gone.service.port}/hooks/mlflow"):
        assert "test delivery of MLflow's webhook failed" in _one(gone).what


@pytest.mark.parametrize(("off", "level"), [(timedelta(seconds=30), Level.WARN), (timedelta(minutes=10), Level.ALERT)])
def test_a_clock_that_is_off_mlflows_is_named(context, off, level):
    found = _one(context.settings, *MLFLOW[:5], clock=lambda: datetime.now(UTC) + off)

    assert (level, True) == (found.level, "clock of MLflow's server" in found.what)


def test_a_bundle_that_was_altered_is_named(context):
    bundle = context.registry.cache / "volatility" / "1"
    context.bundle(ModelRef("volatility", 1))
    script = next(bundle.rglob("*.py"))
    script.write_text(script.read_text() + "# altered")

    assert "cannot be loaded" in _one(context.settings, "ledger", "mlflow server", "models").what


def test_a_model_that_mlflow_lost_is_named(context, tmp_path):
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        row = context.ledger.registry.bundle("volatility", 1)
        ledger.registry.add_bundle(replace(row, model="gone"))
    elsewhere = context.settings.model_copy(update={"ledger_url": f"sqlite:///{tmp_path / 'ledger.db'}"})

    assert "gone: MLflow does not have it any more" in _one(elsewhere, "ledger", "mlflow server", "models").what


def test_a_champion_that_the_log_does_not_know_is_named_and_so_is_a_model_without_one(context, tmp_path):
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:  # no service mends what stands in this one
        ledger.registry.add_bundle(context.ledger.registry.bundle("volatility", 1))
    elsewhere = context.settings.model_copy(update={"ledger_url": f"sqlite:///{tmp_path / 'ledger.db'}"})
    moved, none = _found(elsewhere, "ledger", "mlflow server", "models")

    assert "alias champion is v1, the promotion log says not set" in moved.what
    assert (Level.WARN, True) == (none.level, "has no champion" in none.what)


# servers that were started wrongly


@contextmanager
def _mlflow(state, *, without=(), auth=False, **variables):
    port = free_port()
    command, settings = mlflow_command(state, port, auth=auth)
    wanted = {**{name: value for name, value in settings.items() if name not in without}, **variables}
    with _process(command, wanted, state / "mlflow.log", f"http://127.0.0.1:{port}/health"):
        yield port


def _of(state, uri):
    service = ServiceSettings(port=free_port(), webhook_secret=SecretStr("a secret of more than 24 bytes"))
    return Settings(state=state, tracking_uri=uri, service=service)


def test_a_server_without_its_webhook_settings_is_named_and_the_remedies_mend_it(tmp_path):
    allowed, private = "MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"
    with _mlflow(tmp_path, without=(KEY, allowed, private)) as port:
        uri = f"http://127.0.0.1:{port}"
        assert allowed in _one(_of(tmp_path, uri), *MLFLOW[1:]).remedy
        MlflowClient(uri, uri).create_webhook(
            "trader-mlops", "https://1.1.1.1/", [mlflow_events.EVENTS[0]], secret="one of more than 24 bytes"
        )
    with _mlflow(tmp_path, without=(KEY, private)) as port:  # a new process, and so another random key
        settings = _of(tmp_path, f"http://127.0.0.1:{port}")
        assert KEY in (found := _one(settings, *MLFLOW[1:])).what
        assert "delete the rows of its table `webhooks`" in found.remedy
        with closing(sqlite3.connect(tmp_path / "mlflow.db", timeout=30)) as connection, connection:
            connection.execute("DELETE FROM webhook_events")
            connection.execute("DELETE FROM webhooks")

        assert private in _one(settings, *MLFLOW[1:]).remedy


def test_a_host_name_a_stranger_and_a_reader_are_refused_and_named(tmp_path):
    reader = {"MLFLOW_TRACKING_USERNAME": "bot", "MLFLOW_TRACKING_PASSWORD": "a long password"}
    stranger = {"MLFLOW_TRACKING_USERNAME": "nobody", "MLFLOW_TRACKING_PASSWORD": "a wrong password"}
    admin = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": own_secret(tmp_path, "mlflow-admin")}
    with _mlflow(tmp_path, auth=True, MLFLOW_SERVER_ALLOWED_HOSTS="localhost:*") as port:
        named, numbered = _of(tmp_path, f"http://localhost:{port}"), _of(tmp_path, f"http://127.0.0.1:{port}")
        assert f"MLFLOW_SERVER_ALLOWED_HOSTS=127.0.0.1:{port}" in _one(numbered, *MLFLOW[1:], environment=admin).remedy
        assert "does not know us (401)" in _one(named, *MLFLOW[1:], environment=stranger).what
        with pytest.MonkeyPatch.context() as patch:
            for name, value in admin.items():
                patch.setenv(name, value)
            get_app_client("basic-auth", named.tracking_uri).create_user(*reader.values())

        assert "is a reader" in _one(named, *MLFLOW[1:], environment=reader).what
        assert "has no webhook of ours" in _one(named, *MLFLOW[1:], environment=admin).what
        assert "has no webhook of ours" in _one(named.model_copy(update={"tracking_auth": True}), *MLFLOW[1:]).what
