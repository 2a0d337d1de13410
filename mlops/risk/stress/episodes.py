"""Crises that were, as rows of published levels at the close before the fall and at the close at its end.

To add one: a row. Every level is from the source that `SOURCES` names, rounded to the digits that are published; what
was not published, or not yet traded, is left out. Dates are those of New York's closes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Levels = tuple[float, float]
SOURCES = {
    "shares": "S&P Dow Jones Indices, daily closes of the S&P 500",
    "bitcoin": "CoinMarketCap, daily closes of Bitcoin in US dollars at 24:00 UTC",
    "oil": "US Energy Information Administration, WTI spot at Cushing, daily (FRED series DCOILWTICO)",
    "ten_year": "Federal Reserve, H.15, ten-year Treasury yield at constant maturity (FRED series DGS10)",
    "euro": "European Central Bank, euro reference rates, about 14:15 Frankfurt time",
}
COUPONS = 20  # half-yearly ones of a ten-year note


@dataclass(frozen=True, slots=True)
class Episode:
    """A named scenario: (level at `start`, level at `end`).

    `ten_year` in per cent a year; `euro`: currency -> units of it for one euro.
    """

    name: str
    start: str
    end: str
    shares: Levels
    bitcoin: Levels | None = None
    oil: Levels | None = None
    ten_year: Levels | None = None
    euro: Mapping[str, Levels] = field(default_factory=dict)
    note: str = ""

    @property
    def market(self) -> float:
        """Move of the S&P 500, a fraction."""
        return _move(self.shares)

    @property
    def source(self) -> str:
        """Where the row's levels are from."""
        sources = [text for name, text in SOURCES.items() if getattr(self, name)]
        return "; ".join(sources)

    def treasuries(self) -> float:
        """Change of the price of a ten-year note bought at par, from the yields; without the coupons on the way."""
        if self.ten_year is None:
            return math.nan
        coupon, rate = (level / 200 for level in self.ten_year)
        left = (1 + rate) ** -COUPONS
        return coupon / rate * (1 - left) + left - 1

    def pair(self, base: str, quote: str) -> float:
        """Move of one unit of `base` in `quote`; NaN where either was not published."""
        rates = {"EUR": (1.0, 1.0), **self.euro}
        if base not in rates or quote not in rates:
            return math.nan
        (base_start, base_end), (quote_start, quote_end) = rates[base], rates[quote]
        return (quote_end / base_end) / (quote_start / base_start) - 1


def _move(levels: Levels | None) -> float:
    return math.nan if levels is None else levels[1] / levels[0] - 1


EPISODES = (
    Episode(
        "Black Monday 1987",
        "1987-10-16",
        "1987-10-19",
        shares=(282.7, 224.84),
        oil=(20.23, 19.79),
        note="One day. Presidential Task Force on Market Mechanisms (Brady report), January 1988.",
    ),
    Episode(
        "Gulf war 1991",
        "1991-01-16",
        "1991-01-17",
        shares=(316.17, 327.97),
        oil=(32.25, 21.48),
        note="One day: oil lost a third, shares rose.",
    ),
    Episode(
        "Russia and LTCM 1998",
        "1998-07-17",
        "1998-08-31",
        shares=(1186.75, 957.28),
        oil=(14.02, 13.29),
    ),
    Episode(
        "Dot-com bust 2000 to 2002",
        "2000-03-24",
        "2002-10-09",
        shares=(1527.46, 776.76),
        oil=(27.86, 29.31),
        ten_year=(6.2, 3.61),
        euro={"USD": (0.9715, 0.9814), "JPY": (104.09, 121.89), "GBP": (0.6115, 0.6318), "CHF": (1.5936, 1.4666)},
        note="Thirty months.",
    ),
    Episode(
        "Financial crisis 2007 to 2009",
        "2007-10-09",
        "2009-03-09",
        shares=(1565.15, 676.53),
        oil=(80.23, 47.01),
        ten_year=(4.67, 2.89),
        euro={"USD": (1.4037, 1.2565), "JPY": (164.54, 124.4), "GBP": (0.69185, 0.9114), "CHF": (1.6669, 1.4669)},
        note="Peak to trough.",
    ),
    Episode(
        "Oil bust 2008",
        "2008-07-14",
        "2008-12-23",
        shares=(1228.3, 863.16),
        oil=(145.16, 30.28),
        ten_year=(3.9, 2.18),
        euro={"USD": (1.5847, 1.3978), "JPY": (169.24, 126.03), "GBP": (0.7975, 0.94395), "CHF": (1.6232, 1.5175)},
    ),
    Episode(
        "Lehman weeks 2008",
        "2008-09-12",
        "2008-10-10",
        shares=(1251.7, 899.22),
        oil=(101.19, 77.44),
        ten_year=(3.74, 3.89),
        euro={"USD": (1.4066, 1.3579), "JPY": (150.91, 134.68), "GBP": (0.7962, 0.798), "CHF": (1.5998, 1.5175)},
    ),
    Episode(
        "Flash crash 2010",
        "2010-05-05",
        "2010-05-06",
        shares=(1165.87, 1128.15),
        oil=(80.0, 77.18),
        ten_year=(3.58, 3.41),
        euro={"USD": (1.2924, 1.2727), "JPY": (122.66, 119.34), "GBP": (0.8551, 0.84295), "CHF": (1.4325, 1.4132)},
        note="Close to close shows 3.2 %; within the day the index stood 8.6 % under the last close (1,065.79), "
        "and single shares traded at a cent (CFTC and SEC, September 2010). Stops and margin calls saw the "
        "day's low.",
    ),
    Episode(
        "US downgrade 2011",
        "2011-07-22",
        "2011-08-08",
        shares=(1345.02, 1119.46),
        oil=(99.53, 81.27),
        ten_year=(2.99, 2.4),
        euro={"USD": (1.4391, 1.4225), "JPY": (112.83, 110.79), "GBP": (0.8827, 0.8691), "CHF": (1.1789, 1.0849)},
    ),
    Episode(
        "Taper tantrum 2013",
        "2013-05-02",
        "2013-09-05",
        shares=(1597.59, 1655.08),
        oil=(93.7, 108.5),
        ten_year=(1.66, 2.98),
        euro={"USD": (1.3191, 1.3202), "JPY": (129.04, 131.64), "GBP": (0.8466, 0.8431), "CHF": (1.2244, 1.239)},
        note="Bonds fell, shares rose.",
    ),
    Episode(
        "Oil glut 2014 to 2016",
        "2014-06-20",
        "2016-02-11",
        shares=(1962.87, 1829.08),
        oil=(107.95, 26.19),
        ten_year=(2.63, 1.63),
        euro={"USD": (1.3588, 1.1347), "JPY": (138.68, 127.3), "GBP": (0.7975, 0.7874), "CHF": (1.2169, 1.1027)},
        note="Twenty months.",
    ),
    Episode(
        "Swiss franc 2015",
        "2015-01-14",
        "2015-01-15",
        shares=(2011.27, 1992.67),
        bitcoin=(178.1, 209.84),
        oil=(48.49, 46.37),
        ten_year=(1.86, 1.77),
        euro={"USD": (1.1775, 1.1708), "JPY": (137.48, 136.48), "GBP": (0.7753, 0.7672), "CHF": (1.201, 1.028)},
        note="One day: the floor of 1.20 to the euro was given up. Within the morning the franc went far beyond "
        "the fixing.",
    ),
    Episode(
        "China devaluation 2015",
        "2015-08-21",
        "2015-08-24",
        shares=(1970.89, 1893.21),
        bitcoin=(232.57, 210.49),
        oil=(40.45, 38.22),
        ten_year=(2.05, 2.01),
        euro={"USD": (1.1281, 1.1497), "JPY": (138.4, 137.8), "GBP": (0.7198, 0.7302), "CHF": (1.0765, 1.0777)},
        note="Close to close shows 3.9 %; within the day the low was 5.3 % down (1,867.01; SEC, December 2015).",
    ),
    Episode(
        "Brexit 2016",
        "2016-06-23",
        "2016-06-27",
        shares=(2113.32, 2000.54),
        bitcoin=(623.98, 655.28),
        oil=(49.34, 45.8),
        ten_year=(1.74, 1.46),
        euro={"USD": (1.1389, 1.0998), "JPY": (120.38, 111.8), "GBP": (0.76595, 0.834), "CHF": (1.0876, 1.0736)},
        note="Two trading days.",
    ),
    Episode(
        "Crypto bust 2018",
        "2017-12-15",
        "2018-12-14",
        shares=(2675.81, 2599.95),
        bitcoin=(17706.9, 3242.48),
        oil=(57.29, 51.26),
        ten_year=(2.35, 2.89),
        euro={"USD": (1.1806, 1.1285), "JPY": (132.45, 128.13), "GBP": (0.88253, 0.89835), "CHF": (1.1669, 1.1254)},
        note="A year.",
    ),
    Episode(
        "Volmageddon 2018",
        "2018-02-02",
        "2018-02-05",
        shares=(2762.13, 2648.94),
        bitcoin=(8830.75, 6955.27),
        oil=(65.5, 64.18),
        ten_year=(2.84, 2.77),
        euro={"USD": (1.2492, 1.244), "JPY": (137.22, 136.67), "GBP": (0.8785, 0.88568), "CHF": (1.1596, 1.1599)},
        note="Sellers of volatility lost most.",
    ),
    Episode(
        "Covid crash 2020",
        "2020-02-19",
        "2020-03-23",
        shares=(3386.15, 2237.4),
        bitcoin=(9633.39, 6416.31),
        oil=(53.31, 23.33),
        ten_year=(1.56, 0.76),
        euro={"USD": (1.08, 1.0783), "JPY": (119.35, 119.11), "GBP": (0.83148, 0.9297), "CHF": (1.0621, 1.059)},
    ),
    Episode(
        "Oil price war 2020",
        "2020-03-06",
        "2020-03-09",
        shares=(2972.37, 2746.56),
        bitcoin=(9122.55, 7923.64),
        oil=(41.14, 31.05),
        ten_year=(0.74, 0.54),
        euro={"USD": (1.1336, 1.1456), "JPY": (119.08, 117.12), "GBP": (0.87165, 0.87383), "CHF": (1.0589, 1.0594)},
        note="One trading day. Six weeks later spot oil closed at -36.98 dollars (2020-04-20), which no relative "
        "move can tell: a book of oil futures wants a price shock of its own.",
    ),
    Episode(
        "Crypto Black Thursday 2020",
        "2020-03-11",
        "2020-03-12",
        shares=(2741.38, 2480.64),
        bitcoin=(7911.43, 4970.79),
        oil=(33.13, 31.56),
        ten_year=(0.82, 0.88),
        euro={"USD": (1.1336, 1.124), "JPY": (118.55, 116.84), "GBP": (0.8769, 0.88623), "CHF": (1.0591, 1.0549)},
        note="One day.",
    ),
    Episode(
        "Covid worst day 2020",
        "2020-03-13",
        "2020-03-16",
        shares=(2711.02, 2386.13),
        bitcoin=(5563.71, 5014.48),
        oil=(31.72, 28.96),
        ten_year=(0.94, 0.73),
        euro={"USD": (1.1104, 1.1157), "JPY": (119.11, 117.76), "GBP": (0.8907, 0.90918), "CHF": (1.0608, 1.0546)},
        note="One day.",
    ),
    Episode(
        "Crypto crash May 2021",
        "2021-05-11",
        "2021-05-19",
        shares=(4152.1, 4115.68),
        bitcoin=(56704.57, 37002.44),
        oil=(65.31, 63.28),
        ten_year=(1.64, 1.68),
        euro={"USD": (1.217, 1.2212), "JPY": (132.12, 133.3), "GBP": (0.86013, 0.86233), "CHF": (1.0976, 1.1008)},
        note="Within 2021-05-19 Bitcoin stood at 30,681.",
    ),
    Episode(
        "Crypto winter 2021 to 2022",
        "2021-11-08",
        "2022-11-21",
        shares=(4701.7, 3949.94),
        bitcoin=(67566.83, 15787.28),
        oil=(81.96, 79.74),
        ten_year=(1.51, 3.83),
        euro={"USD": (1.1579, 1.0246), "JPY": (131.29, 145.33), "GBP": (0.85478, 0.86793), "CHF": (1.0591, 0.9817)},
        note="Peak to trough.",
    ),
    Episode(
        "Rates shock 2022",
        "2022-01-03",
        "2022-10-12",
        shares=(4796.56, 3577.03),
        bitcoin=(46458.12, 19157.45),
        oil=(75.99, 87.83),
        ten_year=(1.63, 3.91),
        euro={"USD": (1.1355, 0.9706), "JPY": (130.56, 142.34), "GBP": (0.84135, 0.8784), "CHF": (1.0372, 0.9664)},
        note="Bonds fell with shares.",
    ),
    Episode(
        "Terra 2022",
        "2022-05-04",
        "2022-05-12",
        shares=(4300.17, 3930.08),
        bitcoin=(39698.37, 29047.75),
        oil=(107.84, 106.15),
        ten_year=(2.93, 2.84),
        euro={"USD": (1.0531, 1.0408), "JPY": (136.84, 133.85), "GBP": (0.84194, 0.85293), "CHF": (1.0324, 1.0377)},
        note="A stablecoin failed.",
    ),
    Episode(
        "Celsius 2022",
        "2022-06-10",
        "2022-06-17",
        shares=(3900.86, 3674.84),
        bitcoin=(29083.8, 20471.48),
        oil=(120.73, 109.56),
        ten_year=(3.15, 3.25),
        euro={"USD": (1.0578, 1.0486), "JPY": (141.69, 141.21), "GBP": (0.85048, 0.855), "CHF": (1.0404, 1.0105)},
        note="A lender of coins stopped paying out.",
    ),
    Episode(
        "Sterling and gilts 2022",
        "2022-09-21",
        "2022-09-26",
        shares=(3789.93, 3655.04),
        bitcoin=(18547.4, 19222.67),
        oil=(83.38, 77.17),
        ten_year=(3.51, 3.88),
        euro={"USD": (0.9906, 0.9646), "JPY": (142.66, 139.07), "GBP": (0.87335, 0.89404), "CHF": (0.9549, 0.9555)},
    ),
    Episode(
        "FTX 2022",
        "2022-11-04",
        "2022-11-09",
        shares=(3770.55, 3748.57),
        bitcoin=(21147.23, 15880.78),
        oil=(92.58, 85.79),
        ten_year=(4.17, 4.12),
        euro={"USD": (0.9872, 1.0039), "JPY": (145.19, 146.82), "GBP": (0.87478, 0.87774), "CHF": (0.9863, 0.988)},
        note="An exchange failed; its own customers lost what they held there, which is in no price.",
    ),
    Episode(
        "Silicon Valley Bank 2023",
        "2023-03-08",
        "2023-03-13",
        shares=(3992.01, 3855.76),
        bitcoin=(21718.08, 24197.53),
        oil=(76.56, 74.68),
        ten_year=(3.98, 3.55),
        euro={"USD": (1.0545, 1.0706), "JPY": (144.7, 141.96), "GBP": (0.89074, 0.8837), "CHF": (0.9931, 0.975)},
        note="Yields fell by as much in three days as they rarely do in months.",
    ),
    Episode(
        "Yen carry unwind 2024",
        "2024-07-16",
        "2024-08-05",
        shares=(5667.2, 5186.33),
        oil=(81.92, 74.46),
        ten_year=(4.17, 3.78),
        euro={"USD": (1.0902, 1.0966), "JPY": (172.65, 155.98), "GBP": (0.84058, 0.85878), "CHF": (0.9761, 0.9304)},
    ),
    Episode(
        "Tariffs 2025",
        "2025-02-19",
        "2025-04-08",
        shares=(6144.15, 4982.77),
        bitcoin=(96635.61, 76271.95),
        oil=(72.58, 60.04),
        ten_year=(4.53, 4.26),
        euro={"USD": (1.0434, 1.095), "JPY": (158.41, 160.65), "GBP": (0.82838, 0.85644), "CHF": (0.9435, 0.9349)},
        note="Closing high to closing low.",
    ),
    Episode(
        "Tariff days 2025",
        "2025-04-02",
        "2025-04-08",
        shares=(5670.97, 4982.77),
        bitcoin=(82485.71, 76271.95),
        oil=(72.12, 60.04),
        ten_year=(4.2, 4.26),
        euro={"USD": (1.0803, 1.095), "JPY": (161.22, 160.65), "GBP": (0.83455, 0.85644), "CHF": (0.9543, 0.9349)},
        note="Four trading days.",
    ),
)
