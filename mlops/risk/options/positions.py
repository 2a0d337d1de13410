"""Greeks of option positions in money, by position, underlying and expiry. What is not known is listed, not guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.risk.exposure import OPTIONS, Missing, left_out
from mlops.risk.options.american import bumped, early
from mlops.risk.options.greeks import NAMES, values
from mlops.risk.options.implied import LOWEST, Implied, implied_interval
from mlops.stats.dependent import Floats
from mlops.types import Kind

YEAR = np.timedelta64(365 * 86_400, "s")
WIDE = 0.05  # a volatility that may as well be five points higher or lower is none
POSITION = ("strategy", "book", "unit", "underlying", "currency", "kind", "quantity", "multiplier", "strike", "expiry")
MONEY = (  # of a position, in its own currency
    "value",  # at the model's price
    "delta_value",  # what it is as a holding of the underlying
    "gamma_value_per_percent",  # of delta_value, by delta's change, for the underlying 1 % up
    "vega_per_point",  # of value, for one point (0.01) of volatility
    "theta_per_day",  # of value, for one calendar day
    "rho_per_point",  # of value, for one point of the interest rate
    "vanna_value_per_point",  # of delta_value, for one point of volatility
    "volga_per_point",  # of vega_per_point, for one point of volatility
    "charm_value_per_day",  # of delta_value, for one calendar day
)


@dataclass(frozen=True, slots=True)
class OptionGreeks:
    """n option positions whose Greeks are known, and those whose are not.

    `held` has the columns `POSITION`; `spot`, `years`, `volatility`, `rate`, `dividend` shape (n,); `each` (9, n) is
    one option, `greeks.NAMES`; `money` (9, n) is the position, `MONEY`; `american`: exercising early may pay;
    `implied`: the volatility is that of the option's own price. `doubts`: unit -> what stands in for a volatility that
    its price, rounded to a step, does not tell.
    """

    held: pd.DataFrame
    spot: Floats
    years: Floats
    volatility: Floats
    rate: Floats
    dividend: Floats
    american: NDArray[np.bool_]
    implied: NDArray[np.bool_]
    each: Floats
    money: Floats
    missing: tuple[Missing, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)

    @property
    def equivalents(self) -> dict[str, float]:
        """Worth of one of each unit as a holding of its underlying (`exposure`)."""
        worth = self.each[NAMES.index("delta")] * self.spot * self.held["multiplier"].to_numpy(dtype=np.float64)
        return dict(zip(self.held["unit"], worth.tolist(), strict=True))

    def frame(self) -> pd.DataFrame:
        """One row a position: `POSITION`, `spot`, `volatility`, `implied`, and `MONEY`."""
        rows = self.held.assign(spot=self.spot, volatility=self.volatility, implied=self.implied)
        return rows.assign(**dict(zip(MONEY, self.money, strict=True))).reset_index(drop=True)

    def by(self, key: str) -> pd.DataFrame:
        """`MONEY` added up by `underlying`, `expiry` or another of `POSITION`, within each currency."""
        keys = [key] if key == "currency" else ["currency", key]
        return self.frame().groupby(keys, as_index=False)[list(MONEY)].sum()


@dataclass(frozen=True, slots=True)
class Contracts:
    """The n option positions of a frame, sorted out once: what of them does not move with the market.

    `held`: the columns `POSITION`; `names` the underlyings and `code` that of each; `expiry` UTC; `amount` = quantity x
    multiplier; `why` is not empty where something is not known that no market will tell.
    """

    rows: pd.DataFrame
    held: pd.DataFrame
    names: tuple[str, ...]
    code: NDArray[np.intp]
    strike: Floats
    expiry: NDArray[np.datetime64]
    call: NDArray[np.bool_]
    american: NDArray[np.bool_]
    amount: Floats
    why: NDArray[np.object_]

    @classmethod
    def of(cls, positions: pd.DataFrame) -> Contracts:
        """Read a frame with `POSITION_COLUMNS`; rows that are no options are left alone."""
        rows = positions[np.isin(positions["kind"].to_numpy(), OPTIONS)]
        code, names = pd.factorize(rows["underlying"].to_numpy(dtype=object), use_na_sentinel=False)
        strike, quantity, multiplier = (
            rows[c].to_numpy(dtype=np.float64) for c in ("strike", "quantity", "multiplier")
        )
        expiry = pd.to_datetime(rows["expiry"], utc=True).dt.tz_localize(None).to_numpy(dtype="datetime64[ns]")
        amount, why = quantity * multiplier, np.full(len(rows), "", dtype=object)
        why[~np.isfinite(amount)] = "the quantity is not known"
        why[~(np.isfinite(strike) & (strike > 0))] = "it has no strike"
        why[np.isnat(expiry)] = "it has no expiry"
        call, american = rows["kind"].to_numpy() == Kind.CALL.value, rows["american"].to_numpy(dtype=bool)
        return cls(rows, rows[[*POSITION]], tuple(names), code, strike, expiry, call, american, amount, why)

    def greeks(
        self,
        spots: Mapping[str, float],
        *,
        as_of: datetime,
        volatilities: Mapping[str, float] | None = None,
        rate: float = 0.0,
        dividends: Mapping[str, float] | None = None,
        prices: Floats | None = None,
        step: float = 0.0,
    ) -> OptionGreeks:
        """Compute `position_greeks`; `prices` (n,) are the options' own: they imply what volatility is not given."""
        given, n = volatilities or {}, len(self.why)
        market = _Market.of(self, spots, as_of, rate, dividends or {})
        volatility = np.array([given.get(unit, np.nan) for unit in self.held["unit"].tolist()], dtype=np.float64)
        implied = ~(np.isfinite(volatility) & (volatility > 0))
        why = market.why.copy()
        ask = np.flatnonzero(implied & (why == ""))
        doubts: dict[str, str] = {}
        if ask.size:
            own = np.full(n, np.nan) if prices is None else prices
            implications = market.at(ask).implied(own[ask], step)
            volatility[ask] = implications.volatility
            why[ask] = [f"no volatility is given, and {reason}" if reason else "" for reason in implications.why]
            volatility, doubts = self._settled(market, volatility, ask, implications, own)
        good = np.flatnonzero(why == "")
        use = market.at(good)
        each = use.each(volatility[good])
        bad = ~np.isfinite(each).all(axis=0)
        if bad.any():
            why[good[bad]] = "QuantLib has no price for it"
            good, each, use = good[~bad], each[:, ~bad], use.at(np.flatnonzero(~bad))
        whole, lost = good.size == n, why != ""
        return OptionGreeks(
            held=self.held if whole else self.held.iloc[good],
            spot=use.spot,
            years=use.years,
            volatility=volatility[good],
            rate=use.rate,
            dividend=use.dividend,
            american=use.american,
            implied=implied[good],
            each=each,
            money=_money(each, use.spot, self.amount[good]),
            missing=() if whole else left_out(self.rows[lost], why[lost], as_of),
            doubts=doubts,
        )

    def _settled(
        self, market: _Market, volatility: Floats, ask: NDArray[np.intp], implied: Implied, price: Floats
    ) -> tuple[Floats, dict[str, str]]:
        """Volatilities, with something to stand in where a rounded price leaves too much open, and what that is.

        The nearest option on the same underlying whose volatility is known, held to what the price allows; without one
        that end of the interval which is worse for the holder: more for what was sold, less for what was bought.
        """
        vague = np.zeros(len(volatility), dtype=bool)
        vague[ask] = np.maximum(implied.high - implied.volatility, implied.volatility - implied.low) > WIDE
        sure, settled, doubts = np.flatnonzero(np.isfinite(volatility) & ~vague), volatility.copy(), dict[str, str]()
        unit, units = pd.factorize(self.held["unit"].to_numpy(dtype=object))[0], self.held["unit"].tolist()
        net = np.bincount(unit, self.amount)[unit]  # of all books: one unit has one volatility
        for place in np.flatnonzero(vague[ask]).tolist():
            i, low, high = int(ask[place]), float(implied.low[place]), float(implied.high[place])
            near = market.nearest(i, sure[self.code[sure] == self.code[i]])
            worse = high if net[i] < 0 else low
            settled[i] = max(worse if near is None else min(max(volatility[near], low), high), LOWEST)
            source = "the worse for what is held" if near is None else f"the nearest to that of {units[near]}"
            doubts[units[i]] = (
                f"The price of {units[i]}, {price[i]:g}, fits volatilities from {low:.0%} to {high:.0%}: "
                f"{settled[i]:.0%} is taken, {source}."
            )
        return settled, doubts


def position_greeks(
    positions: pd.DataFrame,
    spots: Mapping[str, float],
    *,
    as_of: datetime,
    volatilities: Mapping[str, float] | None = None,
    rate: float = 0.0,
    dividends: Mapping[str, float] | None = None,
    step: float = 0.0,
) -> OptionGreeks:
    """Greeks of all option positions. Every second, `Contracts.of` once and its `greeks` then does the same.

    Parameters
    ----------
    positions : DataFrame
        `POSITION_COLUMNS`. `price` of an option is its own quote, for one of what is quoted.
    spots : mapping
        Price of each underlying, in the option's currency.
    volatilities : mapping
        Of a unit, a year. Without one it is implied from the option's own price (slow: 20,000 a second; keep them).
    rate : float
        Continuously compounded, a year.
    dividends : mapping
        Yield of an underlying, a year, continuously compounded; one that is not there pays none.
    step : float
        In which options are quoted: a price is known to half of it (0: exactly). Where that does not tell the
        volatility, `doubts` says what stands in.

    Returns
    -------
    OptionGreeks
        `missing` has every option that has expired, or without a price of its underlying, volatility, strike or expiry.
    """
    contracts = Contracts.of(positions)
    own = contracts.rows["price"].to_numpy(dtype=np.float64)
    return contracts.greeks(
        spots, as_of=as_of, volatilities=volatilities, rate=rate, dividends=dividends, prices=own, step=step
    )


@dataclass(frozen=True, slots=True)
class _Market:
    """What moves: arrays of shape (n,). `american`: exercising early may pay."""

    spot: Floats
    strike: Floats
    years: Floats
    rate: Floats
    dividend: Floats
    call: NDArray[np.bool_]
    american: NDArray[np.bool_]
    why: NDArray[np.object_]

    @classmethod
    def of(
        cls, held: Contracts, spots: Mapping[str, float], as_of: datetime, rate: float, dividends: Mapping[str, float]
    ) -> _Market:
        spot = np.array([spots.get(name, np.nan) for name in held.names], dtype=np.float64)[held.code]
        dividend = np.array([dividends.get(name, 0.0) for name in held.names], dtype=np.float64)[held.code]
        now = np.datetime64(as_of.astimezone(UTC).replace(tzinfo=None))
        years, rates = (held.expiry - now) / YEAR, np.full(len(held.why), float(rate))
        why = held.why.copy()
        why[(why == "") & ~(np.isfinite(spot) & (spot > 0))] = "its underlying has no price"
        why[years <= 0] = "it has expired"
        american = held.american & early(rates, dividend, held.call)
        return cls(spot, held.strike, years, rates, dividend, held.call, american, why)

    def at(self, rows: NDArray[np.intp]) -> _Market:
        return _Market(*(getattr(self, name)[rows] for name in self.__slots__))

    def implied(self, price: Floats, step: float) -> Implied:
        return implied_interval(
            price,
            self.spot,
            self.strike,
            self.years,
            call=self.call,
            rate=self.rate,
            dividend=self.dividend,
            american=self.american,
            step=step,
        )

    def nearest(self, row: int, others: NDArray[np.intp]) -> int | None:
        """The one of `others` that is nearest in standardised moneyness and then in (log) time; None of none."""
        if not others.size:
            return None
        moneyness = np.log(self.strike / self.spot) / np.sqrt(self.years)
        apart = np.abs(moneyness[others] - moneyness[row]) + np.abs(np.log(self.years[others] / self.years[row]))
        return int(others[int(apart.argmin())])

    def each(self, volatility: Floats) -> Floats:
        sign = np.where(self.call, 1.0, -1.0)
        rows = (self.spot, self.strike, self.years, volatility, self.rate, self.dividend, sign)
        each = values(*rows)
        real = np.flatnonzero(self.american)
        if real.size:
            each[:, real] = bumped(*(row[real] for row in rows))
        return each


def _money(each: Floats, spot: Floats, amount: Floats) -> Floats:
    """`each` as `MONEY` of a position of `amount` = quantity x multiplier."""
    ones = np.ones_like(spot)
    scale = np.stack([ones, spot, spot * spot * 0.01, ones, ones, ones, spot, ones, spot])
    return each * scale * amount
