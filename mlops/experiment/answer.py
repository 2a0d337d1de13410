"""The answer of a comparison in words for everybody: what, why, how sure, and what it would cost to wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlops.experiment.comparison import Comparison
from mlops.stats import Estimate
from mlops.types import Decision, Finding, Level, Verdict

PROOF = "paired_log_loss"
POWERS = ("plan_power", "chart_power")  # what it is worth that nothing is proven
NAMES = {  # of findings, for people
    "paired_log_loss": "Better predictions",
    "skill": "Skill at all",
    "samples": "Enough predictions",
    "pairing": "Same predictions by both",
    "trading": "Traded a share of the units",
    "shadow_bars": "Bars in shadow",
    "shadow_failures": "Scores every bar",
    "shadow_latency": "Scores in time",
    "drawdown": "Drawdown not much deeper",
    "srm": "Assigned as planned",
    "gain_interval": "Gain, looked at any time",
    "waiting": "Cost of waiting",
    "plan_power": "What silence is worth",
    "chart_power": "What silence is worth",
    "accuracy_change": "As accurate as when tested",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the words are made of.

    `losses`: log-loss of champion and challenger. `gain`: log-loss a bar by which the challenger is better, in nats;
    `profit`: net return a bar of its book less that of the champion's, a fraction; both with intervals for one look.
    """

    comparison: Comparison
    findings: Sequence[Finding]
    decision: Decision
    losses: tuple[Estimate, Estimate]
    gain: Estimate
    profit: Estimate
    bars: int
    rows: int

    @property
    def proof(self) -> Finding | None:
        """The finding of the test that decides."""
        return next((f for f in self.findings if f.name == PROOF), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """`label` is the verdict, or UNKNOWN before the first look where nothing is moved; the rest are sentences."""

    label: str
    sentence: str
    why: tuple[str, ...]
    sure: tuple[str, ...]
    wait: tuple[str, ...]
    n_needed: int | None


def answer(facts: Facts) -> Answer:
    """Put the verdict of `facts.decision` into words."""
    label = _label(facts)
    return Answer(label, _sentence(facts, label), _why(facts), _sure(facts), _wait(facts), _needed(facts))


def _label(facts: Facts) -> str:
    verdict, proof = facts.decision.verdict, facts.proof
    if verdict not in (Verdict.HOLD, Verdict.INCONCLUSIVE):
        return verdict.value.upper()
    return "UNKNOWN" if proof is None or not proof.params.get("looks") else verdict.value.upper()


def _open(facts: Facts) -> bool:
    """Whether nothing is proven yet and more bars may still prove it."""
    proof = facts.proof
    return proof is None or (proof.level is Level.UNKNOWN and not proof.params.get("finished"))


def _sentence(facts: Facts, label: str) -> str:
    champion, other = f"v{facts.comparison.champion}", f"v{facts.comparison.challenger}"
    level = facts.proof.level if facts.proof else Level.UNKNOWN
    if facts.comparison.watch:
        return _watched(facts, label, level, champion, other)
    if label == "PROMOTE":
        return f"Challenger {other} is better than champion {champion}: promote it."
    if label == "WITHDRAW":
        return f"Challenger {other} goes back to shadow and trades no units any more: keep {champion}."
    if label == "ADVANCE":
        return (
            f"Challenger {other} passed its time in shadow: it trades its share of the units, keep {champion} for now."
        )
    if _open(facts) and facts.comparison.ended_at is not None:
        return f"It ended before it was known whether challenger {other} is better than champion {champion}."
    if _open(facts):
        return f"It is not known yet whether challenger {other} is better than champion {champion}: keep {champion}."
    if level is Level.ALERT:
        return f"Challenger {other} is worse than champion {champion}: keep {champion}."
    if level is Level.OK and {f.name for f in facts.decision.because if f.level is not Level.OK} == {"trading"}:
        return (
            f"Challenger {other} is better than champion {champion}, and must trade a share first: keep {champion} yet."
        )
    if level is Level.OK:
        return f"Challenger {other} predicts better than champion {champion}, but not all is well: keep {champion}."
    return f"The planned bars are over and nothing shows that challenger {other} is better: keep {champion}."


def _watched(facts: Facts, label: str, level: Level, champion: str, other: str) -> str:
    if label == "ROLLBACK":
        return f"The new champion {champion} is worse than {other} before it: go back to {other}."
    if level is Level.ALERT:
        return f"The new champion {champion} is better than {other} before it: keep {champion}."
    if label == "UNKNOWN" and facts.comparison.ended_at is None:
        return (
            f"So far nothing shows that {other}, the champion before, was better: {champion} stays and is watched on."
        )
    if _open(facts):
        return f"The watch on {champion} ended before anything was proven about {other}, the champion before it."
    return f"Nothing showed that {other}, the champion before, was better: {champion} stays."


def _why(facts: Facts) -> tuple[str, ...]:
    sentences = []
    (champion, challenger), gain = facts.losses, facts.gain
    who = "the champion before" if facts.comparison.watch else "the challenger"
    if not facts.bars:
        sentences.append("No bar has matured on which both predicted.")
    if gain.known:
        better = "better" if gain.value > 0 else "worse"
        sentences.append(
            f"Over {facts.bars} bars ({facts.rows:,} predictions each) the log-loss of {who} was "
            f"{challenger.value:.4f} nats, the champion's {champion.value:.4f}: {abs(gain.value):.4f} {better} a bar "
            f"(95 % interval of the gain for one look: {_signed(gain.low, 4)} to {_signed(gain.high, 4)})."
        )
    if facts.profit.known:
        value, low, high = (1e4 * part for part in (facts.profit.value, facts.profit.low, facts.profit.high))
        more = "more" if value >= 0 else "less"
        sentences.append(
            f"In money, the book of {who} made {abs(value):.1f} basis points a bar {more} than the champion's, costs "
            f"paid (interval {_signed(low, 1)} to {_signed(high, 1)}): {_money(low, high)}"
        )
    sentences += [_because(finding) for finding in facts.decision.because if finding.note and _tells(facts, finding)]
    if facts.decision.verdict is Verdict.PROMOTE:
        sentences.append(f"Every one of the {len(facts.decision.because)} gates passed (see “The gates”).")
    return tuple(sentences)


def _tells(facts: Facts, finding: Finding) -> bool:
    """Whether a finding says why: what stands against a promotion, or what speaks for another move."""
    if facts.decision.verdict in (Verdict.ROLLBACK, Verdict.ADVANCE):
        return finding.level is not Level.UNKNOWN
    return finding.level is not Level.OK


def _because(finding: Finding) -> str:
    name = NAMES.get(finding.name, finding.name.replace("_", " "))
    state = {Level.OK: "passed", Level.UNKNOWN: "open"}.get(finding.level, "failed")
    return f"{name} ({state}): {finding.note}."


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _money(low: float, high: float) -> str:
    if low > 0 or high < 0:
        return "the difference is more than luck, for one look."
    return "luck alone explains such a difference."


def _sure(facts: Facts) -> tuple[str, ...]:
    plan, proof = facts.comparison.plan, facts.proof
    every = "bar" if plan.evidence == "anytime" else f"{plan.look_every} bars"
    whole = f"{100 * (1 - plan.confidence):.3g} %"
    joined = ", and less at each look since others joined" if plan.joined else ""
    shared = f" (its part of {whole}, for {plan.arms} are compared{joined})" if plan.arms > 1 else ""
    most = 100 * float(plan.alphas([plan.min_bars])[0])
    rule = (
        f"The rule was fixed before the first bar: a look every {every} from bar {plan.min_bars} to bar "
        f"{plan.horizon_bars}. Over all these looks together it calls a challenger that is no better one in at most "
        f"{most:.3g} % of comparisons{shared}, and one that is "
        f"no worse wrongly aside in at most {whole}."
    )
    if proof is None or proof.params.get("crossed_at") is None or proof.level is Level.UNKNOWN:
        return (rule, *(_worth(f) for f in facts.findings if f.name in POWERS and f.note))
    p, limit = proof.params["p"], proof.params["nominal"]
    return (rule, f"It decided at bar {proof.params['crossed_at']}: p = {p:.2g}, where {limit:.2g} or less decides.")


def _worth(power: Finding) -> str:
    """What it is worth that nothing is proven; why that is not known, where it is not."""
    return f"{power.note[0].upper()}{power.note[1:]}."


def _needed(facts: Facts) -> int | None:
    needed = facts.proof.params.get("n_needed") if facts.proof else None
    return int(needed) if needed is not None else None


def _wait(facts: Facts) -> tuple[str, ...]:
    if not _open(facts):
        return ("Nothing: the question is answered.",)
    if facts.comparison.ended_at is not None:
        return (f"Nothing: it is closed ({facts.comparison.verdict}). A new comparison starts from its first bar.",)
    plan, needed = facts.comparison.plan, _needed(facts)
    if facts.bars < plan.min_bars:
        left = plan.min_bars - facts.bars
        first = f"{facts.bars} bars have matured; the first look is at bar {plan.min_bars}: {left} more are needed."
        return (first, *_cost(facts, left))
    if needed is None:
        left = max(plan.horizon_bars - facts.bars, 0)
        never = f"At the present gain the {plan.horizon_bars} bars of the plan are not enough: {left} are left of them."
        return (never, *_cost(facts, left))
    left = max(needed - facts.bars, 0)
    return (f"If the gain stays what it is, proof takes about {needed} bars: {left} more.", *_cost(facts, left))


def _cost(facts: Facts, left: int) -> tuple[str, ...]:
    """In money, if the present difference were the truth."""
    if not facts.profit.known:
        return ()
    value, low, high = (100 * left * part for part in (facts.profit.value, facts.profit.low, facts.profit.high))
    forgone = "forgoes" if value >= 0 else "saves"
    return (
        (
            f"To keep the champion for {left} bars more {forgone} {abs(value):.2f} % of equity, if the difference of "
            f"the books so far is the truth (its interval: {_signed(low, 1)} % to {_signed(high, 1)} %)."
        ),
    )
