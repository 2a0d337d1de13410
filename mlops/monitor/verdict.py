"""Three layers of evidence in one word: what the inputs do, what can be said without labels, what the labels said.

The later the layer, the later it comes and the more it proves. Inputs move where skill does not; confidence falls where
answers stay right; only labels say that a model is wrong. `mlops.policy` decides; this says where to look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

from mlops.monitor.detectors import DETECTORS
from mlops.monitor.performance import METRICS
from mlops.types import Finding, Level


class Layer(StrEnum):
    INPUTS = "inputs"
    LABEL_FREE = "label_free"
    MATURED = "matured"


FREE = ("confidence_entropy", "confidence_mean", "confidence_weak", "estimated_accuracy")
COUNTS = (
    *METRICS,
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "chart_power",
    "drift_threshold_cost",
    "false_words",
    "n",
    "pending",
    "share_confident",
    "silence",
)  # they describe and are not tested; they accuse nobody
STOPPED = {"silence": "the bot is silent", "pending": "labels have stopped"}
WORDS = {
    Layer.INPUTS: "the inputs have moved",
    Layer.LABEL_FREE: "the model is less sure",
    Layer.MATURED: "the model is more often wrong",
}
_ORDER = {Level.UNKNOWN: -1, Level.OK: 0, Level.WARN: 1, Level.ALERT: 2}
NAMED = 3  # findings that a note names


def layer_of(finding: Finding) -> Layer | None:
    """The layer that a finding speaks for; None for those that only describe.

    Examples
    --------
    >>> layer_of(Finding("ks", 0.3, 0.1, Level.ALERT, 50, subject="return_1"))
    <Layer.INPUTS: 'inputs'>
    """
    if finding.name in COUNTS or finding.name.startswith("layer_"):
        return None
    if finding.name in DETECTORS or "p_adjusted" in finding.params:  # a drift detector's mark
        return Layer.INPUTS
    return Layer.LABEL_FREE if finding.name in FREE else Layer.MATURED


def layers(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a layer, and `layer_verdict` that puts them into words.

    Level of a layer: the worst of its findings that are known, UNKNOWN if none is. Level of the verdict: that of the
    matured layer where it is known; until then WARN at most, for without labels nothing is proven. Where the bot is
    silent, or labels have stopped, nothing is in order: what is known is old. Error rate: that of what it sums up; it
    tests nothing.

    Returns
    -------
    tuple of Finding
        `layer_inputs`, `layer_label_free`, `layer_matured`, `layer_verdict`; `value` counts what is at WARN or ALERT,
        `n` what is known, `note` names the worst.
    """
    given = tuple(findings)
    each = {layer: _summed(layer, [f for f in given if layer_of(f) is layer]) for layer in Layer}
    stopped = [f"{STOPPED[f.name]}, {f.note}" for f in given if f.name in STOPPED and f.level is Level.ALERT]
    unlabelled = next((f for f in given if f.name == "pending" and f.level is Level.ALERT), None)
    power = next((f for f in given if f.name == "chart_power" and f.level is Level.OK), None)
    verdict = _verdict(each, "; ".join(stopped), "" if power is None else power.note)
    if unlabelled is not None and each[Layer.MATURED].level is Level.OK:
        each[Layer.MATURED] = replace(each[Layer.MATURED], level=Level.UNKNOWN, note=unlabelled.note)
    return (*each.values(), verdict)


def _summed(layer: Layer, findings: list[Finding]) -> Finding:
    known = [f for f in findings if f.level is not Level.UNKNOWN]
    loud = sorted((f for f in known if _ORDER[f.level] > 0), key=lambda f: -_ORDER[f.level])
    level = max((f.level for f in known), key=_ORDER.__getitem__, default=Level.UNKNOWN)
    names = ", ".join(_name(f) for f in loud[:NAMED]) + (f" and {len(loud) - NAMED} more" if len(loud) > NAMED else "")
    quiet = f"all quiet: {len(known)} known of {len(findings)}" if known else f"none of {len(findings)} is known yet"
    note = f"{len(loud)} of {len(known)}: {names}" if loud else quiet
    return Finding(f"layer_{layer.value}", float(len(loud)), 0.0, level, len(known), note=note)


def _verdict(each: dict[Layer, Finding], stopped: str, power: str) -> Finding:
    matured = each[Layer.MATURED]
    early = [each[layer] for layer in (Layer.INPUTS, Layer.LABEL_FREE)]
    loud = [layer for layer, finding in each.items() if _ORDER[finding.level] > 0]
    worst = max((f.level for f in early), key=_ORDER.__getitem__)
    unproven = Level.WARN if worst is Level.ALERT else worst
    level: Level = unproven if matured.level is Level.UNKNOWN else matured.level
    if not loud:
        note = "nothing has changed" if level is not Level.UNKNOWN else "too little is known to say"
        if matured.level is Level.UNKNOWN and level is Level.OK:
            note += " before the labels; none has spoken yet"
        elif level is Level.OK and power:
            note += f"; {power}"
    else:
        note = ", ".join(WORDS[layer] for layer in loud)
    if loud and matured.level is Level.UNKNOWN:
        note += "; no label has said yet whether it is worse"
    elif loud and matured.level is Level.OK:
        note += "; its answers are as good as before"
    if stopped:
        level = Level.UNKNOWN if level is Level.OK else level
        note = f"{stopped}; before that: {note}"
    return Finding("layer_verdict", float(len(loud)), 0.0, level, sum(f.n for f in each.values()), note=note)


def _name(finding: Finding) -> str:
    return f"{finding.name} of {finding.subject}" if finding.subject else finding.name
