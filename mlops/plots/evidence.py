"""Pictures of evidence, for the MLflow run. Matplotlib figures; they compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mlops.types import Finding, Level

mpl.rcParams.update(
    {"text.parse_math": False, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110}
)
# Okabe-Ito, safe for colour-blind readers: champion blue, challenger vermilion, the rest after them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")

NAN = float("nan")


def paired_evidence(daily: pd.Series, title: str, verdict: str) -> Figure:
    """Cumulative advantage of the challenger, bar by bar.

    Parameters
    ----------
    daily : Series indexed by event time
        Log-loss of the champion minus that of the challenger; above 0 the challenger is better.
    """
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    total = daily.cumsum()
    axes.plot(total.index, total.to_numpy(), color=COLOURS[0], lw=1.6)
    axes.fill_between(total.index, 0, total.to_numpy(), color=COLOURS[0], alpha=0.12)
    axes.axhline(0, color="0.4", lw=0.8)
    axes.set(title=title, ylabel="cumulative log-loss advantage\n(above 0: challenger better)")
    axes.annotate(verdict, (0.01, 0.97), xycoords="axes fraction", va="top", fontsize=10, weight="bold")
    return figure


def equity(curves: Mapping[str, pd.Series], title: str) -> Figure:
    """Equity of each book, starting at 1, and its drawdown below."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        top.plot(curve.index, curve.to_numpy(), label=name, color=colour, lw=1.4)
        bottom.plot(curve.index, (100 * (curve / curve.cummax() - 1)).to_numpy(), color=colour, lw=1.0)
    top.set(title=title, ylabel="equity, net of costs")
    bottom.set(ylabel="drawdown, %")
    top.legend(frameon=False, loc="upper left")
    return figure


def drift(findings: Sequence[Finding], title: str) -> Figure:
    """Every detector on every feature: its effect, in how many times what is worth an alert; the worst features first.

    Coloured: significant, by the effect over its limit; bold: an ALERT. Grey on white is what chance may have done.
    """
    known = [f for f in findings if f.level is not Level.UNKNOWN]
    cells = {(f.subject, f.name): f for f in known}
    worst = {s: max(f.value / f.limit for f in known if f.subject == s) for s, _ in cells}
    features = sorted(worst, key=lambda s: -worst[s])
    detectors = list(dict.fromkeys(f.name for f in known))
    figure = Figure(figsize=(2.6 + 1.15 * len(detectors), 1.1 + 0.27 * len(features)), layout="constrained")
    axes = figure.subplots()
    grid = [[cells.get((feature, name)) for name in detectors] for feature in features]
    shade = [[min(f.value / f.limit, 2.0) if f and f.level is not Level.OK else NAN for f in row] for row in grid]
    field = axes.imshow(shade, cmap="Oranges", vmin=0, vmax=2, aspect="auto")
    for i, row in enumerate(grid):
        for j, f in enumerate(row):
            if f is not None:
                ink = "0.55" if f.level is Level.OK else "white" if f.value / f.limit > 1.4 else "black"
                weight = "bold" if f.level is Level.ALERT else "normal"
                axes.text(j, i, f"{f.value:.2f}", ha="center", va="center", color=ink, weight=weight)
    axes.set_xticks(range(len(detectors)), [name.replace("_", "\n") for name in detectors])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(features)), features)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.colorbar(
        field,
        ax=axes,
        label="effect over its limit (coloured: significant)",
        ticks=[0, 1, 2],
        format=_times,
        shrink=0.8,
    )
    return figure


def calibration(
    curves: Mapping[str, pd.DataFrame], given: Mapping[str, ArrayLike], threshold: float, title: str
) -> Figure:
    """Reliability curves above, how often each probability is said below.

    Parameters
    ----------
    curves : mapping of str to DataFrame
        The reference, then the current window, as `mlops.monitor.reliability` gives them.
    given : mapping of str to array_like
        The probabilities behind each.
    threshold : float
        Of confidence; what lies between it and its opposite is shaded.
    """
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    top.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
    for (name, curve), colour in zip(curves.items(), ("0.45", COLOURS[1]), strict=False):
        top.plot(curve["probability"], curve["label"], "o-", color=colour, ms=4, lw=1.3, label=name)
        bottom.hist(np.asarray(given[name]), bins=25, range=(0, 1), density=True, histtype="step", color=colour, lw=1.3)
    for axes in (top, bottom):
        axes.axvspan(1 - threshold, threshold, color="0.9", zorder=0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    top.set(ylabel="share that came true", xlim=(0, 1), ylim=(0, 1))
    bottom.set(xlabel=f"probability (shaded: confidence under {threshold:g})", ylabel="density", ylim=(0, None))
    top.legend(frameon=False, loc="lower right")
    return figure


def age(loss: pd.Series, reference: float, curve: Sequence[float], title: str) -> Figure:
    """Log-loss over a model's life, a point a bar, with the mean of each quarter and what its validation had."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(loss.index, loss.to_numpy(), ".", color=COLOURS[0], ms=3, alpha=0.45, label="a bar")
    parts = [round(i * (len(loss) - 1) / len(curve)) for i in range(len(curve) + 1)]
    for (a, b), mean in zip(pairwise(parts), curve, strict=True):
        axes.hlines(mean, loss.index[a], loss.index[b], color=COLOURS[1], lw=2, label="a quarter" if a == 0 else "")
    axes.axhline(reference, color="0.3", ls="--", lw=1, label="validation")
    axes.set(title=title, ylabel="log-loss (lower is better)")
    axes.set_ylim(top=min(float(loss.max()), 3 * max(reference, *curve)) * 1.05)
    axes.legend(frameon=False, loc="upper left", ncols=3)
    return figure


def error_segments(findings: Sequence[Finding], title: str) -> Figure:
    """Where errors concentrate: points of error over what was announced, of each segment that held on later bars."""
    figure = Figure(figsize=(7.5, 1.2 + 0.34 * len(findings)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(findings))
    hot = [COLOURS[1] if f.level is Level.ALERT else COLOURS[0] for f in findings]
    axes.barh(rows, [100 * f.value for f in findings], color=hot, height=0.6)
    axes.axvline(100 * findings[0].limit, color="0.3", ls="--", lw=1, label="worth a look")
    axes.set_yticks(rows, [f"{f.subject} ({f.n} rows)" for f in findings])
    axes.invert_yaxis()
    axes.set(xlabel="errors over the announced, points")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    axes.legend(frameon=False, loc="lower right")
    return figure


def _times(value: float, _: int) -> str:
    return f"{value:g} ×"
