"""The risk of all books, every second: what `jobs/serve.py` publishes to the page, and what limits are held against.

Load: positions at the newest prices, and what the nightly jobs left. Compute: weights, losses, exposures. Nothing is
fitted and nothing is logged; a part that cannot be told stays empty, and `missing` says why.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import structlog

from jobs.accounts import doubtful_fills, notional
from jobs.accounts.corrections import Effect, voided
from jobs.accounts.equity import Account
from jobs.accounts.peak import Peak
from jobs.context import Context
from jobs.live import fields
from jobs.live import history as seen
from jobs.live import state as view
from jobs.live.freshness import Freshness
from jobs.live.measures import abroad, foreign, historyless, measured
from jobs.live.model_status import Standing
from jobs.live.monotonic_clock import Instants
from jobs.live.risk_limits import lines
from jobs.live.staleness import outdated
from jobs.live.state import Now, Slow
from jobs.portfolio import price_jumps as jumps
from jobs.portfolio.book_cache import News
from jobs.portfolio.daily_pnl import Today
from jobs.portfolio.options import RevaluedOptions, Volatilities, with_options
from jobs.portfolio.positions import Holdings
from jobs.portfolio.valuation import Held, book_name
from jobs.portfolio.weights import BookWeights, Night, lacking, left_out, nearly_nothing
from mlops.errors import DataError
from mlops.io.ledger import BookKey
from mlops.risk.correlation.breakdown import State
from mlops.risk.correlation.comovement import comovement
from mlops.risk.correlation.threshold import Calibration
from mlops.risk.drawdown import Drawdown, drawdown, last_close
from mlops.risk.exposure import Groups, exposure
from mlops.risk.limits import Measured, judge
from mlops.risk.measures import Floats
from mlops.risk.options.positions import OptionGreeks
from mlops.risk.prices import Jump, Mark
from mlops.risk.stress.scenarios import Scenarios
from mlops.risk.stress.table import stress_table
from mlops.risk.var.snapshot import Snapshot, snapshot
from mlops.risk.var.stand_in import StandIn, stand_in
from mlops.settings import RiskSettings
from mlops.types import Finding
from mlops.web.messages import Correlation, RiskState

log = structlog.get_logger()
SLOW_S = 10.0  # how often that is read which a job or a person changes
ALL = "all"
SHOWN = 40  # units of the correlation matrix: more cannot be read
RECENT = 250  # bars over which the present book is held against last night's
ALIKE = 0.7  # their correlation: under it half of what moves one is not what moves the other
CONFIRMED = timedelta(seconds=10)  # a gap that is over within it was one late quote
DAYS_A_YEAR = 365.25
SOLD = "Volatility stands still in VaR and scenarios: options that were sold lose more in a crash than is shown."
STUCK = timedelta(minutes=15)  # quotes that come and never move for so long are not a market


@dataclass(frozen=True, slots=True)
class Look:
    """What stands at an instant, and every line held against it.

    `unknown`: the findings from which something has been missing for CONFIRMED while something is held. `lost`: the
    positions that are not known, and why. `jumps`: prices that are not confirmed, by unit.
    """

    state: RiskState
    findings: tuple[Finding, ...]
    unknown: tuple[Finding, ...] = ()
    lost: Mapping[str, str] = field(default_factory=dict)
    jumps: Mapping[str, Jump] = field(default_factory=dict)
    accounts: Mapping[BookKey, Account | None] = field(default_factory=dict)


@dataclass
class Prices:
    """How old each price is, and whether it ever moves."""

    stale_s: float
    since: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    def notes(self, held: Held) -> dict[str, str]:
        """Unit -> what is wrong with its price."""
        texts = {}
        for unit, price in held.prices.items():
            value, since = self.since.get(unit, (math.nan, price.at))
            if value != price.value:
                value, since = self.since[unit] = (price.value, price.at)
            age = (held.as_of - price.at).total_seconds()
            if age > self.stale_s:
                texts[unit] = f"The last good price of {unit}, {price.value:g}, is {fields.age(age)} old."
            elif price.at - since > STUCK:
                still = fields.age((price.at - since).total_seconds())
                texts[unit] = f"{unit} is quoted at {value:g}, unmoved for {still}."
        return texts


def clock(context: Context, now: datetime) -> datetime:
    """Instant that the page looks at: now, or (to look at a replay) the newest bar of any book."""
    if context.settings.risk.clock == "now":
        return now
    return max((mark.end for mark in context.ledger.books.all_marks().values()), default=now)


class Live:
    """The risk of all books of a set-up. Not for several threads at once."""

    def __init__(
        self,
        context: Context,
        *,
        records: bool = True,
        clock: Callable[[], float] = time.monotonic,
        instants: Instants | None = None,
    ) -> None:
        """`records`: confirmed prices and jumps are left in the ledger, for a restart and for people.

        `instants`: those of all loops of a process.
        """
        self._context, self._clock = context, clock
        self._records = records and context.settings.risk.clock == "now"
        self._confirm = timedelta(seconds=context.settings.risk.price_confirm_s)
        self._instants, self._lines = instants or Instants(context.ledger), lines(context.settings.risk.limits)
        self._begin()

    def _begin(self) -> None:
        """Know nothing but what is in the ledger."""
        context, self._read_at, self._accepted = self._context, -math.inf, self._instants.accepted
        self._slow = Slow(stand_in=_stand_in(None, context.settings.risk))
        self._prices, self._holdings = Prices(context.settings.risk.price_stale_s), Holdings(context)
        self._volatilities, self._repriced = Volatilities({}), RevaluedOptions()
        self._replayed: tuple[object, Look] | None = None
        self._unknown_since: dict[tuple[str, str], datetime] = {}
        self._freshness, self._void, self._books = Freshness(context), 0, tuple[object, ...]()
        self._peaks = {
            scope: Peak(context.ledger, scope) for scope in (ALL, *sorted({x.scope for x in self._lines} - {ALL}))
        }
        self._today, self._pasts = Today(context), seen.Pasts(context, self._peaks[ALL])

    def look(self, as_of: datetime) -> Look:
        """All that can be told at `as_of`; where that is earlier than a look before, that look's instant stands.

        In a replay, whose clock stands, the last look is told again while no book moves, for SLOW_S at most.
        """
        if self._context.settings.risk.clock == "now":
            return self._look(as_of)
        about = as_of, News.read(self._context.ledger, self._context.ledger.books.split_news(), as_of)
        if self._replayed is None or self._replayed[0] != about or self._clock() - self._read_at >= SLOW_S:
            self._replayed = about, self._look(as_of)
        return self._replayed[1]

    def _look(self, as_of: datetime) -> Look:
        clock, r = as_of, self._context.settings.risk
        as_of = self._instants.at(clock) if r.clock == "now" else clock
        if self._accepted != self._instants.accepted:
            self._begin()
        whole = self._holdings.at(as_of)
        if self._corrected(whole):
            whole = self._holdings.at(as_of)
        held = whole.counted()
        for scope, peak in self._peaks.items():
            peak.follow(held if scope == ALL else held.of(scope))
        self._refresh(held, whole)
        old = self._prices.notes(held) | jumps.notes(held, self._confirm)
        others = [
            self._now(other, self._curve(other), replace(self._volatilities), old) for other in held.alternatives()
        ]
        now = self._now(held, self._curve(held), self._volatilities, old)
        known, *beside = (list(notional.marked(self._measured(part), whole)) for part in (now, *others))
        findings = judge(self._lines, self._instants.bounded(jumps.hedged(self._lines, known, beside), clock))
        if self._records:
            jumps.settle(self._context.ledger, held, self._confirm)
            self._holdings.doubts.settle(as_of)
            self._holdings.anchors.save(as_of)
            self._holdings.marks.save(as_of)
            for peak in self._peaks.values():  # last: what a void was still to change is done again after a kill
                peak.save(as_of)
            self._instants.settle(clock)
        now.missing.update({"clock": f"{why[:1].upper()}{why[1:]}."} if (why := self._instants.why(clock)) else {})
        now.missing.update(notional.missing(whole) | doubtful_fills.notes(whole.doubts))
        state = notional.shown(view.state(now, self._slow, findings, r), whole)
        unknown = self._unknown(held, findings)
        return Look(state, findings, unknown, whole.unknown, held.jumps, whole.accounts)

    def _corrected(self, whole: Held) -> bool:
        """Put what was told late or taken back into peaks, and out of marks; whether a price may have gone by that."""
        void, held = self._context.ledger.voids.last(), whole.counted()
        effect = Effect(self._context, held)
        since = min(peak.void_since(held) for peak in self._peaks.values())
        for correction in voided(self._context, since) if since != void else ():
            if correction.fill is not None:
                mark = Mark(correction.fill.price, correction.at)
                if self._holdings.marks.drop(correction.fill.unit, mark, whole.as_of):
                    self._holdings.anchors.drop(correction.fill.unit, mark)
        for scope, peak in self._peaks.items():
            peak.correct(effect, held if scope == ALL else held.of(scope), void)
        return since != void

    def _curve(self, held: Held, scope: str = ALL) -> Drawdown:
        """The bars' equity, from the peak on to that of now."""
        return self._peaks[scope].over(self._slow.curves.get(scope, Drawdown()), held)

    def _now(self, held: Held, curve: Drawdown, volatilities: Volatilities, old: Mapping[str, str]) -> Now:
        """What can be told of these positions at these prices."""
        night, r = self._slow.night, self._context.settings.risk
        greeks = volatilities.greeks(held, r)
        book = BookWeights.of(held, night, greeks)
        missing = lacking(held.frame, night, book.outside) | {f"price:{unit}": why for unit, why in old.items()}
        missing |= {f"expired:{unit}": f"{why}." for unit, why in held.unsettled.items()}
        missing |= nearly_nothing(held) | self._moved_away(book)
        missing |= {"age": why} if (why := outdated(held, night)) else {}
        missing |= {f"option:{option.unit}": f"{option.unit}: {option.why}." for option in greeks.missing}
        missing |= {f"volatility:{unit}": why for unit, why in greeks.doubts.items()}
        missing |= {"volatility": SOLD} if (greeks.held["quantity"] < 0).any() else {}
        missing |= {f"position:{row}": why for row, why in held.unknown.items()}
        missing = {key: why for key, why in missing.items() if key not in historyless(held)} | foreign(held)
        groups = Groups.of(held.frame)
        exposed = exposure(
            held.frame,
            held.equity,
            as_of=held.as_of,
            base=r.currency,
            equivalents={**greeks.equivalents, **held.paying},
            groups=groups,
        )
        shot, stressed = self._shot(book, missing), self._stressed(held, book, greeks, missing)
        stand_ins, began = book.stand_ins(self._slow.stand_in), self._began(held)
        if (book.outside or held.abroad) and "var" not in missing:
            bound = f" The bound has them move like {self._slow.stand_in.words}."
            missing["var"] = f"{abroad(held)}." if held.abroad else f"{left_out(book.outside)}.{bound}"
        daily = seen.daily(began, held.equity, self._slow.past.together(began))
        since = min((began[key].at for key in seen.late(began)), default=None)
        gains = self._gains(held, began)
        return Now(
            held, book, groups, exposed, greeks, shot, stand_ins, stressed, curve, daily, gains, old, missing, since
        )

    def _unknown(self, held: Held, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings from which something is missing for good."""
        bare = not held.accounts or not held.unbalanced  # without any balance that is the alert, not each line
        missing = {(f.name, f.subject): f for f in findings if f.params["why"]} if len(held.frame) and bare else {}
        self._unknown_since = {key: self._unknown_since.get(key, held.as_of) for key in missing}
        return tuple(f for key, f in missing.items() if held.as_of - self._unknown_since[key] >= CONFIRMED)

    def _refresh(self, held: Held, whole: Held) -> None:
        """Read what changes slowly, every SLOW_S seconds of the wall clock, and when a fill was taken back."""
        ledger, slow = self._context.ledger, self._slow
        void = ledger.voids.last()
        flows = [(a.flows, a.known.anchors[-1:]) for a in held.accounts.values() if a is not None]
        books = (*held.books, *flows)
        if self._clock() - self._read_at < SLOW_S and void == self._void and books == self._books:
            return
        self._void, self._books = void, books
        newest = ledger.risk.state_at("var", ALL, as_of=held.as_of)
        if newest is not None and (slow.night is None or slow.night.as_of != newest):
            state = ledger.risk.state("var", ALL, as_of=held.as_of)
            slow.night = None if state is None else Night.of(state)
            slow.stand_in = _stand_in(slow.night, self._context.settings.risk)
            self._holdings.marks.volatility = {} if slow.night is None else _daily_volatility(slow.night)
        if (stressed := ledger.risk.state("stress", ALL, as_of=held.as_of)) is not None:
            slow.scenarios = Scenarios.from_stored(stressed.body, stressed.arrays)
            slow.about = {row["name"]: row for row in stressed.body["about"]}
        slow.past = self._pasts.at(held).without(self._holdings.marks.refused)
        equity = slow.past.equity  # what a void fill made of it is no peak
        last = (equity.index[-1], float(equity.iloc[-1])) if len(equity) else None
        if (bar := (last, void, books)) != slow.last_bar:
            slow.curves, slow.last_bar = self._curves(held), bar
        slow.correlation = self._correlation(held)
        every = slow.past if whole is held else self._pasts.at(whole)
        slow.models = seen.models(self._context, whole, every, Standing(self._context, held.as_of, self._freshness))
        slow.alerts = seen.alerts(self._context, view.rows(held), held.as_of)
        slow.trading = seen.trading(self._context)
        self._read_at = self._clock()

    def _curves(self, held: Held) -> dict[str, Drawdown]:
        """The drawdown of the bars, of the whole and of each strategy that has a line of its own."""
        refused = self._holdings.marks.refused
        each = {scope: self._pasts.at(held.of(scope)).without(refused) for scope in self._peaks if scope != ALL}
        curves = {scope: past.equity for scope, past in {ALL: self._slow.past, **each}.items()}
        return {scope: drawdown(np.asarray(path, dtype=np.float64), seen.naive(path)) for scope, path in curves.items()}

    def _correlation(self, held: Held) -> Correlation:
        """Correlation of the heaviest units, by last night's returns; the book's numbers are of the weights now."""
        night = self._slow.night
        if night is None or not held.equity > 0:
            return Correlation(note="No returns yet: the nightly risk job has not run on these books.")
        value = held.value.groupby(held.frame["unit"]).sum().reindex(list(night.units)).fillna(0.0)
        weights = np.asarray(value, dtype=np.float64) / held.equity
        state = self._context.ledger.risk.state("correlation", ALL, as_of=held.as_of)
        calibration = None if state is None else _calibration(state.body["calibration"])
        last = State.UNKNOWN if state is None else State(state.body["last"])
        heavy = np.sort(np.argsort(-np.abs(weights), kind="stable")[:SHOWN])
        names, r = [list(night.units)[i] for i in heavy], self._context.settings.risk
        returns = night.returns[-2 * r.window_days :, heavy].astype(np.float64)
        figures = comovement(returns, weights[heavy], calibration, last=last, window=r.window_days, limit=r.breakdown)
        cover = "" if len(heavy) == len(night.units) else f"The {SHOWN} heaviest of {len(night.units)} units."
        return fields.correlation(figures, names, cover)

    def _moved_away(self, book: BookWeights) -> dict[str, str]:
        """Whether last night's parameters are still of this book: of one that moves another way they are not."""
        night = self._slow.night
        now = book.weights if book.optioned is None else book.weights + book.optioned.options.deltas
        if night is None or not now.any() or not np.isfinite(now).all():
            return {}
        both = np.stack([now, np.asarray(night.body["weights"], dtype=np.float64)], axis=1).astype(np.float32)
        past = night.returns[-RECENT:] @ both
        alike = float(np.corrcoef(past.T)[0, 1]) if past.std(axis=0).all() else -1.0
        if alike >= ALIKE:
            return {}
        sentence = f"What is held moves with what was held on {night.as_of:%Y-%m-%d} by a correlation of {alike:.2f}"
        return {"fit": f"{sentence}: the VaR's parameters are of that book. `trader-mlops job run risk` fits this one."}

    def _shot(self, book: BookWeights, missing: dict[str, str]) -> Snapshot | None:
        """VaR and ES of the book; None where they are not known, and then `missing` says why."""
        night, confidence = self._slow.night, self._context.settings.risk.confidence
        if night is None:
            return None
        if not book.equity > 0:
            missing["var"] = f"Equity is {book.equity:,.0f}: a loss cannot be told as a share of it."
            return None
        options = None if book.optioned is None else book.optioned.options
        table, held, fitted = night.returns, book.weights, night.fitted
        try:
            return snapshot(table, held, fitted, confidence=confidence, growth=night.growth, options=options)
        except DataError as error:
            log.warning("no VaR", error=str(error))
            left = f"what the risk job of {night.as_of:%Y-%m-%d} left"
            missing["var"] = f"The VaR could not be computed from {left}: `trader-mlops job run risk`."
            return None

    def _stressed(
        self, held: Held, book: BookWeights, greeks: OptionGreeks, missing: dict[str, str]
    ) -> pd.DataFrame | None:
        """What all books would lose in each scenario; None before the stress job has run."""
        if self._slow.scenarios is None:
            missing["stress"] = "No scenarios yet: the weekly stress job has not run. `trader-mlops job run stress`."
            return None
        equities = {(key.model, book_name(key)): equity for key, equity in held.equities().items()}
        scenarios = with_options(self._slow.scenarios, greeks, book.value, self._repriced)
        table = stress_table(held.valued, scenarios, equities)
        return table[table["strategy"] == ALL] if len(equities) > 1 else table

    def _began(self, held: Held) -> dict[BookKey, seen.Beginning]:
        """What the day of each book began with."""
        return {key: self._slow.past.beginning(key, held.opened(key), held.as_of) for key in held.books}

    def _gains(self, held: Held, began: Mapping[BookKey, seen.Beginning]) -> Floats:
        """Profit and loss of each position today; not known of a book whose last close is not of this day."""
        since = {key: beginning.at if beginning.closed else last_close(held.as_of) for key, beginning in began.items()}
        late = {(key.model, book_name(key)) for key in seen.late(began)}
        rows = zip(held.frame["strategy"], held.frame["book"], strict=True)
        return np.where([row in late for row in rows], math.nan, self._today.gains(held, since))

    def _measured(self, now: Now) -> Iterator[Measured]:
        """Everything that lines may be drawn on: of the whole, and of each strategy that has a line of its own."""
        yield from measured(now, self._slow)
        for scope in self._peaks.keys() - {ALL}:
            if (part := now.held.of(scope)).books:
                own = self._now(part, self._curve(part, scope), replace(self._volatilities), now.old)
                yield from (replace(measure, scope=scope) for measure in measured(own, self._slow))


def _daily_volatility(night: Night) -> dict[str, float]:
    """Volatility of each unit, a calendar day."""
    each = night.returns[-RECENT:].std(axis=0, dtype=np.float64) * math.sqrt(night.bars_a_year / DAYS_A_YEAR)
    return {unit: float(each[i]) for unit, i in night.units.items() if each[i] > 0}


def _calibration(stored: Mapping[str, Any]) -> Calibration:
    """Read a stored calibration: JSON has no NaN, it comes back as None."""
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in stored.items()}
    return Calibration(**known)


def _stand_in(night: Night | None, risk: RiskSettings) -> StandIn:
    """Stand-in for what no model knows: from last night's units, where there are any."""
    if night is None:
        return stand_in(np.empty((0, 0)), (), volatility=risk.stand_in_volatility, confidence=risk.confidence)
    recent = night.returns[-2 * RECENT :]
    return stand_in(
        recent,
        tuple(night.units),
        volatility=risk.stand_in_volatility,
        confidence=risk.confidence,
        growth=night.growth,
        bars_a_year=night.bars_a_year,
    )
