"""A model with its parameters: what the next bar may lose, for any series of returns, within a millisecond.

A job fits it after the bar and stores it as JSON; the live page asks it each second with the past of the holdings of
that second. Volatility is then filtered with the stored parameters, and the tail taken from the residuals that those
very holdings would have had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.filters import Recursion
from mlops.risk.measures import CONFIDENCES, Floats, Loss, Losses, check_confidence, sample_losses
from mlops.risk.models import MODELS, Average, Filtered, Model, filtered, series, unit_of

PATHS = 10_000  # standard error of a 99 % VaR about 2.5 %
MODEL = "average"


@dataclass(frozen=True, slots=True)
class Scenarios:
    """The past as it would be today: `returns[-len(scale):] * scale[:, None]` are scenarios of the positions.

    `scale`: volatility of the next bar over that of each bar; `chances`: how likely each is, summing to one.
    """

    scale: Floats
    chances: Floats


@dataclass(frozen=True, slots=True)
class Fitted:
    """Parameters of a model, or of the members of an average, by name: a recursion a filter.

    `n` bars were used; `notes` say where a likelihood's maximum was not found and what stands in its place.
    """

    model: str
    members: Mapping[str, tuple[Recursion, ...]]
    n: int
    notes: tuple[str, ...] = ()

    @property
    def least(self) -> int:
        """Bars that `now` needs at the least."""
        return Average(tuple(self.members)).least

    @property
    def ranged(self) -> bool:
        """Whether it needs open, high, low and close."""
        return Average(tuple(self.members)).ranged

    def now(
        self, returns: ArrayLike, confidences: Sequence[float] = CONFIDENCES, *, ohlc: ArrayLike | None = None
    ) -> Losses:
        """VaR and ES of the next bar, each of shape (confidences,), as positive fractions of equity. Fits nothing.

        Parameters
        ----------
        returns : array_like of shape (n,)
            What the holdings of now would have returned, oldest first; the last 2,000 count. Parameters are relative
            to their spread. NaN is refused.
        ohlc : array_like of shape (n, 4), optional
            Open, high, low and close of the same bars, where the model needs them (`ranged`).

        Raises
        ------
        DataError
            Fewer bars than `least`, a value that is not finite, or a confidence outside of (0, 1).

        Examples
        --------
        >>> past = np.random.default_rng(0).normal(0, 0.01, 1000)
        >>> fitted = fit("fhs_ewma", past)
        >>> twice = fitted.now(2 * past).var / fitted.now(past).var
        >>> twice.round(12).tolist()
        [2.0, 2.0, 2.0]
        """
        for one in confidences:
            check_confidence(one)
        found = [_losses(MODELS[name], view, confidences) for name, view in self._views(returns, ohlc).items()]
        return Losses(np.mean([f.var for f in found], axis=0), np.mean([f.es for f in found], axis=0))

    def scenarios(self, returns: ArrayLike, *, ohlc: ArrayLike | None = None) -> Scenarios:
        """The same bars at the volatility of the next one, for whose risk it is (`marginal_loss`, with `now` as total).

        Of an average the mean of its members' scales. The residuals' mean is left out: it is the same for every
        position and day. As many bars as the member with the longest memory looks at.
        """
        views = self._views(returns, ohlc)
        used = max(min(MODELS[name].law.window, view.residuals.size) for name, view in views.items())
        scale, chances = np.zeros(used), np.zeros(used)
        for name, view in views.items():
            mine = min(MODELS[name].law.window, view.residuals.size)
            scale += view.sigma[-1] / view.sigma[-used - 1 : -1] / len(views)
            chances[-mine:] += MODELS[name].law.chances(mine) / len(views)
        return Scenarios(scale, chances)

    def over(
        self,
        returns: ArrayLike,
        horizon: int,
        confidence: float = 0.99,
        *,
        rng: np.random.Generator,
        ohlc: ArrayLike | None = None,
        paths: int = PATHS,
    ) -> Loss:
        """VaR and ES of the return over `horizon` bars, weights kept, by filtered historical simulation.

        Each path draws residuals of the past and feeds the filters with what it drew, so volatility clusters and
        reverts as fitted. What is taken from the paths is the ratio of their loss over `horizon` bars to that over one;
        it multiplies the headline of `now`, whose tail may be finer. (The square root of time would be wrong wherever
        volatility is not at its mean.)

        References
        ----------
        Barone-Adesi, Giannopoulos and Vosper (1999), J. Futures Markets 19.
        """
        if horizon < 1:
            raise DataError(f"horizon must be 1 bar or more, got {horizon}. Give whole bars.")
        head = self.now(returns, (confidence,), ohlc=ohlc)
        if horizon == 1:
            return Loss(float(head.var[0]), float(head.es[0]))
        ratios = [
            _ratio(self.members[name], MODELS[name].law.window, view, horizon, confidence, paths, rng)
            for name, view in self._views(returns, ohlc).items()
        ]
        var, es = np.mean(ratios, axis=0)
        return Loss(float(head.var[0] * var), float(head.es[0] * es))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        members = {name: [asdict(one) for one in recursions] for name, recursions in self.members.items()}
        return {"model": self.model, "members": members, "n": self.n, "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Fitted:
        """What `as_dict` gave."""
        members = {
            name: tuple(Recursion(**{**one, "shape": tuple(one["shape"])}) for one in recursions)
            for name, recursions in kept["members"].items()
        }
        if missing := sorted(members.keys() - MODELS.keys()):
            raise DataError(f"members must be known models, got {missing}. Fit the model again.")
        return cls(kept["model"], members, int(kept["n"]), tuple(kept["notes"]))

    def _views(self, returns: ArrayLike, ohlc: ArrayLike | None) -> dict[str, Filtered]:
        r, squares = series(returns, ohlc, least=self.least, ranged=self.ranged)
        seen: dict[tuple[Any, ...], Filtered] = {}  # members may share their filters
        views = {}
        for name, recursions in self.members.items():
            model = MODELS[name]
            key = (recursions, model.filters, model.history)
            if key not in seen:
                rows = slice(-min(model.history, r.size), None)
                ranges = None if squares is None else squares[rows]
                seen[key] = filtered(model, recursions, r[rows], ranges, unit_of(r[rows]))
            views[name] = seen[key]
        return views


def fit(model: str | Sequence[str], returns: ArrayLike, *, ohlc: ArrayLike | None = None) -> Fitted:
    """Fit a model of `MODELS`, or the average of several, to the last 2,000 bars (fewer where there are fewer).

    Parameters
    ----------
    model : str or sequence of str
        Names in `MODELS`.
    returns : array_like of shape (n,)
        Of the book, oldest first, simple. NaN is refused.

    Returns
    -------
    Fitted
        Read its `notes`: a likelihood whose maximum was not found is told there, never hidden.

    Raises
    ------
    DataError
        An unknown name, fewer bars than the model's `least`, or a value that is not finite.

    Examples
    --------
    >>> fit("fhs_ewma", np.random.default_rng(0).normal(0, 0.01, 500)).now(np.full(100, 0.001)).es.shape
    (3,)
    """
    names = (model,) if isinstance(model, str) else tuple(model)
    if not names or (missing := sorted(set(names) - MODELS.keys())):
        raise DataError(f"model must be of {sorted(MODELS)}, got {missing if names else 'none'}. Choose one of these.")
    whole = Average(names)
    r, _ = series(returns, ohlc, least=whole.least, ranged=whole.ranged)
    members, notes, seen = {}, [], {}
    for name in names:
        found = []
        for one in MODELS[name].filters:
            rows = r[-MODELS[name].history :]
            key = (one, rows.size)
            if key not in seen:
                seen[key] = one.fit(rows / unit_of(rows))
            recursion, note = seen[key]
            found.append(recursion)
            notes += [f"{name}: {note}"] * bool(note)
        members[name] = tuple(found)
    return Fitted(names[0] if len(names) == 1 else MODEL, members, int(r.size), tuple(notes))


def _losses(model: Model, view: Filtered, confidences: Sequence[float]) -> Losses:
    found = model.law.losses(view.residuals[None, -model.law.window :], confidences, view.shape)
    scale = view.unit * view.sigma[-1]
    mean = view.unit * view.mean
    return Losses(scale * found.var[0] - mean, scale * found.es[0] - mean)


def _ratio(
    recursions: tuple[Recursion, ...],
    window: int,
    view: Filtered,
    horizon: int,
    confidence: float,
    paths: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Loss over `horizon` bars beside that over one, of VaR and ES, on the same paths."""
    drawn = rng.choice(view.residuals[-window:], (horizon, paths))
    variances = [np.full(paths, one) for one in view.variances]
    growth, losses = np.ones(paths), []
    for z in drawn:
        sigma = np.exp(np.mean(np.log(variances), axis=0) / 2)
        r = view.mean + sigma * z
        growth = growth * (1 + view.unit * r)
        variances = [one.step(variance, r) for one, variance in zip(recursions, variances, strict=True)]
        losses.append(growth - 1)
    first, last = (sample_losses(one[None, :], (confidence,)) for one in (losses[0], losses[-1]))
    return float(last.var.item() / first.var.item()), float(last.es.item() / first.es.item())
