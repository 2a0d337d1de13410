"""What models would have forecast, bar by bar, each from the bars before it only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from mlops.compute import SERIAL, Compute
from mlops.errors import DataError
from mlops.risk.measures import CONFIDENCES, Floats, Losses, check_confidence, finite
from mlops.risk.var.filters import Filter, Recursion
from mlops.risk.var.fitted import fit
from mlops.risk.var.models import MODELS, Model, filtered, series, unit_of

OVER_PATHS = 4000  # of one window: standard error of a 99 % VaR about 4 %, independent from window to window
Chain = tuple[Filter, int]  # a filter and the bars of history that it is fitted to
Fit = tuple[Recursion, str]  # and why it did not converge, if so
REFIT = 10  # bars between fits: parameters move slowly, volatility is filtered every bar


@dataclass(frozen=True, slots=True)
class Forecasts:
    """VaR and ES of bars `first`, `first + 1`, ..., each of shape (bars, confidences), as positive fractions of equity.

    With a `horizon` h of several bars: of bars `first` to `first + h - 1` together, of the next h, and so on.
    `notes`: (bar, why) where a fit did not converge and the parameters before it stayed.
    """

    confidences: tuple[float, ...]
    first: int
    var: Floats
    es: Floats
    notes: tuple[tuple[int, str], ...] = ()
    horizon: int = 1

    def realised(self, returns: ArrayLike) -> Floats:
        """What then happened: the return of each forecast's bars, compounded; of the `returns` that were walked.

        What lost all of its equity, or more, within them stays there.

        >>> Forecasts((0.99,), 1, np.ones((1, 1)), np.ones((1, 1)), horizon=2).realised([0.5, 0.1, 0.1]).round(2)
        array([0.21])
        """
        r = finite(returns, "returns")[self.first :][: len(self.var) * self.horizon]
        if self.horizon == 1:
            return r
        growth = 1.0 + r.reshape(-1, self.horizon)
        lost = np.maximum.accumulate(growth <= 0, axis=1)
        growth[:, 1:][lost[:, :-1]] = 1.0
        return np.asarray(np.prod(growth, axis=1) - 1.0)

    def at(self, confidence: float) -> Losses:
        """VaR and ES at one confidence, each of shape (bars,)."""
        if confidence not in self.confidences:
            raise DataError(f"confidence must be one of {self.confidences}, got {confidence}. Walk again with it.")
        j = self.confidences.index(confidence)
        return Losses(self.var[:, j], self.es[:, j])


def walk(
    models: Iterable[str] | Mapping[str, Model],
    returns: ArrayLike,
    first: int,
    confidences: Sequence[float] = CONFIDENCES,
    *,
    ohlc: ArrayLike | None = None,
    refit: int = REFIT,
    compute: Compute = SERIAL,
) -> dict[str, Forecasts]:
    """Forecasts of every model for each bar from `first` on; models that share filters share their fits.

    The forecast for bar t uses `returns[:t]` and nothing else. Parameters are fitted every `refit` bars to the model's
    history before, starting from the last ones; volatility is filtered and the residuals' window moved every bar.
    Right after a fit the forecast is what `fit` and `Fitted.now` give.

    Parameters
    ----------
    models : iterable of str, or mapping of str to Model
        Names in `MODELS`, or models of your own.
    returns : array_like of shape (n,)
        Of the book, oldest first. NaN is refused.
    first : int
        First bar forecast; every model needs its `least` bars before it.
    ohlc : array_like of shape (n, 4), optional
        Open, high, low and close of the same bars, for models that need them.
    compute : Compute
        Where filters are fitted, each along all bars: most of the work. The numbers do not depend on it.

    Raises
    ------
    DataError
        An unknown name, too few bars before `first`, no bar from it on, or a value that is not finite.

    Examples
    --------
    >>> past = np.random.default_rng(0).normal(0, 0.01, 600)
    >>> walk(["historical", "fhs_ewma"], past, 500)["fhs_ewma"].var.shape
    (100, 3)
    """
    chosen = dict(models) if isinstance(models, Mapping) else {name: _known(name) for name in models}
    if not chosen:
        return {}
    for confidence in confidences:
        check_confidence(confidence)
    ranged = any(model.ranged for model in chosen.values())
    r, squares = series(returns, ohlc, least=1, ranged=ranged)
    least = max(model.least for model in chosen.values())
    if not least <= first < r.size:
        raise DataError(f"first must leave {least} bars before it and one after, got {first} of {r.size}. Move it.")
    shape = (r.size - first, len(confidences))
    walks = {name: Losses(np.empty(shape), np.empty(shape)) for name in chosen}
    notes: dict[str, list[tuple[int, str]]] = {name: [] for name in chosen}
    starts = range(first, r.size, refit)
    chains = list(dict.fromkeys((rule, model.history) for model in chosen.values() for rule in model.filters))
    fits = dict(zip(chains, compute.map(_fits, chains, shared=(r, starts)), strict=True))
    for row, start in enumerate(starts):
        now = {chain: fitted[row] for chain, fitted in fits.items()}
        block = _Block(r, squares, start, min(start + refit, r.size), now)
        for name, model in chosen.items():
            rows = slice(start - first, block.end - first)
            losses = block.losses(model, confidences)
            walks[name].var[rows], walks[name].es[rows] = losses.var, losses.es
            notes[name] += [(start, why) for why in block.notes(model)]
    cuts = tuple(confidences)
    return {name: Forecasts(cuts, first, losses.var, losses.es, tuple(notes[name])) for name, losses in walks.items()}


def walk_over(
    names: Sequence[str],
    returns: ArrayLike,
    first: int,
    horizon: int,
    confidences: Sequence[float] = CONFIDENCES,
    *,
    rng: np.random.Generator,
    refit: int = REFIT,
    paths: int = OVER_PATHS,
) -> Forecasts:
    """Forecast the return over `horizon` bars by the models' average, window after window, none overlapping another.

    Each is `Fitted.over` of the bars before its window, with parameters that are fitted anew every `refit` bars or at
    every window, whichever is longer. Windows that the returns do not fill are left out.
    """
    r, _ = series(returns, None, least=first + horizon, ranged=False)
    starts = range(first, r.size - horizon + 1, horizon)
    losses = Losses(*np.zeros((2, len(starts), len(confidences))))
    notes: list[tuple[int, str]] = []
    fitted_at = first - refit
    for row, start in enumerate(starts):
        if start - fitted_at >= refit:
            fitted, fitted_at = fit(names, r[:start]), start
            notes += [(start, note) for note in fitted.notes]
        for j, confidence in enumerate(confidences):
            loss = fitted.over(r[:start], horizon, confidence, rng=rng, paths=paths)
            if np.isfinite([loss.var, loss.es]).all():  # not where not even the tail loses: no forecast to judge
                losses.var[row, j], losses.es[row, j] = loss.var, max(loss.var, loss.es)
    return Forecasts(tuple(confidences), first, losses.var, losses.es, tuple(notes), horizon)


def averaged(forecasts: Sequence[Forecasts]) -> Forecasts:
    """The mean of the VaRs and of the ESs of forecasts of the same bars."""
    head = forecasts[0]
    if any((f.first, f.confidences, f.var.shape, f.horizon) != _shape(head) for f in forecasts):
        raise DataError("forecasts must be of the same bars and confidences, got several. Walk them together.")
    var, es = (np.mean([getattr(f, name) for f in forecasts], axis=0) for name in ("var", "es"))
    notes = tuple(dict.fromkeys(note for f in forecasts for note in f.notes))
    return Forecasts(head.confidences, head.first, var, es, notes, head.horizon)


def _shape(forecasts: Forecasts) -> tuple[int, tuple[float, ...], tuple[int, ...], int]:
    return forecasts.first, forecasts.confidences, forecasts.var.shape, forecasts.horizon


def _fits(chain: Chain, returns: Floats, starts: Sequence[int]) -> list[Fit]:
    """A filter fitted to the history before each of `starts`, every fit beginning at the one before."""
    rule, history = chain
    fits: list[Fit] = []
    for start in starts:
        rows = returns[max(0, start - history) : start]
        fits.append(rule.fit(rows / unit_of(rows), fits[-1][0] if fits else None))
    return fits


class _Block:
    """The bars from `start` to `end`, forecast with the `fits` made at `start`; filterings are shared."""

    def __init__(
        self, returns: Floats, squares: Floats | None, start: int, end: int, fits: Mapping[Chain, Fit]
    ) -> None:
        self.returns, self.squares, self.start, self.end, self._fits = returns, squares, start, end, fits
        self._views: dict[tuple[tuple[Filter, ...], int], tuple[Floats, Floats, float, tuple[float, ...]]] = {}

    def losses(self, model: Model, confidences: Sequence[float]) -> Losses:
        residuals, scale, mean, shape = self._view(model)
        bars = self.end - self.start
        windows = sliding_window_view(residuals, min(model.law.window, residuals.size - bars + 1))[-bars:]
        standard = model.law.losses(windows, confidences, model.law.fit(windows[0], shape))
        return Losses(scale[:, None] * standard.var - mean, scale[:, None] * standard.es - mean)

    def notes(self, model: Model) -> list[str]:
        return [note for rule in model.filters if (note := self._fits[rule, model.history][1])]

    def _view(self, model: Model) -> tuple[Floats, Floats, float, tuple[float, ...]]:
        """Residuals of the bars before each of the block's, and the block's own volatility and mean."""
        key = (model.filters, model.history)
        if key not in self._views:
            rows = slice(max(0, self.start - model.history), self.end - 1)
            unit = unit_of(self.returns[rows.start : self.start])
            recursions = tuple(self._fits[rule, model.history][0] for rule in model.filters)
            ranges = None if self.squares is None else self.squares[rows]
            view = filtered(model, recursions, self.returns[rows], ranges, unit)
            scale = unit * view.sigma[self.start - self.end :]
            self._views[key] = view.residuals, scale, unit * view.mean, recursions[0].shape
        return self._views[key]


def _known(name: str) -> Model:
    if name not in MODELS:
        raise DataError(f"model must be of {sorted(MODELS)}, got {name}. Choose one of these.")
    return MODELS[name]
