"""Pictures for a page: SVG that stands in the HTML, with its words as text and a description for those who need one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from mlops.plots.evidence import COLOURS

Floats = NDArray[np.float64]
Band = tuple[Floats, Floats, Floats]  # curve, low, high
WIDTH = 9.6  # inches; the page scales it
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (4, 1, 1, 1)), (0, (8, 2)))  # arms differ without colour, too
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "text.parse_math": False,  # names are text: one with a $ in it would not be drawn at all
}


def evidence(
    times: pd.Index,
    path: Mapping[str, Floats],
    looks: Mapping[str, Floats],
    decided: int | None,
    margin: float,
) -> str:
    """The mean gain so far, bar by bar, with what would decide.

    Parameters
    ----------
    path : mapping
        `mean`, `low`, `high` after each bar: the running mean and its confidence sequence (infinite at first).
    looks : mapping
        `bars` (counts), `better` and `worse`: the running mean that decides at each look.
    decided : int, optional
        Bars at which it was decided.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.9)
        at = pd.DatetimeIndex(times)
        finite = np.isfinite(path["low"])
        axes.fill_between(
            at,
            path["low"],
            path["high"],
            where=finite.tolist(),
            color=COLOURS[0],
            alpha=0.13,
            lw=0,
            label="may be looked at any time",
        )
        axes.plot(at, path["mean"], color=COLOURS[0], lw=1.8, label="mean gain so far")
        places = at[looks["bars"].astype(int) - 1] if len(looks["bars"]) else at[:0]
        for name, marker, word in (("better", "v", "above: proven better"), ("worse", "^", "below: proven worse")):
            axes.plot(places, looks[name], ls=":", lw=1, marker=marker, ms=3.2, color="0.25", label=word)
        axes.axhline(margin, color="0.3", lw=0.9)
        if decided is not None and decided <= len(at):
            axes.axvline(_place(at[decided - 1]), color=COLOURS[1], lw=1.2, ls="--", label=f"decided at bar {decided}")
        _frame(axes, path["mean"], looks)
        axes.set_ylabel("gain in log-loss, nats a bar\n(above 0: challenger better)")
        axes.legend(frameon=False, ncols=3, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.1))
        last = f"{path['mean'][-1]:+.4f}" if len(at) else "unknown"
        return svg(figure, "Evidence over time", f"Running mean gain of the challenger; it ends at {last} nats a bar.")


def equity(times: pd.Index, books: Mapping[str, Band], relative: Mapping[str, Band]) -> str:
    """Equity of each book with its band, each challenger's over the champion's, and the drawdowns."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 7.2), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[2.2, 1.5, 1])
        at = pd.DatetimeIndex(times)
        names = list(books)
        for name, (curve, low, high) in books.items():
            _banded(top, at, curve, low, high, names.index(name), name)
            fall = 100 * (curve / np.maximum.accumulate(curve) - 1)
            bottom.plot(at, fall, color=_colour(names.index(name)), ls=DASHES[names.index(name) % len(DASHES)], lw=1.2)
        for name, (curve, low, high) in relative.items():
            _banded(middle, at, curve, low, high, names.index(name), f"{name} over {names[0]}")
        middle.axhline(1, color="0.3", lw=0.9)
        top.set_ylabel("equity, net of costs\n(1 at the start)")
        middle.set_ylabel("challenger over\nchampion")
        bottom.set_ylabel("drawdown, %")
        for axes in (top, middle):
            axes.legend(frameon=False, loc="upper left", fontsize=9)
        ends = ", ".join(f"{name} ends at {curve[-1]:.3f}" for name, (curve, _, _) in books.items())
        return svg(figure, "Equity, relative equity and drawdown", f"Equity of the books: {ends}.")


def reliability(curves: Mapping[str, pd.DataFrame]) -> str:
    """How often came true what was given a probability; on the diagonal where a model is calibrated.

    Parameters
    ----------
    curves : mapping of name to DataFrame
        Columns `probability` and `label` (share of ones), a row a bin.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.4", lw=1, ls="--", label="calibrated")
        for i, (name, curve) in enumerate(curves.items()):
            style: dict[str, Any] = {"color": _colour(i), "ls": DASHES[i % len(DASHES)], "marker": "osD^v"[i % 5]}
            axes.plot(curve["probability"], curve["label"], lw=1.5, ms=4.5, label=name, **style)
        low, high = _span(curves)
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="probability given", ylabel="share that came true")
        axes.legend(frameon=False, loc="upper left")
        return svg(figure, "Calibration", f"Reliability curves of {' and '.join(curves)}.")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _span(curves: Mapping[str, pd.DataFrame]) -> tuple[float, float]:
    """Part of 0 to 1 that the curves need, at least a fifth of it."""
    values = pd.concat([curve[["probability", "label"]] for curve in curves.values()]).to_numpy(dtype=np.float64)
    middle, half = (values.max() + values.min()) / 2, max(0.1, 0.55 * (values.max() - values.min()))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _place(at: pd.Timestamp) -> float:
    return float(date2num(at))  # type: ignore[no-untyped-call]


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _banded(axes: Axes, at: pd.DatetimeIndex, curve: Floats, low: Floats, high: Floats, place: int, label: str) -> None:
    axes.fill_between(at, low, high, color=_colour(place), alpha=0.1, lw=0)
    axes.plot(at, curve, color=_colour(place), ls=DASHES[place % len(DASHES)], lw=1.7, label=label)


def _frame(axes: Axes, mean: Floats, looks: Mapping[str, Floats]) -> None:
    """Show the mean from bar 5 on and what decides at the latest looks; what lies beyond is cut off."""
    heights = np.concatenate([mean[5:], looks["better"][-20:], looks["worse"][-20:], [0.0]])
    if heights.size > 1:
        room = 0.12 * (heights.max() - heights.min()) or 1.0
        axes.set_ylim(heights.min() - room, heights.max() + room)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")))


def svg(figure: Figure, title: str, description: str) -> str:
    """A figure as text that may stand in a page; its ids begin with the first word of `title`."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids of groups serve nobody and would be there twice in a page of two pictures; those that are referred to
    # are this picture's own.
    text = re.sub(r'(<g|<svg|<text) id="[^"]*"', r"\1", text)
    own = title.partition(" ")[0].strip(",").lower()
    text = re.sub(r'(\bid="|"#|url\(#)', rf"\1{own}-", text)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    label = escape(f"{title}. {description}", quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
