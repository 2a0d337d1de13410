"""A bundle is whole, its own, and runs nothing before it is known to be what was registered."""

import json
import os
import py_compile
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from jobs import context as context_module
from jobs import train
from mlops.errors import BundleError
from mlops.io import bar_feed
from mlops.learn import STRATEGIES, features
from mlops.settings import Settings, TrainSettings
from registry_hooks import bundle

ROOT = Path(__file__).parents[2]
STRATEGY = STRATEGIES["volatility"]
NAMES = STRATEGY.feature_names
FILES = (
    "MLmodel",
    "gbm.py",
    "requirements.txt",
    "artifacts/booster.txt",
    "artifacts/meta.json",
    "artifacts/probe.parquet",
)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """(context, ref, digest) of a version that was trained on a year and a bit of six symbols."""
    folder = tmp_path_factory.mktemp("registered")
    whole = bar_feed.load_bars(
        "sp500", start=datetime(2003, 6, 1, tzinfo=UTC), end=datetime(2006, 1, 1, tzinfo=UTC)
    ).frame
    bars = whole[whole.symbol.isin(("AAPL", "GE", "JNJ", "KO", "WMT", "XOM"))]
    settings = TrainSettings(trials=2, folds=2, embargo_bars=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        uri = f"sqlite:///{folder}/mlflow.db"
        with context_module.opened(Settings(state=folder, tracking_uri=uri, train=settings)) as context:
            ref = train.train(context, STRATEGY, bars, as_of=datetime(2006, 1, 1, tzinfo=UTC), start=None)
            yield context, ref, context.ledger.registry.bundle(ref.name, ref.version).digest


@pytest.fixture
def copy(registered, tmp_path):
    """A copy of its own for each test, as fetched."""
    context, ref, _ = registered
    return Path(shutil.copytree(bundle.fetch(context.client, ref, context.registry.cache), tmp_path / "copy"))


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(1, 0.5, size=(30, len(NAMES))).astype(np.float32)


def _last_row(bars):
    return features.last_row(STRATEGY, bars)


def test_it_is_downloaded_once_and_leaves_nothing_behind(registered, tmp_path):
    context, ref, digest = registered

    place = bundle.fetch(context.client, ref, tmp_path)
    first = (place / "MLmodel").stat()
    again = bundle.fetch(context.client, ref, tmp_path)

    assert tmp_path / "volatility" / "1" == place == again
    assert (first.st_ino, first.st_mtime_ns) == (
        (place / "MLmodel").stat().st_ino,
        (place / "MLmodel").stat().st_mtime_ns,
    )
    assert ["1"] == os.listdir(tmp_path / "volatility")
    assert digest == bundle.digest(place)


def test_it_scores_as_its_booster_and_calibrator_do(registered, copy, values):
    import lightgbm

    found = bundle.load(copy, registered[2])

    margin = lightgbm.Booster(model_file=copy / "artifacts" / "booster.txt").predict(values, raw_score=True)
    platt = found.meta["calibrator"]
    expected = 1 / (1 + np.exp(-(platt["slope"] * margin + platt["intercept"])))
    assert len(set(expected)) > 10
    assert list(expected) == pytest.approx(list(found.score(values, NAMES)), abs=1e-12)
    assert (NAMES, registered[2]) == (found.names, found.digest)


CLEAN = """
import importlib.util, json, sys
root = sys.argv[3]
sys.path[:] = [p for p in sys.path if p not in ("", root)]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]  # an installation for development
assert not any(importlib.util.find_spec(name) for name in ("mlops", "jobs", "registry_hooks"))
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(pandas.read_parquet(sys.argv[2])).tolist()))
assert not any(name.split(".")[0] in ("mlops", "jobs", "registry_hooks") for name in sys.modules)
"""


def test_it_loads_in_a_clean_process_without_this_repository_and_scores_the_same(registered, copy, values, tmp_path):
    rows = tmp_path / "rows.parquet"
    pd.DataFrame(values, columns=list(NAMES)).to_parquet(rows)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(empty), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-I", "-c", CLEAN, str(copy), str(rows), str(ROOT)]

    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert 0 == done.returncode, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(bundle.load(copy, registered[2]).score(values, NAMES)) == found


def test_nothing_in_it_is_pickled(copy):
    files = [p for p in copy.rglob("*") if p.is_file()]
    assert not [p for p in files if p.suffix in (".pkl", ".pickle", ".joblib", ".pyc")]
    assert not [p for p in files if p.read_bytes()[:1] == b"\x80"]


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_byte_is_refused_and_the_copy_is_put_aside(registered, copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))

    with pytest.raises(BundleError, match=f"must be {registered[2]}, got .* The copy is kept at") as error:
        bundle.load(copy, registered[2])

    assert not copy.exists()  # the next fetch downloads anew
    assert [bytes(content)] == [(p / name).read_bytes() for p in copy.parent.glob("copy.refused-*")]
    assert str(next(copy.parent.glob("copy.refused-*"))) in str(error.value)


@pytest.mark.parametrize("change", ["a file more", "a file less", "a file renamed", "bytes moved between two files"])
def test_any_other_set_of_files_has_another_digest(registered, copy, change):
    a, b = copy / "requirements.txt", copy / "conda.yaml"
    if change == "a file more":
        (copy / "sitecustomize.py").write_text("")
    elif change == "a file less":
        a.unlink()
    elif change == "a file renamed":
        a.rename(copy / "requirements.text")
    else:
        whole = b.read_bytes() + a.read_bytes()
        b.write_bytes(whole[:-1])
        a.write_bytes(whole[-1:])
    assert registered[2] != bundle.digest(copy)


def test_only_what_mlflow_adds_at_a_download_is_left_out_of_the_digest(registered, copy):
    (copy / "registered_model_meta").write_text("model_name: volatility\n")
    assert registered[2] == bundle.digest(copy)


def _marks(copy, marker):
    """Let the copy's code leave a mark when it runs."""
    with (copy / "gbm.py").open("a") as script:
        script.write(f"open({str(marker)!r}, 'w').close()\n")


def test_altered_code_does_not_run_before_it_is_refused(registered, copy, tmp_path):
    marker = tmp_path / "ran"
    _marks(copy, marker)
    altered = Path(shutil.copytree(copy, tmp_path / "control"))

    with pytest.raises(BundleError, match="digest"):
        bundle.load(copy, registered[2])
    assert not marker.exists()

    bundle.load(altered, bundle.digest(altered))
    assert marker.exists()  # the mark would have told


def _planted(copy, marker, tmp_path):
    """Bytecode of other code, where Python looks before it compiles gbm.py."""
    evil = tmp_path / "evil.py"
    evil.write_text(f"{(copy / 'gbm.py').read_text()}\nopen({str(marker)!r}, 'w').close()\n")
    cached = copy / "__pycache__" / f"gbm.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(evil), cfile=str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def test_a_planted_pycache_does_not_run(registered, copy, tmp_path):
    marker = tmp_path / "ran"
    control = Path(shutil.copytree(copy, tmp_path / "control"))
    for folder in (copy, control):
        _planted(folder, marker, tmp_path)

    bundle.load(copy, registered[2])
    assert not marker.exists()

    mlflow.pyfunc.load_model(str(control))
    assert marker.exists()  # MLflow alone would have run it


def test_it_can_be_loaded_again_from_the_same_place(registered, copy, values):
    first, again = bundle.load(copy, registered[2]), bundle.load(copy, registered[2])
    assert np.array_equal(first.score(values, NAMES), again.score(values, NAMES))


def test_another_format_is_refused(copy):
    meta = copy / "artifacts" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 2}))
    with pytest.raises(BundleError, match="format of .* must be 1, got 2"):
        bundle.load(copy, bundle.digest(copy))


@pytest.mark.parametrize("damage", ["no MLmodel", "no booster", "no LightGBM in it", "a library that is not there"])
def test_what_cannot_be_loaded_is_refused_as_a_bundle(copy, damage):
    if damage == "no MLmodel":
        (copy / "MLmodel").unlink()
    elif damage == "no booster":
        (copy / "artifacts" / "booster.txt").unlink()
    elif damage == "no LightGBM in it":
        (copy / "artifacts" / "booster.txt").write_text("tree\n")
    else:
        (copy / "gbm.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(BundleError, match="must load, got"):
        bundle.load(copy, bundle.digest(copy))


def test_columns_in_another_order_give_the_same_scores(registered, copy, values):
    found, order = bundle.load(copy, registered[2]), np.random.default_rng(1).permutation(len(NAMES))
    assert list(order) != sorted(order)

    stirred = found.score(values[:, order], [NAMES[i] for i in order])

    assert np.array_equal(found.score(values, NAMES), stirred)
    assert not np.array_equal(found.score(values, NAMES), found.score(values[:, order], NAMES))


def test_a_missing_feature_is_refused(registered, copy, values):
    with pytest.raises(BundleError, match=f"got none of \\['{NAMES[2]}'\\]"):
        bundle.load(copy, registered[2]).score(np.delete(values, 2, axis=1), [n for n in NAMES if n != NAMES[2]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(registered, copy, values, value):
    values[3, 1] = value
    with pytest.raises(ValueError, match=f"{NAMES[1]} must be finite, got {value} in row 3"):
        bundle.load(copy, registered[2]).score(values, NAMES)


def test_the_reference_scores_are_probabilities_of_whole_rows(registered, copy):
    reference = bundle.load(copy, registered[2]).reference()
    assert ["event_time", "unit", *NAMES, "label", "probability"] == list(reference)
    assert reference.notna().all(axis=None)
    assert reference.probability.between(0, 1).all()
    assert str(reference.event_time.dt.tz) == "UTC"


@pytest.mark.parametrize(("known", "rows"), [({}, 1.0), ({"held_out": {"from": None, "bars_needed": 462}}, 0.0)])
def test_bundles_from_before_bars_were_held_out_keep_all_rows_and_short_histories_none(registered, copy, known, rows):
    made = bundle.load(copy, registered[2])
    old = replace(made, meta={key: value for key, value in made.meta.items() if key != "held_out"} | known)
    assert rows * len(made.reference()) == len(old.held_out())
    assert list(made.reference()) == list(old.held_out())


def test_the_same_feature_code_is_proven(registered, copy):
    bundle.load(copy, registered[2]).prove(_last_row, NAMES)


def test_a_bots_own_order_of_features_is_proven_too(registered, copy):
    def other_order(bars):
        units, rows = _last_row(bars)
        return units, rows[:, ::-1]

    bundle.load(copy, registered[2]).prove(other_order, NAMES[::-1])


def _one_bar_late(bars):
    return _last_row(bars[bars.event_time < bars.event_time.max()])


def _in_percent(bars):
    units, rows = _last_row(bars)
    return units, np.where(np.arange(len(NAMES)) == 4, rows * 100, rows).astype(np.float32)


def _a_unit_less(bars):
    units, rows = _last_row(bars)
    return units[1:], rows[1:]


def _swapped(bars):
    units, rows = _last_row(bars)
    return units[::-1], rows


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        (_one_bar_late, f"feature {NAMES[0]} must be what training saw"),
        (_in_percent, f"feature {NAMES[4]} must be what training saw"),
        (_a_unit_less, "probe must give units"),
        (_swapped, "probe must give units"),
    ],
)
def test_other_feature_code_is_refused(registered, copy, code, rule):
    with pytest.raises(BundleError, match=rule):
        bundle.load(copy, registered[2]).prove(code, NAMES)


def test_a_bot_without_one_of_its_features_is_refused(registered, copy):
    def fewer(bars):
        units, rows = _last_row(bars)
        return units, rows[:, 1:]

    with pytest.raises(BundleError, match=f"got none of \\['{NAMES[0]}'\\]"):
        bundle.load(copy, registered[2]).prove(fewer, NAMES[1:])


def test_other_scores_are_refused(registered, copy):
    """As where a library computes differently: here the calibrator of the copy is another one."""
    meta = copy / "artifacts" / "meta.json"
    content = json.loads(meta.read_text())
    content["calibrator"]["intercept"] += 0.1
    meta.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="must score as in training"):
        bundle.load(copy, bundle.digest(copy)).prove(_last_row, NAMES)
