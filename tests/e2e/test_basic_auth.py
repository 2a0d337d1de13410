"""MLflow with basic-auth: the platform is its only writer, a bot is a reader."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pytest
from mlflow.server import get_app_client

from jobs import train
from jobs.context import opened
from jobs.stack.servers import free_port, mlflow_server, own_secret, platform_service
from mlops.learn import STRATEGIES, features
from mlops.settings import ServiceSettings, Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import aliases, apply
from registry_hooks.apply import Act
from registry_hooks.bot.client import Bot
from registry_hooks.webhooks import mlflow_events

pytestmark = pytest.mark.e2e

NOW = datetime(2008, 1, 4, 22, tzinfo=UTC)
MODEL, STRATEGY = "volatility", STRATEGIES["volatility"]
ACT = Act("test", NOW)
READER = ("bot", "a long password")


@contextmanager
def _as(name, password):
    """MLflow's client takes its credentials from the environment of the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", name)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        yield


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, bars):
    """(context, admin's credentials, state): a server with accounts, two versions, the first one champion."""
    state = tmp_path_factory.mktemp("guarded")
    with mlflow_server(state, free_port(), auth=True) as uri:
        admin = ("admin", own_secret(state, "mlflow-admin"))
        small = TrainSettings(trials=1, folds=2, min_bars=100)
        with _as(*admin), opened(Settings(state=state, tracking_uri=uri, train=small)) as context:
            get_app_client("basic-auth", uri).create_user(*READER)
            for year in (2005, 2006):
                train.train(context, STRATEGY, bars, as_of=datetime(year, 1, 1, tzinfo=UTC), start=None)
            apply.promote(context.registry, ModelRef(MODEL, 1), "first", ACT, expected=None)
            yield context, admin, state


@pytest.fixture
def bot(guarded):
    with _as(*READER):
        return Bot(
            MODEL,
            guarded[0].registry,
            features=lambda bars: features.last_row(STRATEGY, bars),
            names=STRATEGY.feature_names,
            poll_s=0.0,
            background=False,
        )


def _score(bot):
    values = np.ones((3, len(STRATEGY.feature_names)), dtype=np.float32)
    when = {"event_time": NOW, "known_at": NOW, "matures_at": NOW + timedelta(days=5)}
    return set(bot.score(("AAPL", "GE", "XOM"), values, **when).version.tolist())


def test_a_bot_that_may_only_read_scores_and_swaps(guarded, bot):
    context, admin, _ = guarded
    with _as(*READER):
        before = _score(bot)
    with _as(*admin):
        apply.promote(context.registry, ModelRef(MODEL, 2), "better", ACT, expected=1)
    with _as(*READER):
        swapped = bot.boundary(NOW)
        after = _score(bot)

    assert ({1}, 2, {2}) == (before, swapped, after)


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.set_registered_model_alias(MODEL, "champion", "1"),
        lambda client: client.delete_registered_model_alias(MODEL, "champion"),
        lambda client: client.set_model_version_tag(MODEL, "1", "role", "shadow"),
        lambda client: client.delete_model_version(MODEL, "1"),
        lambda client: client.delete_registered_model(MODEL),
        lambda client: mlflow_events.subscribe(client, "http://127.0.0.1:9/hooks/mlflow", "secret"),
    ],
    ids=["alias set", "alias deleted", "tag", "version deleted", "model deleted", "webhook"],
)
def test_a_reader_writes_nothing(guarded, write):
    context, _, _ = guarded
    with _as(*READER), pytest.raises(mlflow.MlflowException) as refused:
        write(context.client)

    assert 403 == refused.value.get_http_status_code()


def test_a_stranger_reads_nothing(guarded):
    with _as("bot", "a wrong password"), pytest.raises(mlflow.MlflowException) as refused:
        guarded[0].client.get_registered_model(MODEL)

    assert 401 == refused.value.get_http_status_code()


def test_the_service_mends_as_the_only_writer(guarded):
    """It is told by a webhook, which only the admin may make."""
    context, admin, state = guarded
    port = free_port()
    environment = {
        "MLOPS_STATE": str(state),
        "MLOPS_TRACKING_URI": context.settings.tracking_uri,
        "MLFLOW_TRACKING_URI": context.settings.tracking_uri,
        "MLFLOW_TRACKING_USERNAME": admin[0],
        "MLFLOW_TRACKING_PASSWORD": admin[1],
        "MLOPS_SERVICE__PORT": str(port),
        "MLOPS_SERVICE__WEBHOOK_SECRET": ServiceSettings(webhook_secret="shared").webhook_secret.get_secret_value(),
    }
    with _as(*admin), platform_service(state, port, environment):
        champion = context.ledger.registry.champion(MODEL)
        context.client.delete_registered_model_alias(MODEL, "champion")
        until = time.monotonic() + 60
        while aliases.read(context.client, MODEL).get("champion") != champion:
            assert time.monotonic() < until, "the alias was not set again"
            time.sleep(0.2)

    assert any("deleted by hand" in alert.title for alert in context.ledger.alerts.newest())
