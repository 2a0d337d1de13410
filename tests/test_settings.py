"""Settings that cannot hold are refused at the start, by name; whatever a person wrote, there is no traceback."""

import subprocess
import sys
from types import UnionType
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from mlops import settings
from mlops.errors import SettingsError
from mlops.settings import Settings


def floats(model=Settings, path=()):
    """(path, field) of every number with a fraction in the settings, sections included."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from floats(kind, (*path, name))
        elif kind is float or (get_origin(kind) in (UnionType,) and float in get_args(kind)):
            yield (*path, name)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("path", [pytest.param(path, id=".".join(path)) for path in floats()])
def test_no_number_may_be_infinite_or_none(path, value, monkeypatch):
    monkeypatch.setenv("MLOPS_" + "__".join(path).upper(), value)

    with pytest.raises(SettingsError, match=r"\.".join(path)):
        settings.read()


def numbers(model=Settings, path=()):
    """(path, kind) of every number in the settings, sections included."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from numbers(kind, (*path, name))
        elif kind in (int, float):
            yield (*path, name), kind


@pytest.mark.parametrize("value", ["{}_0", " {}", "{} ", "\uff15", "\u0665", "0x{}", "", "{},000"])
@pytest.mark.parametrize("path", [pytest.param(path, id=".".join(path)) for path, _ in numbers()])
def test_a_number_in_a_variable_is_plain_digits(path, value, monkeypatch):
    monkeypatch.setenv("MLOPS_" + "__".join(path).upper(), value.format(5))

    with pytest.raises(SettingsError, match=rf"{path[-1]} must be a (whole )?number in plain digits"):
        settings.read()


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("MLOPS_MONITOR__WINDOW", "2000", lambda s: s.monitor.window == 2000),
        ("MLOPS_RISK__EVERY_S", "2.5e0", lambda s: s.risk.every_s == 2.5),
        ("MLOPS_RISK__INTEREST_RATE", "-.01", lambda s: s.risk.interest_rate == -0.01),
        ("MLOPS_TRAIN__SEED", "-3", lambda s: s.train.seed == -3),
    ],
)
def test_a_number_in_plain_digits_is_read(name, value, read, monkeypatch):
    monkeypatch.setenv(name, value)

    assert read(settings.read())


LINE = '[[risk.limits]]\nmeasure = "var"\nwarning = {}\nsoft = {}\nhard = {}\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LINE.format(0.5, 0.03, 0.05), "warning, soft and hard of var must not fall"),
        (LINE.format(0.01, 0.06, 0.05), "warning, soft and hard of var must not fall"),
        (LINE.format(0.01, 0.03, "inf"), "risk.limits.0.hard"),
        (LINE.format("nan", 0.03, 0.05), "risk.limits.0.warning"),
        (LINE.format(0.01, 0.02, 0.03) * 2, "one line in limits for each scope, got more of var of all"),
        ("[monitor]\nwindow = true", "window must be a number, got true"),
        ("[monitor]\nwindow = '1_000'", "window must be a whole number in plain digits"),
        (LINE.format("'0.0_1'", 0.02, 0.03), "warning must be a number in plain digits"),
        ("[experiment]\nmin_bars = 300\nhorizon_bars = 252\n", "min_bars must be at most horizon_bars"),
        ("[risk\nevery_s = 1", "TOML in UTF-8"),
        ("a = 1\na = 2", "TOML in UTF-8"),
        (b"\xff\xfe[risk]", "TOML in UTF-8"),
        (b"\x00" * 64, "TOML in UTF-8"),
        ("risk = 3", "risk"),
        ("[[outgoing.hooks]]\nname='a'\nurl='http://x'\nsecret='s'\n" * 2, "names of their own, got a more than once"),
    ],
)
def test_a_file_that_cannot_hold_says_what_is_wrong(tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlops.toml").write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(SettingsError, match=says):
        settings.read()


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", [["jobs.cli.main", "status"], ["jobs.worker"], ["jobs.tidy"], ["jobs.cli.main", "down"]]
)
def test_no_process_answers_a_broken_file_with_a_traceback(tmp_path, module):
    (tmp_path / "mlops.toml").write_text("[risk\n")

    done = subprocess.run([sys.executable, "-m", *module], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode != 0
    assert "mlops.toml must be TOML" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_former_name_of_the_workers_still_says_how_many(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_TRAIN__N_JOBS", "2")
    monkeypatch.setenv("MLOPS_TRAIN__TRIALS", "3")
    assert (2, 3) == (settings.read().compute.workers, settings.read().train.trials)
    monkeypatch.setenv("MLOPS_COMPUTE__WORKERS", "1")
    assert 1 == settings.read().compute.workers
    for name in ("TRAIN__N_JOBS", "COMPUTE__WORKERS"):
        monkeypatch.delenv(f"MLOPS_{name}")
    (tmp_path / settings.TOML).write_text("[train]\nn_jobs = 4\nseed = 9\n")
    assert (4, 9) == (settings.read().compute.workers, settings.read().train.seed)
