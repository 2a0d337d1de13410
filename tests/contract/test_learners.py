"""What every learner keeps: the same model for the same rows, which its script loads from its files alone."""

import json

import mlflow
import numpy as np
import optuna
import pandas as pd
import pytest

from jobs.train import SCRIPTS
from mlops.errors import SettingsError
from mlops.learn.learner import Table
from mlops.learn.learners import LEARNERS, learner_of, libraries
from registry_hooks.register import Script

every = pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, len(NAMES))).astype(np.float32)
    return Table(x, (rng.random(600) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float))


@pytest.fixture
def params(learner):
    return learner.space(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask())


@every
def test_the_same_rows_parameters_and_seed_give_the_same_files(learner, table, params):
    first, again = (learner.fit(table, params, 1).files() for _ in range(2))
    assert first == again
    assert first


@every
def test_what_the_script_loads_scores_as_what_was_fitted_and_calibrated(learner, table, params, tmp_path):
    fitted = learner.fit(table, params, 1)
    calibrator = learner.calibrate(fitted.margins(table.x), table.y)
    files, saved = tmp_path / "files", tmp_path / "saved"
    files.mkdir()
    for name, content in fitted.files().items():
        (files / name).write_bytes(content)
    meta = {"features": NAMES, "calibrator": {name: getattr(calibrator, name) for name in ("slope", "intercept")}}
    (files / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    rows = pd.DataFrame(table.x, columns=NAMES)

    Script(SCRIPTS / learner.script, files, rows.head(2), learner.libraries).save(saved, mlflow.models.Model())
    loaded = mlflow.pyfunc.load_model(str(saved))

    assert calibrator(fitted.margins(table.x)).tolist() == loaded.predict(rows).tolist()


def test_a_name_that_the_table_lacks_is_refused_with_those_it_has():
    with pytest.raises(SettingsError, match="train.learner must be one of gbm, got 'forest'"):
        learner_of("forest")


def test_a_library_is_named_by_its_learner_and_nowhere_else_in_the_product():
    product = [path for top in ("mlops", "jobs", "registry_hooks") for path in (SCRIPTS.parent / top).rglob("*.py")]
    for library in libraries():
        naming = {path.name for path in product if library in path.read_text(encoding="utf-8").lower()}
        assert {f"{learner.name}.py" for learner in LEARNERS.values() if library in learner.libraries} == naming
