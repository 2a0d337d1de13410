"""How long it takes to get out: days to sell what is held without being more than a share of the market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlops.errors import DataError
from mlops.risk.exposure import currency_rates
from mlops.stats.dependent import Floats

PARTICIPATION = 0.10  # of a day's volume: above it, selling itself moves the price (usual desk rule; Almgren 2005)
DAYS = (1, 5, 20)


@dataclass(frozen=True, slots=True)
class Liquidity:
    """`frame`: a row a unit, slowest first: `unit`, `quantity` (gross over all books), `value` (money, NaN without a
    price), `daily_volume`, `days` (NaN where not known), `why`.

    `within`: for each of `DAYS`, the share of the value that can be sold by then; of all that has a price, so that what
    is not known counts as not sold. `unknown`: the share of the value of which it is not known. NaN for an empty book.
    """

    frame: pd.DataFrame
    within: dict[int, float]
    unknown: float


def days_to_exit(quantity: Floats, daily_volume: Floats, participation: float = PARTICIPATION) -> Floats:
    """Trading days to sell `quantity` (of any sign) at `participation` of `daily_volume`; NaN where there is none.

    Examples
    --------
    >>> days_to_exit(np.array([5000.0, -100.0, 7.0]), np.array([10000.0, 10000.0, 0.0]))
    array([5. , 0.1, nan])
    """
    if not 0 < participation <= 1:
        raise DataError(f"participation must be in (0, 1], got {participation}. Give the share of a day's volume.")
    known = np.isfinite(daily_volume) & (daily_volume > 0)
    return np.asarray(np.abs(quantity) / np.where(known, daily_volume * participation, np.nan))


def liquidity(
    positions: pd.DataFrame,
    participation: float = PARTICIPATION,
    *,
    base: str = "USD",
    rates: Mapping[str, float] | None = None,
) -> Liquidity:
    """Days to get out of every unit, over all books: two books that hold the same sell into the same market.

    Opposite positions of two books are added up, not netted: each is closed by itself.

    Parameters
    ----------
    positions : DataFrame
        `POSITION_COLUMNS`; `daily_volume` in units, as `quantity`.
    base, rates : str, mapping
        As `exposure`: the currency of `value`, and what one unit of another is worth in it.
    """
    rate, _ = currency_rates(positions["currency"].to_numpy(), base, rates or {})
    quantity = positions["quantity"].to_numpy(dtype=np.float64)
    price, multiplier = (positions[c].to_numpy(dtype=np.float64) for c in ("price", "multiplier"))
    held = pd.DataFrame(
        {
            "unit": positions["unit"],
            "quantity": np.abs(quantity),
            "value": np.abs(quantity * price * multiplier * rate),
            "daily_volume": positions["daily_volume"].to_numpy(dtype=np.float64),
        }
    )
    rows = held.groupby("unit", as_index=False).agg(
        quantity=("quantity", "sum"),
        value=("value", lambda v: v.sum(skipna=False)),
        daily_volume=("daily_volume", "min"),
    )
    days = days_to_exit(rows["quantity"].to_numpy(), rows["daily_volume"].to_numpy(), participation)
    why = np.where(np.isfinite(days), "", np.where(rows["daily_volume"] <= 0, "nothing trades", "no volume is known"))
    frame = rows.assign(days=days, why=why).sort_values("days", ascending=False, na_position="first", ignore_index=True)
    whole = float(frame["value"].sum())
    value, days = frame["value"].fillna(0.0).to_numpy(), frame["days"].to_numpy()
    part = np.minimum(np.array(DAYS)[:, None] / np.where(days > 0, days, 1e-300), 1.0)
    sold = np.where(np.isnan(days), 0.0, part) @ value
    unknown = float(value[np.isnan(days)].sum())
    if whole <= 0:
        return Liquidity(frame, dict.fromkeys(DAYS, float("nan")), float("nan"))
    return Liquidity(frame, {d: float(s) / whole for d, s in zip(DAYS, sold, strict=True)}, unknown / whole)
