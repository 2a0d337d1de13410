"""A real bot's set-up: backed up while it runs, lost, restored."""

import shutil
from datetime import UTC, datetime

import orjson
import pytest
from place import Place

from jobs import promote, train
from jobs.context import opened
from jobs.doctor.command import NOT_SEEN
from mlops.learn import STRATEGIES
from mlops.types import ModelRef
from registry_hooks.account import credentials

pytestmark = pytest.mark.e2e


def test_a_set_up_that_was_lost_comes_back_from_its_backup_and_the_doctor_finds_nothing(
    place, bars, tmp_path, monkeypatch
):
    """With accounts in MLflow. Backed up while it runs, with a champion; the folder destroyed; restored elsewhere."""
    place.environment["MLOPS_TRACKING_AUTH"] = "true"
    place.call("up")
    for name, value in credentials(place.settings.model_copy(update={"tracking_auth": True})).items():
        monkeypatch.setenv(name, value)
    with opened(place.settings) as context:
        ref = train.train(context, STRATEGIES["volatility"], bars, as_of=datetime(2006, 1, 1, tzinfo=UTC), start=None)
        promote.promote(context, ref, reason="first", actor="test", at=datetime.now(UTC))
    place.call("trading-state", "set", "reducing", "--reason", "a quiet week", "--actor", "test")
    assert [] == _wrong(place)
    status = _models(place.call("status"))
    place.call("backup", tmp_path / "copy.tar.zst")
    place.call("down")
    shutil.rmtree(place.state)

    new = Place(tmp_path / "elsewhere" / "live", (place.mlflow, place.service))
    new.environment["MLOPS_TRACKING_AUTH"] = "true"
    new.call("restore", tmp_path / "copy.tar.zst")
    try:
        new.call("up")

        assert status == _models(new.call("status"))
        assert "reducing since" in new.call("status")
        with opened(new.settings) as context:
            bundle = context.bundle(ModelRef("volatility", context.ledger.registry.champion("volatility")))
            assert bundle.digest == context.ledger.registry.bundle("volatility", 1).digest
        assert [] == _wrong(new)
    finally:
        new.call("down")


def _wrong(place):
    """What the doctor finds; that nobody made an API key, no bot runs yet and trading was reduced is no fault of it."""
    return [
        found
        for found in orjson.loads(place.call("doctor", "--json", status=NOT_SEEN))
        if found["level"] not in ("ok", "none")
        and found["check"] not in ("api keys", "bots")
        and "REDUCING" not in found["what"].upper()
    ]


def _models(said):
    return [line for line in said.splitlines() if "volatility" in line]
