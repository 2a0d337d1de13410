"""Pictures of risk for the MLflow run. Matplotlib figures; they compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlops.plots.evidence import COLOURS

Floats = NDArray[np.float64]
SHOWN = 15  # components


def value_at_risk(times: pd.DatetimeIndex, loss: Floats, var: Floats, es: Floats, title: str) -> Figure:
    """Each bar's loss (fraction of equity) beside the VaR and ES that were forecast for it; exceedances are marked."""
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes, beyond = figure.subplots(), loss > var
    axes.bar(times, 100 * loss, width=1.2, color="0.78", label="loss")
    axes.plot(times, 100 * var, color=COLOURS[0], lw=1.5, label="VaR")
    axes.plot(times, 100 * es, color=COLOURS[0], lw=1.0, ls=(0, (4, 2)), label="ES")
    axes.scatter(times[beyond], 100 * loss[beyond], marker="x", s=34, color=COLOURS[1], zorder=3, label="exceedance")
    axes.set(title=title, ylabel="% of equity (a gain is negative)")
    axes.legend(frameon=False, ncols=4, loc="upper left")
    return figure


def components(parts: Mapping[str, float], title: str) -> Figure:
    """What each position has in the VaR, the largest first; a hedge is negative."""
    order = sorted(parts, key=lambda name: -abs(parts[name]))[:SHOWN][::-1]
    values = np.array([100 * parts[name] for name in order])
    figure = Figure(figsize=(7.5, 1.0 + 0.26 * max(len(order), 2)), layout="constrained")
    axes = figure.subplots()
    axes.barh(order, values, color=[COLOURS[0] if value >= 0 else COLOURS[2] for value in values])
    axes.axvline(0, color="0.3", lw=0.8)
    axes.set(title=title, xlabel="% of equity; below 0 it hedges the rest")
    return figure


def scores(table: pd.DataFrame, leaders: Sequence[str], title: str) -> Figure:
    """The mean FZ score of each model (index: names, column `fz`), the leaders coloured; lower is better."""
    order = table.sort_values("fz", ascending=False)
    figure = Figure(figsize=(7.5, 1.0 + 0.26 * max(len(order), 2)), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS[1] if name in leaders else "0.7" for name in order.index]
    axes.scatter(order["fz"], order.index, color=colours, zorder=3)
    axes.grid(axis="y", alpha=0.3)
    axes.set(title=title, xlabel="mean FZ score of VaR and ES together; lower is better")
    return figure
