"""From evidence to a verdict. Pure: no clock, no registry, no log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlops.types import Decision, Finding, Level, ModelRef, Report, Stage, TradingState, Verdict

PROOF, TRADING = "paired_log_loss", "trading"
REQUIRED = (PROOF, "skill", "samples", TRADING)  # gates without which nothing is promoted
BROKEN = ("pairing", "srm")  # gates about the comparison itself: failed, nothing it says may decide
GATES = (*REQUIRED, *BROKEN, "drawdown")  # every one of these that a report has must be OK
IN_SHADOW = ("shadow_bars", "shadow_failures", "shadow_latency")  # how a version scored beside the champion
TO_TRADE = (*IN_SHADOW, "pairing", "drawdown")  # all OK, and not proven worse: it may trade its share
NO_LONGER = ("shadow_failures", "shadow_latency", "drawdown")  # one at ALERT, and it trades its share no longer
SILENCE = "silence"  # the finding that says how long the bot has predicted nothing
PENDING = "pending"  # the finding that says whether outcomes still come
POWERS = ("chart_power", "plan_power")  # findings that say what it is worth that nothing was found
PREVIOUS = "previous_champion"  # subject of the findings about the champion before
LOSSES = ("drawdown", "daily_loss")  # measures of what is lost already: no shrinking cures them
CONFIRM = timedelta(seconds=10)  # a loss that is there for so long is no bad quote
PATIENCE = timedelta(days=4)  # a bot of daily bars that was told on a Friday has had its next bar by then
WORSE = 0.25  # of the hard line: a breach that grew by so much since it was first seen is not being cured
AHEAD = 0.1  # one-look p-value of who did better on the same bars: enough to tell a model's fall from a market's
SUSTAINED_SHARE = 0.25  # of the features, drifted in two reports running: one feature alone is not a market


@dataclass(frozen=True, slots=True)
class Breach:
    """A hard line that is crossed: as `finding` now, crossed `since`, and the value `first` seen then."""

    finding: Finding
    since: datetime
    first: float


def on_monitor(
    report: Report,
    *,
    since_last_train_bars: int,
    cool_down_bars: int,
    previous: Report | None = None,
    answering: bool = False,
    unanswered: str = "",
    in_vain: str = "",
) -> Decision:
    """RETRAIN when accuracy changed, or when drift is sustained; HOLD while the answer to it is under test.

    That is the case in the cool-down after the training of a version that was compared or promoted, and while a
    challenger is compared that was trained after the alarm (`answering`). What was trained before it knows nothing of
    what happened: that it is compared holds nothing. An alarm of an earlier look that nothing has answered yet
    (`unanswered`: what it said) counts as one of this look. What was trained since and is compared with nothing
    (`in_vain`: a sentence without its full stop) holds nothing either, and is said in the reason.

    Drift is sustained when at least a quarter of the features have drifted in this report and in the `previous` one: by
    most of the detectors that know of it, so that one detector more does not make the rule looser. Drift once, or of
    few features, is shown and changes nothing: the inputs may move where the skill does not.

    INCONCLUSIVE while nothing can be said: too little was predicted, or the bot is silent or labels have stopped, and
    what is known is old.
    """
    changed = tuple(f for f in report.findings if f.name == "accuracy_change" and f.level is Level.ALERT)
    drifted = _sustained(report, previous)
    champion = report.model
    earlier = tuple(f for f in report.findings if f.name == "accuracy_change") if unanswered else ()
    because = changed or earlier or drifted
    if not because:
        return _quiet(report)
    moved = f"{len({f.subject for f in drifted})} features have drifted for good"
    trigger = _changed(changed[0]) if changed else unanswered or moved
    if answering:
        reason = f"No retraining yet: {trigger}, and a challenger that was trained since is being compared."
        return Decision(Verdict.HOLD, champion, because, champion, reason)
    idle = f" {in_vain}." if in_vain else ""
    if since_last_train_bars < cool_down_bars:
        counted = f"the last training that led to a comparison is {since_last_train_bars} bars old"
        wait = f"{counted}, {cool_down_bars} is the cool-down"
        return Decision(Verdict.HOLD, champion, because, champion, f"No retraining yet: {trigger}, but {wait}.{idle}")
    return Decision(Verdict.RETRAIN, champion, because, champion, f"Retrain: {trigger}.{idle}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a challenger stands.

    Parameters
    ----------
    stage : Stage
        Whether it trades a share of the units.
    waits : bool
        It is on the waiting list while another one is nominated: it must have passed more before it trades.
    held : str
        Why no job gives it a share now; empty where one may.
    """

    stage: Stage = Stage.AB
    waits: bool = False
    held: str = ""


def on_comparison(report: Report, challenger: ModelRef, place: Place = Place(), *, resting: str = "") -> Decision:
    """PROMOTE the challenger when every gate passes. `report.model` is the champion.

    A challenger in shadow can not pass `trading`. ADVANCE when it passed the gates of that stage (`TO_TRADE`), nothing
    is against it, and, while it is on the waiting list, every other gate passed too. WITHDRAW one that trades when a
    gate of `NO_LONGER` is at ALERT, unless it is proven worse: that ends its comparison.

    INCONCLUSIVE while a gate has not enough evidence, where labels have stopped (nobody is promoted or given a share on
    what was right before), and where the comparison itself is broken (`BROKEN`): then nothing that it says may decide.
    HOLD when the evidence is against the challenger, when it is `held`, and when every gate passed but the champion is
    `resting` (why no transition is due now; see `resting`).
    """
    gates = tuple(f for f in report.findings if f.name in GATES)
    missing = [name for name in REQUIRED if name not in {f.name for f in gates}]
    failed = tuple(f for f in gates if f.level is not Level.OK)
    champion = report.model
    if (moved := _moved(report, challenger, place)) is not None:
        return moved
    stopped = _stopped(report)
    if missing or failed or stopped:
        if place.stage is Stage.SHADOW:
            failed = (*failed, *(f for f in report.findings if f.name in IN_SHADOW and f.level is not Level.OK))
        against = [f for f in failed if f.level is Level.ALERT]
        broken = any(f.name in BROKEN for f in against)
        verdict = Verdict.HOLD if against and not broken else Verdict.INCONCLUSIVE
        notes = [f"{f.name}: {f.note}" for f in (*stopped, *failed)]
        why = "; ".join([*notes, *(f"{name} is missing" for name in missing)])
        words = "Hold" if verdict is Verdict.HOLD else "Inconclusive, the comparison is broken: hold" if broken else ""
        lacks = "labels have stopped" if stopped else "not enough evidence yet"
        words = words or f"Inconclusive, {lacks}: hold"
        worth = "" if against or stopped else _worth(report)
        return Decision(verdict, champion, (*stopped, *failed) or gates, champion, f"{words} {champion}: {why}.{worth}")
    proof = next(f for f in gates if f.name == PROOF)
    if resting:
        reason = f"Hold {champion}: {challenger} passed every gate ({proof.note}), but {resting}."
        return Decision(Verdict.HOLD, champion, gates, champion, reason)
    reason = f"Promote {challenger} over {champion}: {proof.note}; every gate passed."
    return Decision(Verdict.PROMOTE, challenger, gates, champion, reason)


def proven(report: Report) -> bool:
    """Whether every gate passed but that of having traded, which takes no evidence but time."""
    passed = {f.name for f in report.findings if f.name in GATES and f.level is Level.OK}
    failed = {f.name for f in report.findings if f.name in GATES and f.level is not Level.OK}
    return not failed - {TRADING} and {*REQUIRED} - {TRADING} <= passed


def _moved(report: Report, challenger: ModelRef, place: Place) -> Decision | None:
    """What moves a challenger from one stage to the other, or keeps it from it; None where nothing does."""
    champion, worse = report.model, any(f.name == PROOF and f.level is Level.ALERT for f in report.findings)
    if place.stage is Stage.AB:
        because = tuple(f for f in report.findings if f.name in NO_LONGER and f.level is Level.ALERT)
        if worse or not because:
            return None
        why = "; ".join(f"{f.name}: {f.note}" for f in because)
        reason = f"Take {challenger} back to shadow, it trades no units any more: {why}."
        return Decision(Verdict.WITHDRAW, challenger, because, champion, reason)
    because = tuple(f for f in report.findings if f.name in TO_TRADE and f.level is Level.OK)
    against = any(f.name in (*GATES, PENDING) and f.level is Level.ALERT for f in report.findings)
    if against or len(because) < len(TO_TRADE) or (place.waits and not proven(report)):
        return None
    why = "; ".join(f.note for f in because)
    if place.held:
        reason = f"Hold {challenger} in shadow: it passed the gates of that stage ({why}), but {place.held}."
        return Decision(Verdict.HOLD, champion, because, champion, reason)
    reason = f"Give {challenger} its share of the units beside {champion}: {why}."
    return Decision(Verdict.ADVANCE, challenger, because, champion, reason)


def resting(moves: Sequence[datetime], now: datetime, *, cool_down: timedelta, most_a_day: int) -> str:
    """Why no job should promote now; empty where it may.

    Parameters
    ----------
    moves : sequence of datetime
        When the champion was moved, by whomever, the first installation left out.
    cool_down : timedelta
        After any move: what the market does to the new champion is not known yet.
    most_a_day : int
        Moves within 24 hours under which a job may promote. Rollbacks and people are held back by neither.
    """
    recent = [at for at in moves if now - at < timedelta(days=1)]
    if len(recent) >= most_a_day:
        return f"the champion was moved {len(recent)} times in 24 hours and {most_a_day} a day are allowed"
    if moves and now - max(moves) < cool_down:
        return f"the last move was on {max(moves):%Y-%m-%d %H:%M}, and {cool_down.days} days are the cool-down"
    return ""


def on_limits(report: Report, previous: ModelRef | None) -> Decision:
    """ROLLBACK at once when a hard limit broke and there is a champion to go back to. `report.model` is the champion.

    No evidence is weighed and no cool-down waited for: a limit is a line that a person drew. Where the previous
    champion's own book did little better on the same bars (its finding of the same name is at ALERT, too), going back
    helps nobody: HOLD, for a person to decide.
    """
    champion = report.model
    broken = tuple(f for f in report.findings if f.level is Level.ALERT and not f.subject)
    if not broken:
        unknown = [f.name for f in report.findings if f.level is Level.UNKNOWN]
        reason = (
            f"No hard limit broke; not known yet: {', '.join(unknown)}." if unknown else "Every hard limit is kept."
        )
        return Decision(Verdict.HOLD, champion, against=champion, reason=reason)
    notes = "; ".join(f.note for f in broken)
    if previous is None:
        reason = f"Hold {champion}, for there is no champion to go back to: {notes}. A person must decide."
        return Decision(Verdict.HOLD, champion, broken, champion, reason)
    same = {f.name for f in report.findings if f.level is Level.ALERT and f.subject == PREVIOUS}
    if all(f.name in same for f in broken):
        reason = f"Hold {champion}, for {previous} did little better on the same bars: {notes}. A person must decide."
        return Decision(Verdict.HOLD, champion, broken, champion, reason)
    reason = f"Roll back {champion} to {previous} at once: {notes}."
    return Decision(Verdict.ROLLBACK, champion, broken, champion, reason)


def on_risk(
    state: TradingState, breaches: Sequence[Breach], now: datetime, *, patience: timedelta = PATIENCE
) -> tuple[TradingState, str]:
    """The trading state that hard breaches of risk ask for, and why; never a looser one than `state`.

    REDUCING at the first look that finds a hard line crossed. HALTED only at a later look, where that did not help: the
    same breach is `patience` old, or grew by `WORSE` of its line since it was first seen; or it is one of `LOSSES`,
    which shrinking does not undo, and still there after `CONFIRM`. So a single bad price halts nothing. What a person
    has seen and lifted is not among `breaches`, and what is not known any more tightens nothing.
    """
    if not breaches or state is TradingState.HALTED:
        return state, ""
    hopeless = [(b, why) for b in breaches if (why := _not_cured_by_reducing(b, now, patience))]
    if hopeless:
        return TradingState.HALTED, "; ".join(f"{b.finding.note}, {why}" for b, why in hopeless)
    if state is TradingState.REDUCING:
        return state, ""
    return TradingState.REDUCING, "; ".join(b.finding.note for b in breaches)


def on_watch(report: Report, previous: ModelRef) -> Decision:
    """ROLLBACK when the previous champion is proven better than the present one (`report.model`), or when the
    present one's accuracy collapsed below its own tested one and the previous champion did better on the same bars,
    with a one-look p of at most `AHEAD`: where a market costs both, one of two equal models is ahead anyway.
    """
    proof = tuple(f for f in report.findings if f.name == "paired_log_loss")
    if proof and all(f.level is Level.OK for f in proof):
        reason = f"Roll back {report.model} to {previous}: the previous champion is {proof[0].note}."
        return Decision(Verdict.ROLLBACK, report.model, proof, report.model, reason)
    chart = tuple(f for f in report.findings if f.name == "accuracy_change" and f.level is Level.ALERT)
    ahead = next((p for f in proof if isinstance(p := f.params.get("p_now"), float)), 1.0)
    if chart and ahead <= AHEAD:  # a wild market may cost both: then going back helps nobody
        better = f"the previous champion gains {proof[0].value:+.4f} log-loss a bar on the same {proof[0].n} bars"
        reason = f"Roll back {report.model} to {previous}: {_changed(chart[0])}, and {better}."
        return Decision(Verdict.ROLLBACK, report.model, (*chart, *proof), report.model, reason)
    why = proof[0].note if proof else "there is no comparison with the previous champion"
    if stopped := _stopped(report):
        reason = f"Keep {report.model}, whether it is worse is unknown: {stopped[0].note}; until then: {why}."
        return Decision(Verdict.INCONCLUSIVE, report.model, stopped, report.model, reason)
    return Decision(Verdict.HOLD, report.model, proof, report.model, f"Keep {report.model}: {why}.{_worth(report)}")


def _not_cured_by_reducing(breach: Breach, now: datetime, patience: timedelta) -> str:
    """Why shrinking does not cure it; empty where it may."""
    finding, age = breach.finding, now - breach.since
    if finding.name in LOSSES and age >= CONFIRM:
        return "and what is lost is not won back by shrinking"
    if age > timedelta(0) and finding.value >= breach.first + WORSE * finding.limit:
        return f"and worse than when it was first seen ({breach.first / finding.limit:.0%} of the line)"
    if age >= patience:
        return f"since {breach.since:%Y-%m-%d %H:%M}"
    return ""


def _quiet(report: Report) -> Decision:
    """Nothing is red: HOLD as far as that is known."""
    champion = report.model
    silent = next((f for f in report.findings if f.name == SILENCE and f.level is Level.ALERT), None)
    known = {
        "accuracy": any(f.name == "accuracy_change" and f.level is not Level.UNKNOWN for f in report.findings),
        "inputs": any("p_adjusted" in f.params and f.level is not Level.UNKNOWN for f in report.findings),
    }
    if silent is not None:
        reason = f"Unknown: the bot is silent, {silent.note}; what it predicted before says nothing of now."
        return Decision(Verdict.INCONCLUSIVE, champion, (silent,), champion, reason)
    if stopped := _stopped(report):
        inputs = "The inputs have not changed" if known["inputs"] else "Whether the inputs have is not known either"
        reason = f"Unknown whether the accuracy has changed: {stopped[0].note}. {inputs}."
        return Decision(Verdict.INCONCLUSIVE, champion, stopped, champion, reason)
    if not any(known.values()):
        note = _why_unknown(report) or f"n = {max((f.n for f in report.findings), default=0)}"
        reason = f"Unknown: too little is known to say whether accuracy or inputs have changed ({note})."
        return Decision(Verdict.INCONCLUSIVE, champion, (), champion, reason)
    if all(known.values()):
        reason = f"Neither accuracy nor inputs have changed.{_worth(report)}"
        return Decision(Verdict.HOLD, champion, against=champion, reason=reason)
    sure, unsure = ("accuracy", "inputs") if known["accuracy"] else ("inputs", "accuracy")
    has = "has" if sure == "accuracy" else "have"
    note = _why_unknown(report) if unsure == "accuracy" else ""
    reason = f"The {sure} {has} not changed; whether the {unsure} did is not known yet{note and f' ({note})'}."
    reason += _worth(report) if known["accuracy"] else ""
    return Decision(Verdict.HOLD, champion, against=champion, reason=reason)


def _why_unknown(report: Report) -> str:
    """What the accuracy chart lacks: current bars, or a reference."""
    return next((f.note for f in report.findings if f.name == "accuracy_change"), "")


def _stopped(report: Report) -> tuple[Finding, ...]:
    """That labels have stopped; empty while they come."""
    return tuple(f for f in report.findings if f.name == PENDING and f.level is Level.ALERT)


def _worth(report: Report) -> str:
    """What it is worth that nothing was found, a sentence for each finding that knows, and what was not looked at."""
    known = [f.note for f in report.findings if f.name in POWERS and f.level is Level.OK]
    known += [f"not looked at: {f.note}" for f in report.findings if f.name == PENDING and f.level is Level.WARN]
    return "".join(f" {note[0].upper()}{note[1:]}." for note in known)


def _sustained(report: Report, previous: Report | None) -> tuple[Finding, ...]:
    now, before = _drifted(report), set() if previous is None else {f.subject for f in _drifted(previous)}
    both = tuple(f for f in now if f.subject in before)
    detectors = {f.name for f in report.findings if "p_adjusted" in f.params}  # other findings have subjects too
    features = {f.subject for f in report.findings if f.name in detectors and f.subject}
    return both if both and len({f.subject for f in both}) >= SUSTAINED_SHARE * len(features) else ()


def _drifted(report: Report) -> tuple[Finding, ...]:
    """ALERTs of the features that most of their detectors see moved; of what a few see, a person may think."""
    known = [f for f in report.findings if f.subject and "p_adjusted" in f.params and f.level is not Level.UNKNOWN]
    spoke, called = Counter(f.subject for f in known), Counter(f.subject for f in known if f.level is Level.ALERT)
    return tuple(f for f in known if f.level is Level.ALERT and 2 * called[f.subject] > spoke[f.subject])


def _changed(finding: Finding) -> str:
    at = str(finding.params.get("alarm_at", ""))[:10]
    return f"the accuracy fell through its chart's limit on {at} ({finding.note})"
