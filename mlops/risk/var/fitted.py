"""A model with its parameters: what the next bar may lose, for any series of returns, within a millisecond.

A job fits it after the bar and stores it as JSON; the live page asks it each second with the past of the holdings of
that second. Volatility is then filtered with the stored parameters, and the tail taken from the residuals that those
very holdings would have had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlops.errors import DataError
from mlops.risk.measures import CONFIDENCES, Floats, Loss, Losses, check_confidence, sample_losses
from mlops.risk.var.filters import Filter, Recursion
from mlops.risk.var.models import MODELS, Filtered, Model, Paths, filtered, needs, series, unit_of

PATHS = 10_000  # standard error of a 99 % VaR about 2.5 %
AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class Scenarios:
    """The past as it would be today: `returns[-len(scale):] * scale[:, None]` are scenarios of the positions.

    `scale`: volatility of the next bar over that of each bar; `chances`: how likely each is, summing to one.
    """

    scale: Floats
    chances: Floats


@dataclass(frozen=True, slots=True)
class Member:
    """Parameters of one model: a recursion a filter, and those of its law."""

    recursions: tuple[Recursion, ...]
    law: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Parameters of a model, or of the members of an average, by name. `n` bars were used;
    `notes` say where a likelihood's maximum was not found and what stands in its place.
    """

    model: str
    members: Mapping[str, Member]
    n: int
    notes: tuple[str, ...] = ()

    @property
    def least(self) -> int:
        """Bars that `now` needs at the least."""
        return needs(self.members)[0]

    @property
    def ranged(self) -> bool:
        """Whether it needs open, high, low and close."""
        return needs(self.members)[1]

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
        for confidence in confidences:
            check_confidence(confidence)
        views = self._views(returns, ohlc)
        losses = [_losses(MODELS[name], self.members[name].law, view, confidences) for name, view in views.items()]
        return Losses(np.mean([f.var for f in losses], axis=0), np.mean([f.es for f in losses], axis=0))

    def scenarios(self, returns: ArrayLike, *, ohlc: ArrayLike | None = None) -> Scenarios:
        """The same bars at the volatility of the next one, for whose risk it is (`marginal_loss`, with `now` as total).

        Of an average the mean of its members' scales. The residuals' mean is left out: it is the same for every
        position and day. As many bars as the member with the longest memory looks at.
        """
        views = self._views(returns, ohlc)
        used = max(min(MODELS[name].law.window, view.residuals.size) for name, view in views.items())
        scale, counted, chances = np.zeros((3, used))
        for name, view in views.items():
            rows, window = min(used, view.residuals.size), min(MODELS[name].law.window, view.residuals.size)
            scale[-rows:] += view.sigma[-1] / view.sigma[-rows - 1 : -1]
            counted[-rows:] += 1.0
            chances[-window:] += MODELS[name].law.chances(window) / len(views)
        return Scenarios(scale / counted, chances)

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
        volatility is not at its mean.) NaN where not even the tail of one bar loses.

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
            _ratio(self.members[name].recursions, MODELS[name].law.window, view, horizon, confidence, paths, rng)
            for name, view in self._views(returns, ohlc).items()
        ]
        var, es = np.mean(ratios, axis=0)
        return Loss(float(head.var[0] * var), float(head.es[0] * es))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and names, for JSON."""
        members = {name: asdict(member) for name, member in self.members.items()}
        return {"model": self.model, "members": members, "n": self.n, "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Fitted:
        """What `as_dict` gave."""
        members = {name: _member(member) for name, member in stored["members"].items()}
        if missing := sorted(members.keys() - MODELS.keys()):
            raise DataError(f"members must be known models, got {missing}. Fit the model again.")
        return cls(stored["model"], members, int(stored["n"]), tuple(stored["notes"]))

    def _views(self, returns: ArrayLike, ohlc: ArrayLike | None) -> dict[str, Filtered]:
        r, squares = series(returns, ohlc, least=self.least, ranged=self.ranged)
        views: dict[str, Filtered] = {}
        shared: Paths = {}
        for name, member in self.members.items():
            model = MODELS[name]
            rows = slice(-min(model.history, r.size), None)
            ranges = None if squares is None else squares[rows]
            views[name] = filtered(model, member.recursions, r[rows], ranges, unit_of(r[rows]), shared)
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
    least, ranged = needs(names)
    r, squares = series(returns, ohlc, least=least, ranged=ranged)
    members, notes = {}, []
    fits: dict[tuple[Filter, int], tuple[Recursion, str]] = {}
    for name in names:
        chosen = MODELS[name]
        rows = slice(-min(chosen.history, r.size), None)
        unit = unit_of(r[rows])
        for rule in chosen.filters:
            if (rule, chosen.history) not in fits:
                fits[rule, chosen.history] = rule.fit(r[rows] / unit)
        pairs = [fits[filter_, chosen.history] for filter_ in chosen.filters]
        recursions = tuple(recursion for recursion, _ in pairs)
        view = filtered(chosen, recursions, r[rows], None if squares is None else squares[rows], unit)
        law = chosen.law.fit(view.residuals[-chosen.law.window :], recursions[0].shape)
        members[name] = Member(recursions, law)
        notes += [f"{name}: {note}" for _, note in pairs if note]
    return Fitted(names[0] if len(names) == 1 else AVERAGE, members, int(r.size), tuple(notes))


def _member(stored: Mapping[str, Any]) -> Member:
    recursions = tuple(Recursion(**{**row, "shape": tuple(row["shape"])}) for row in stored["recursions"])
    return Member(recursions, tuple(stored["law"]))


def _losses(model: Model, law: tuple[float, ...], view: Filtered, confidences: Sequence[float]) -> Losses:
    standard = model.law.losses(view.residuals[None, -model.law.window :], confidences, law)
    scale, mean = view.unit * view.sigma[-1], view.unit * view.mean
    return Losses(scale * standard.var[0] - mean, scale * standard.es[0] - mean)


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
    variances = [np.full(paths, variance) for variance in view.variances]
    growth, losses = np.ones(paths), []
    for z in drawn:
        sigma = np.exp(np.mean(np.log(variances), axis=0) / 2)
        r = view.mean + sigma * z
        growth = np.where(growth > 0, growth * (1 + view.unit * r), growth)  # what lost all of its equity stays there
        variances = [recursion.step(variance, r) for recursion, variance in zip(recursions, variances, strict=True)]
        losses.append(growth - 1)
    first, last = (sample_losses(sample[None, :], (confidence,)) for sample in (losses[0], losses[-1]))
    return _growth(first.var.item(), last.var.item()), _growth(first.es.item(), last.es.item())


def _growth(first: float, last: float) -> float:
    """Growth of a loss; 1 of a book that stands still, NaN of one that only gains, where no factor says anything."""
    return last / first if first > 0 else 1.0 if first == last else nan
