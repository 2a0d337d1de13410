"""The script that a bundle carries, run as MLflow runs it: from a copy, without this repository's code."""

import ast
import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from mlops.learn import calibration
from mlops.learn.gbm import fit
from mlops.learn.learner import Table
from models import gbm

SCRIPT = Path(gbm.__file__)
NAMES = ["a", "b", "c"]
PARAMS = {"num_iterations": 20, "num_leaves": 5, "min_data_in_leaf": 20}
PLATT = calibration.Calibrator(0.8, -0.2)


@pytest.fixture(scope="module")
def booster():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3)).astype(np.float32)
    return fit(Table(x, (x[:, 0] - x[:, 2] > 0).astype(float)), PARAMS, 1)


@pytest.fixture(scope="module")
def model(booster, tmp_path_factory):
    """Loaded from files, without a signature: what is refused is refused by the script itself."""
    folder = tmp_path_factory.mktemp("model")
    for name, content in booster.files().items():
        (folder / name).write_bytes(content)
    meta = {"features": NAMES, "calibrator": {"slope": PLATT.slope, "intercept": PLATT.intercept}}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    artifacts = {"booster": str(folder / "booster.txt"), "meta": str(folder / "meta.json")}
    mlflow.pyfunc.save_model(
        folder / "saved", python_model=str(SCRIPT), artifacts=artifacts, pip_requirements=["lightgbm"]
    )
    return mlflow.pyfunc.load_model(str(folder / "saved"))


@pytest.fixture
def rows():
    return pd.DataFrame(np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32), columns=NAMES)


def test_probabilities_are_those_of_the_trained_booster_and_calibrator(model, booster, rows):
    expected = PLATT(booster.margins(rows.to_numpy()))
    assert expected.tobytes() == model.predict(rows).tobytes()
    assert (40,) == expected.shape


def test_columns_are_taken_by_name(model, rows):
    stirred = rows[["c", "a", "b"]].assign(z=np.nan)
    assert np.array_equal(model.predict(rows), model.predict(stirred))


def test_a_row_scores_the_same_alone_and_among_others(model, rows):
    assert [model.predict(rows.iloc[[i]])[0] for i in range(len(rows))] == list(model.predict(rows))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_place(model, rows, value):
    rows.loc[7, "b"] = value
    with pytest.raises(ValueError, match=r"b must be finite, got -?(nan|inf) in row 7. Leave the row out"):
        model.predict(rows)


def test_a_missing_feature_is_refused_by_its_name(model, rows):
    with pytest.raises(ValueError, match=r"must have every feature, got none of \['b'\]"):
        model.predict(rows.drop(columns="b"))


def test_no_probability_is_certain(rows):
    assert calibration.CLIP == gbm.CLIP


def test_it_imports_nothing_of_ours():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    theirs = {"lightgbm", "mlflow", "numpy", "pandas"}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) <= theirs
