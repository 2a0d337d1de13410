"""Pictures of stress: figures for the MLflow run, which `drawings.svg` turns into text for the page."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from mlops.plots.evidence import COLOURS
from mlops.plots.svg import STYLE, WIDTH

Floats = NDArray[np.float64]
FARTHEST = 0.999  # of the drawdowns that are drawn: one in a thousand would set the scale
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def losses(rows: pd.DataFrame) -> Figure:
    """A bar a scenario, the worst on top; hatched in part where a stand-in moved some of the book.

    Parameters
    ----------
    rows : DataFrame
        Columns `scenario`, `loss` (fraction, positive) and `proxied` (share).
    """
    ordered = rows.sort_values("loss", ignore_index=True)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.33 * len(ordered)), layout="constrained")
        axes = figure.subplots()
        place, loss = np.arange(len(ordered)), ordered["loss"].to_numpy(dtype=np.float64)
        axes.barh(place, loss, color=np.where(loss > 0, COLOURS[1], COLOURS[0]).tolist(), height=0.68)
        stood = loss * ordered["proxied"].to_numpy(dtype=np.float64)
        axes.barh(place, stood, color="none", edgecolor="white", hatch="////", lw=0, height=0.68)
        axes.set_yticks(place, ordered["scenario"].tolist())
        axes.axvline(0, color="0.3", lw=0.9)
        span = max(float(np.ptp(np.append(loss, 0.0))), 1e-9)
        axes.set_xlim(
            min(float(loss.min(initial=0.0)), 0) - 0.1 * span, max(float(loss.max(initial=0.0)), 0) + 0.1 * span
        )
        for y, value in zip(place, loss, strict=True):
            axes.annotate(
                f"{100 * value:.1f} %".replace("-", "−"),
                (value, y),
                xytext=(4 if value >= 0 else -4, 0),
                textcoords="offset points",
                va="center",
                ha="left" if value >= 0 else "right",
                fontsize=9,
            )
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("loss, share of equity (left of 0: a gain)")
        axes.grid(axis="y", alpha=0)
        axes.tick_params(axis="y", length=0)
    return figure


def fan(courses: Floats, drawdown: Floats) -> Figure:
    """Where the simulated courses lie bar by bar, and how deep each of all paths fell.

    Parameters
    ----------
    courses : ndarray of shape (paths, bars)
        Value over today's equity.
    drawdown : ndarray of shape (paths,)
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.7), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.9, 1])
        lines = np.quantile(np.hstack([np.ones((len(courses), 1)), courses]), SHARES, axis=0)
        bars = np.arange(lines.shape[1])
        for i, (alpha, word) in enumerate(((0.12, "98 of 100 paths"), (0.18, "9 of 10"), (0.3, "half of them"))):
            left.fill_between(bars, lines[i], lines[-1 - i], color=COLOURS[0], alpha=alpha, lw=0, label=word)
        left.plot(bars, lines[3], color=COLOURS[0], lw=1.6, label="middle path")
        left.axhline(1, color="0.3", lw=0.9)
        left.set(xlabel="bars from now", ylabel="equity (1 today)", xlim=(0, len(bars) - 1))
        left.legend(frameon=False, loc="upper left", fontsize=9)
        right.hist(
            drawdown, bins=40, range=(0, float(np.quantile(drawdown, FARTHEST)) or 1.0), color=COLOURS[1], alpha=0.75
        )
        right.axvline(float(drawdown.mean()), color="0.2", lw=1.3, ls="--", label="mean")
        right.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        right.set(xlabel="deepest fall within the horizon", ylabel="paths")
        right.legend(frameon=False, fontsize=9)
    return figure


def grid(table: pd.DataFrame, base: float, labels: tuple[str, str]) -> Figure:
    """A number under two shocks, written in each cell and shaded by how much it exceeds `base`."""
    values = table.to_numpy(dtype=np.float64)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(table)), layout="constrained")
        axes = figure.subplots()
        top = max(float(np.nanmax(values, initial=0.0)), base, 1e-9)
        axes.pcolormesh(values, cmap="Oranges", vmin=0.0, vmax=top, edgecolors="white", linewidth=1.5)
        for (i, j), value in np.ndenumerate(values):
            strong = value > 0.62 * top
            text = "–" if np.isnan(value) else f"{100 * value:.1f} %"
            axes.text(
                j + 0.5, i + 0.5, text, ha="center", va="center", color="white" if strong else "black", fontsize=10
            )
        axes.set_yticks(np.arange(len(table)) + 0.5, [f"{100 * s:+.0f} %".replace("-", "−") for s in table.index])
        axes.set_xticks(np.arange(table.shape[1]) + 0.5, [f"{100 * s:.0f} %" for s in table.columns])
        axes.set(ylabel=labels[0], xlabel=labels[1])
        axes.tick_params(length=0)
    return figure
