"""The one way in: a bundle that anybody made is registered like those of training, and what lacks something is not."""

import json
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from mlops.errors import BundleError, DataError
from mlops.io.ledger import Ledger
from mlops.types import ModelRef
from registry_hooks import aliases, apply, register
from registry_hooks.aliases import Registry
from registry_hooks.apply import Act
from registry_hooks.register import Script, Training

AT = datetime(2026, 3, 2, tzinfo=UTC)
TRAINING = Training("my_own", datetime(2020, 1, 1, tzinfo=UTC), AT, 3, "digest of my rows", AT, "made by me")
SCRIPT = """
import json
from pathlib import Path

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Mine(PythonModel):
    def load_context(self, context):
        self.bias = json.loads(Path(context.artifacts["meta"]).read_text())["bias"]

    def predict(self, context, model_input, params=None):
        return np.clip(model_input["signal"].to_numpy() + self.bias, 0.01, 0.99)


set_model(Mine())
"""


@pytest.fixture
def registry(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)  # MLflow's own store on SQLite goes by it
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        yield Registry(MlflowClient(uri, registry_uri=uri), ledger, tmp_path / "bundles")


@pytest.fixture
def files(tmp_path):
    """What a user writes to have a model of another make looked after."""
    folder = tmp_path / "files"
    folder.mkdir()
    rows = pd.DataFrame({"event_time": pd.to_datetime([AT] * 2), "unit": ["A", "B"], "signal": [0.2, 0.4]})
    rows.assign(label=[0.0, 1.0], probability=[0.3, 0.5]).to_parquet(folder / "reference.parquet", index=False)
    rows.rename(columns={"unit": "symbol"}).to_parquet(folder / "probe.parquet", index=False)
    meta = {"format": 1, "features": ["signal"], "horizon_bars": 3, "base_rate": 0.5, "bias": 0.1}
    meta["probe"] = {"units": ["A", "B"], "features": [[0.2], [0.4]], "probability": [0.3, 0.5]}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def script(tmp_path, files):
    path = Path(tmp_path / "mine.py")
    path.write_text(SCRIPT)
    return Script(path, files, pd.DataFrame({"signal": [0.2, 0.4]}))


def bring_in(registry, save, training=TRAINING):
    client = registry.client
    experiment = client.get_experiment_by_name("mine")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("mine")
    run_id = client.create_run(experiment_id).info.run_id
    upload = register.upload(registry, training, run_id, save)
    return register.register(registry, upload, training, lambda: None)


def test_a_model_of_a_users_own_is_a_version_that_can_be_champion(registry, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = bring_in(registry, script(tmp_path, files).save)
    second = bring_in(registry, script(tmp_path, files).save)

    assert [ModelRef("my_own", 1), ModelRef("my_own", 2)] == [first, second]
    apply.promote(registry, second, "mine", Act("ada", AT), expected=None)
    assert 2 == registry.ledger.registry.champion("my_own")
    assert 2 == aliases.champion(registry, "my_own").version
    bundle = apply.prove_loadable(registry, second)
    bundle.prove(None, ["signal"])
    assert [0.6] == bundle.score(np.array([[0.5]], dtype=np.float32), ["signal"]).round(6).tolist()
    row = registry.ledger.registry.bundle("my_own", 2)
    assert ("strategy", 3, bundle.digest) == (row.kind, row.horizon_bars, row.digest)
    version = registry.client.get_model_version("my_own", "2")
    assert f"models:/{row.model_id}" == version.source
    assert "made by me" in version.description
    links = json.loads(registry.client.get_logged_model(row.model_id).tags["mlflow.modelVersions"])
    assert [{"name": "my_own", "version": 2}] == links


@pytest.mark.parametrize("missing", ["meta.json", "reference.parquet", "probe.parquet"])
def test_what_lacks_a_file_that_jobs_read_is_not_uploaded(registry, files, tmp_path, missing, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (files / missing).unlink()
    with pytest.raises(BundleError, match=f"bundle must have meta.json, .* got none of .*{missing}"):
        bring_in(registry, script(tmp_path, files).save)
    assert [] == registry.ledger.registry.bundles("my_own")
    assert [] == registry.client.search_registered_models()


def test_what_does_not_say_what_every_bundle_says_is_not_uploaded(registry, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meta = json.loads((files / "meta.json").read_text())
    (files / "meta.json").write_text(json.dumps({key: meta[key] for key in meta if key != "base_rate"}))
    with pytest.raises(BundleError, match=r"meta.json must have base_rate, .* got none of \['base_rate'\]"):
        bring_in(registry, script(tmp_path, files).save)


def test_a_kind_of_model_that_nothing_here_knows_is_refused():
    with pytest.raises(DataError, match="kind must be one of strategy, got 'oracle'"):
        Training("my_own", AT, AT, 3, "digest", AT, kind="oracle")
