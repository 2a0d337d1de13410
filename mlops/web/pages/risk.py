"""What can we lose today, where, and is that normal?"""

from __future__ import annotations

from mlops.web.cards import Card, Column, Page, Panel, Series, Tile

ANSWER = Card("answer", "answer", "Today", "kpi")

STRIP = Card(
    "tiles",
    "strip",
    "Key figures",
    "kpi",
    parts=(
        Tile(
            "Equity",
            "kpi.equity",
            "money",
            (("kpi.notional", "money", "of it notional, no balance is known:"),),
            help="With open trades at their last good prices.",
            least="equity",
        ),
        Tile(
            "P&L today",
            "kpi.pnl_today_money",
            "gain",
            (("kpi.pnl_today", "gain_percent", ""),),
            help="Since the last close, open trades counted.",
            since="kpi.pnl_since",
            least="equity",
        ),
        Tile(
            "VaR",
            "kpi.var.value",
            "percent",
            (("kpi.var.money", "money", ""),),
            meter="kpi.var",
            help="The loss that is exceeded on one day in 100 (at 99 %). Is the VaR right? says by which model.",
        ),
        Tile(
            "ES",
            "kpi.es.value",
            "percent",
            (("kpi.es.money", "money", ""),),
            meter="kpi.es",
            help="Expected shortfall: the mean loss on the days on which the VaR is exceeded.",
        ),
        Tile(
            "Gross",
            "kpi.gross.value",
            "times",
            (("kpi.net.value", "times", "net"), ("kpi.leverage.value", "times", "leverage")),
            meter="kpi.gross",
            help="Long plus short, in multiples of equity.",
        ),
        Tile(
            "Drawdown",
            "kpi.drawdown.now",
            "percent",
            (("kpi.drawdown.worst", "percent", "at worst"), ("kpi.drawdown.start", "day", "from")),
            meter="kpi.drawdown",
            help="Under the highest equity so far, open trades counted.",
            least="equity",
        ),
        Tile("Trading", "kpi.trading", "text"),
    ),
)

POSITIONS = Card(
    "table",
    "positions",
    "Positions",
    "positions",
    empty="No open positions.",
    wide=True,
    parts=(
        Column("unit", "Unit", "text"),
        Column("strategy", "Strategy", "text"),
        Column("share_of_var", "Share of VaR", "bar", "Part of the book's VaR that this position carries.", full=0.5),
        Column("component_var", "VaR", "percent", "Component VaR, of equity: the parts add up to the book's VaR."),
        Column("value", "Value", "money"),
        Column("weight", "Weight", "percent", "Value over equity; notional: no balance is known.", none="notional"),
        Column("pnl_today", "P&L today", "gain", "Since the last close, trades of today counted."),
        Column("pnl", "P&L", "gain", "Since it was opened."),
        Column(
            "price",
            "Price",
            "price",
            "The last good one; ◷ old; behind ? what is quoted and not confirmed yet.",
            old="stale",
            other="unconfirmed",
        ),
        Column("priced_at", "Age", "age", "Of the price."),
        Column("quantity", "Quantity", "number"),
        Column("component_es", "ES", "percent", "Component ES, of equity."),
        Column("days_to_exit", "Exit", "days", "Days to exit, trading a tenth of the daily volume or as set."),
        Column("book", "Book", "text"),
        Column("kind", "Kind", "text"),
        Column("note", "Note", "note"),
    ),
    options={"sort": "share_of_var", "filter": ("unit", "strategy", "book", "kind", "note"), "rows": 14},
)

EQUITY = Card(
    "panels",
    "equity",
    "Equity and drawdown",
    "history.equity",
    empty="No history of equity yet.",
    parts=(
        Panel("Equity", "money", (Series(0, "equity", "line"),)),
        Panel("Drawdown: under the highest so far", "percent", (Series(1, "drawdown", "under", negate=True),)),
    ),
)

VAR = Card(
    "panels",
    "var",
    "Daily result against VaR",
    "history.var",
    empty="No history of VaR yet.",
    parts=(
        Panel(
            "Result of a day, of equity",
            "percent",
            (Series(1, "result", "stems", negate=True), Series(0, "VaR", "step", negate=True)),
            mark=(2, "exceedance: lost more than VaR"),
        ),
    ),
)

BACKTEST = Card("verdict", "backtest", "Is the VaR right?", "backtest", empty="Not backtested yet.")

EXPOSURE = Card(
    "table",
    "exposure",
    "Exposure",
    "exposure",
    empty="No exposure: no open positions.",
    parts=(
        Column("@key", "Name", "text"),
        Column("long", "Long", "percent"),
        Column("short", "Short", "percent"),
        Column("net", "Net", "gain_percent"),
        Column("gross", "Gross", "bar", "Long plus short, of equity.", full=2.0),
        Column("component_var", "VaR", "percent", "Component VaR, of equity."),
        Column("pnl_today", "P&L today", "gain", "Since the last close."),
    ),
    options={"sort": "gross", "choose": ("strategy", "sector", "currency", "underlying"), "rows": 9},
)

STRESS = Card(
    "table",
    "stress",
    "Stress",
    "stress",
    empty="No scenario was run yet.",
    parts=(
        Column("name", "Scenario", "text"),
        Column("loss", "P&L", "bar", "What the present book would lose (−) or gain, of equity.", full=0.5, negate=True),
        Column("loss_money", "Money", "gain", negate=True),
        Column("worst_unit", "Most by", "text", "The unit that would lose most."),
        Column("proxied", "Stand-ins", "percent", "Share of the book that did not exist then and moves by a stand-in."),
        Column("dates", "When", "text"),
        Column("source", "Source", "text"),
    ),
    options={"sort": "loss", "rows": 9},
)

GREEKS = Card(
    "table",
    "greeks",
    "Greeks",
    "greeks",
    empty="No options are held.",
    parts=(
        Column("underlying", "Underlying", "text"),
        Column("expiry", "Expiry", "day"),
        Column("delta_units", "Delta", "points", "Units of the underlying."),
        Column("gamma_units_per_point", "Gamma", "points", "Units per point of the underlying."),
        Column("vega_per_vol_point", "Vega", "points", "Money per point of volatility."),
        Column("theta_per_day", "Theta", "points", "Money a day."),
        Column("rho_per_rate_point", "Rho", "points", "Money per point of the rate."),
        Column("vanna_per_vol_point", "Vanna", "points", "Units per point of volatility."),
        Column("volga_per_vol_point", "Volga", "points", "Vega per point of volatility."),
        Column("charm_per_day", "Charm", "points", "Units a day."),
    ),
    options={"sort": "vega_per_vol_point", "rows": 9},
)

CORRELATION = Card(
    "heat", "correlation", "Correlation", "correlation", empty="Too few units or bars for correlations.", wide=True
)

ALERTS = Card("rail", "alerts", "Alerts", "alerts", empty="No open alert.")

LIMITS = Card("limits", "limits", "Limits", "limits", empty="No limit is set.")

PAGE = Page(
    "Risk",
    top=(ANSWER, STRIP),
    cards=(POSITIONS, EQUITY, VAR, STRESS, EXPOSURE, BACKTEST, GREEKS, CORRELATION),
    rail=(ALERTS, LIMITS),
)
