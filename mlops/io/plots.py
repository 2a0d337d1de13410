"""Pictures of evidence, for the MLflow run. Matplotlib figures; they compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
# Okabe-Ito, safe for colour-blind readers: champion blue, challenger vermilion, the rest after them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")


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


def feature_drift(names: Sequence[str], distances: Sequence[float], limits: Sequence[float], title: str) -> Figure:
    """Distance of each feature from its reference beside the distance that no drift would reach."""
    figure = Figure(figsize=(7.5, 0.9 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(names))
    hot = [COLOURS[1] if d > limit else COLOURS[0] for d, limit in zip(distances, limits, strict=True)]
    axes.barh(rows, distances, color=hot, height=0.6)
    axes.plot(limits, rows, "k|", ms=9, mew=2, label="limit")
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="Kolmogorov-Smirnov distance")
    axes.legend(frameon=False, loc="lower right")
    return figure


def control_chart(path: pd.Series, threshold: float, title: str) -> Figure:
    """The CUSUM of lost accuracy and the line at which it alarms."""
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(path.index, path.to_numpy(), color=COLOURS[0], lw=1.4)
    axes.axhline(threshold, color=COLOURS[1], ls="--", lw=1.2, label="alarm")
    axes.set(title=title, ylabel="CUSUM of lost accuracy")
    axes.legend(frameon=False, loc="upper left")
    return figure
