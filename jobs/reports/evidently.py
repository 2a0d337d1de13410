"""Evidently's report of one look, a page for people: in a process of its own, after the job has acted.

Evidently takes 10 s to import and seconds to draw, so nothing waits for it, and it may hang, crash or run out of memory
without the job noticing more than a line in the log. Its numbers decide nothing: tests/monitor holds them beside ours.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import pandas as pd
import structlog
from mlflow import MlflowClient

from mlops.monitor import JensenShannon, Wasserstein
from mlops.monitor.binned import CATEGORIES
from mlops.types import Finding, Level, Report

log = structlog.get_logger()
NAME = "drift_report.html"
ROWS = 5_000  # of the reference: ten times as many cost a minute and draw the same curves
MAX_NAME = 80  # of a feature, as the page shows it
LIMIT_S = 300.0  # 15 s on a quiet machine
QUIET = {"DO_NOT_TRACK": "true", "ITERATIVE_DO_NOT_TRACK": "true"}  # it would report its use to its makers


class When(StrEnum):
    """When a look makes the page."""

    DRIFTED = "drifted"
    ALWAYS = "always"
    NEVER = "never"

    def asks(self, drift: Iterable[Finding]) -> bool:
        return self is When.ALWAYS or (self is When.DRIFTED and any(f.level is Level.ALERT for f in drift))


def attach(
    client: MlflowClient, run: str, report: Report, reference: pd.DataFrame, current: pd.DataFrame, seed: int
) -> None:
    """Make the page of `current` against a sample of `reference` (features only) and put it into the run."""
    try:
        client.log_text(run, made(report, reference, current, seed=seed), NAME)
    except Exception as error:  # noqa: BLE001 - a page for people; the look is over and its decision acted on
        log.warning("drift report not made", model=str(report.model), error=f"{type(error).__name__}: {error}"[:500])


def made(report: Report, reference: pd.DataFrame, current: pd.DataFrame, *, seed: int) -> str:
    """The page, self-contained HTML of about 5 MB.

    Raises
    ------
    subprocess.SubprocessError
        The other process failed or took over five minutes.
    """
    sample = reference.sample(n=min(ROWS, len(reference)), random_state=seed)
    caption = (
        f"{report.model}, {report.as_of:%Y-%m-%d %H:%M} UTC: {len(current):,} current rows against {len(sample):,} of "
        f"{len(reference):,} reference rows (seed {seed}). By Evidently, for the eye: it marks distances, and does not "
        "ask whether chance explains them. What decided is in monitor.json of this run."
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("reference", sample), ("current", current)):
            rows.set_axis(shown_names(rows.columns), axis=1).to_parquet(Path(folder) / f"{name}.parquet", index=False)
        command = [sys.executable, "-m", "jobs.reports.evidently", folder]
        subprocess.run(  # noqa: S603
            command, check=True, timeout=LIMIT_S, env=os.environ | QUIET, stdout=subprocess.DEVNULL, cwd=_repository()
        )
        page = (Path(folder) / NAME).read_text(encoding="utf-8")
    banner = f'<p style="font:14px sans-serif;margin:12px 24px">{html.escape(caption)}</p>'
    return page.replace("<body>", f"<body>{banner}", 1)


def shown_names(names: Iterable[str]) -> list[str]:
    """Names of features as Evidently gets them, for it puts them into script and markup as they are.

    Examples
    --------
    >>> shown_names(["abs_1", "</script><b>", "</script> b>"])
    ['abs_1', '__script__b_', '__script_ b_']
    """
    plain: list[str] = []
    for i, name in enumerate(names):
        text = re.sub(r"[^\w .,:%+()-]", "_", str(name))[:MAX_NAME]
        plain.append(text if text not in plain else f"{text[:MAX_NAME]} ({i})")
    return plain


def draw(folder: Path) -> None:
    """What the other process does: two tables in, the page out."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    reference, current = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "current"))
    categories = [name for name in reference if reference[name].nunique() <= CATEGORIES]
    numbers = [name for name in reference if name not in categories]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    preset = DataDriftPreset(
        num_method="wasserstein",
        num_threshold=Wasserstein().limit,
        cat_method="jensenshannon",
        cat_threshold=JensenShannon().limit,
    )
    sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    Report([preset]).run(*sides).save_html(str(folder / NAME))


def _repository() -> Path:
    return Path(__file__).parents[2]


def main(arguments: Sequence[str]) -> None:
    draw(Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
