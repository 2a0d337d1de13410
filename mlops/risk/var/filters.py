"""Volatility filters: how wild the next bar is, from the bars before it.

Each filter fits itself to a window of returns and leaves a `Recursion`, five numbers that filter any series. Returns
are in units of their window's standard deviation throughout, so that every forecast is proportional to the book: a book
twice as large has exactly twice the VaR, and yesterday's parameters serve today's holdings.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.signal import lfilter

from mlops.errors import DataError
from mlops.risk.measures import Floats

if TYPE_CHECKING:
    from arch.univariate.base import ARCHModel

DECAY = 0.94  # RiskMetrics technical document (1996), table 5.1, daily data
RANGE_DECAY = 0.8  # a range is worth several squared closes (Garman and Klass 1980), so less memory is needed
START_DECAY, START_BARS = 0.94, 75  # the first variance, as arch's `backcast`
FLOOR = 0.01  # least variance beside the window's: prices that were stuck must not make their first move infinite
LEAST_FIT = 250  # returns under which a GARCH likelihood is too flat: a year of days

Residuals = Literal["normal", "t", "skewt"]


@dataclass(frozen=True, slots=True)
class Recursion:
    """Volatility of the next bar: `sigma^p = omega + (alpha + gamma [loss]) |e|^p + beta sigma^p`, e = return - mean.

    In units of the window's standard deviation; p is the `power`. `shape`: of the residuals' law, as fitted.
    """

    omega: float
    alpha: float
    beta: float
    gamma: float = 0.0
    mean: float = 0.0
    power: float = 2.0
    shape: tuple[float, ...] = ()

    def variances(self, returns: Floats, squares: Floats | None = None) -> Floats:
        """Variance before each bar and before the next one, shape (n + 1,).

        Parameters
        ----------
        returns : ndarray of shape (n,)
        squares : ndarray of shape (n,), optional
            What stands for the squared return (a range); by default that itself.

        Examples
        --------
        >>> import numpy as np
        >>> Recursion(0.1, 0.1, 0.8).variances(np.array([1.0, -2.0])).round(3).tolist()
        [2.308, 2.047, 2.137]
        """
        e = returns - self.mean
        news = self._power(e * e if squares is None else squares)
        first = self.omega + (self.alpha + self.gamma / 2 + self.beta) * _backcast(news)
        news = self.omega + (self.alpha + self.gamma * (e < 0)) * news
        later, _ = lfilter([1.0], [1.0, -self.beta], news, zi=[self.beta * first])
        return self._variance(np.concatenate(([first], later)))

    def step(self, variance: Floats, returns: Floats) -> Floats:
        """Variance after one bar more, of many paths at once; a range to come is not known, its close stands for it."""
        e = returns - self.mean
        news = (self.alpha + self.gamma * (e < 0)) * self._power(e * e)
        return self._variance(self.omega + news + self.beta * self._power(variance))

    def _power(self, squares: Floats) -> Floats:
        return squares if self.power == 2.0 else np.asarray(squares ** (self.power / 2))

    def _variance(self, powers: Floats) -> Floats:
        return np.maximum(powers if self.power == 2.0 else powers ** (2 / self.power), FLOOR)


@dataclass(frozen=True, slots=True)
class Flat:
    """No filter: every bar as wild as the window."""

    least: int = 2
    ranged: bool = False

    def fit(self, returns: Floats, start: Recursion | None = None) -> tuple[Recursion, str]:
        """The recursion, and why it is not the one that was asked for (empty where it is)."""
        return Recursion(1.0, 0.0, 0.0), ""


@dataclass(frozen=True, slots=True)
class Ewma:
    """Exponentially weighted squares around zero; of the bars' ranges where `ranged`."""

    decay: float = DECAY
    ranged: bool = False
    least: int = START_BARS

    def fit(self, returns: Floats, start: Recursion | None = None) -> tuple[Recursion, str]:
        """The recursion, and why it is not the one that was asked for (empty where it is)."""
        return Recursion(0.0, 1.0 - self.decay, self.decay), ""


@dataclass(frozen=True, slots=True)
class Garch:
    """GARCH(1,1), fitted by `arch`; where `asymmetric` losses raise volatility more than gains do.

    With power 2 the asymmetric one is GJR; with power 1 it is TGARCH, whose news counts by its size and not by its
    square, so that one wild bar moves it less.
    """

    asymmetric: bool = False
    power: float = 2.0
    residuals: Residuals = "normal"
    zero_mean: bool = False
    least: int = LEAST_FIT
    ranged: bool = False

    def fit(self, returns: Floats, start: Recursion | None = None) -> tuple[Recursion, str]:
        """The recursion, and why it is not the one that was asked for (empty where it is).

        Starts from `start`, then afresh; where neither converges `start` stays, or an EWMA if there is none.

        References
        ----------
        Bollerslev (1986), J. Econometrics 31; Glosten, Jagannathan and Runkle (1993), J. Finance 48; Zakoian (1994),
        J. Economic Dynamics and Control 18.
        """
        if not np.ptp(returns):
            return self._instead(start, "all returns are one constant")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arch warns of what its convergence flag says
            model = self._model(returns)
            for guess in [None] if start is None else [self._guess(start), None]:
                result = model.fit(disp="off", show_warning=False, starting_values=guess)
                values = np.asarray(result.params, dtype=np.float64)
                if result.convergence_flag == 0 and np.isfinite(values).all():
                    return self._recursion(values), ""
        return self._instead(start, "the likelihood's maximum was not found")

    def _model(self, returns: Floats) -> ARCHModel:
        from arch import arch_model  # two seconds to import

        mean: Literal["Zero", "Constant"] = "Zero" if self.zero_mean else "Constant"
        leverage = int(self.asymmetric)
        return arch_model(
            returns, mean=mean, p=1, o=leverage, q=1, power=self.power, dist=self.residuals, rescale=False
        )

    def _instead(self, start: Recursion | None, why: str) -> tuple[Recursion, str]:
        if start is not None:
            return start, f"{why}: the parameters before it stay"
        shape = {"normal": (), "t": (5.0,), "skewt": (5.0, 0.0)}[self.residuals]
        return Recursion(0.0, 1.0 - DECAY, DECAY, shape=shape), f"{why}: EWMA {DECAY:g} in its place"

    def _guess(self, start: Recursion) -> Floats:
        leverage, mean = [start.gamma] * self.asymmetric, [start.mean] * (not self.zero_mean)
        return np.array([*mean, start.omega, start.alpha, *leverage, start.beta, *start.shape])

    def _recursion(self, values: Floats) -> Recursion:
        rest = [float(value) for value in values]
        mean = 0.0 if self.zero_mean else rest.pop(0)
        omega, alpha = rest.pop(0), rest.pop(0)
        gamma = rest.pop(0) if self.asymmetric else 0.0
        return Recursion(omega, alpha, rest.pop(0), gamma, mean, self.power, tuple(rest))


Filter = Flat | Ewma | Garch


def range_squares(ohlc: Floats) -> Floats:
    """Variance that each bar shows by itself: Garman and Klass's of the session plus the squared gap before it.

    Parameters
    ----------
    ohlc : ndarray of shape (n, 4)
        Open, high, low and close prices; the first bar's gap is not known and counts as none.

    Raises
    ------
    DataError
        A price is not positive and finite, or a high or low does not enclose the bar.

    References
    ----------
    Garman and Klass (1980), On the estimation of security price volatilities, J. Business 53, equation 20.

    Examples
    --------
    >>> import numpy as np
    >>> bars = np.array([[100.0, 102.0, 99.0, 101.0], [103.0, 104.0, 102.0, 103.0]])
    >>> range_squares(bars).round(5).tolist()
    [0.00041, 0.00057]
    """
    if ohlc.ndim != 2 or ohlc.shape[1] != 4 or not np.isfinite(ohlc).all() or (ohlc <= 0).any():
        raise DataError(f"ohlc must be (n, 4) positive prices, got shape {ohlc.shape}. Repair or leave out those bars.")
    if (ohlc[:, 1] < ohlc.max(axis=1)).any() or (ohlc[:, 2] > ohlc.min(axis=1)).any():
        raise DataError("ohlc must have its high on top and its low at the bottom, got bars that do not. Repair them.")
    opens, high, low, close = np.log(ohlc).T
    gap = np.concatenate(([0.0], opens[1:] - close[:-1]))
    return np.asarray(0.5 * (high - low) ** 2 - (2 * np.log(2) - 1) * (close - opens) ** 2 + gap**2)


def _backcast(squares: Floats) -> float:
    weights = START_DECAY ** np.arange(min(START_BARS, squares.size))
    return float(weights @ squares[: weights.size] / weights.sum())
