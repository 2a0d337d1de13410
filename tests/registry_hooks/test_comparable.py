"""A version that was made for other bars than the champion is no challenger of it; a person is told why."""

import json
import re
from datetime import timedelta

import pytest

from benchmarks.simulated.platform import START, Platform, platforms
from benchmarks.simulated.world import Law, World
from mlops.types import ModelRef, Priority
from registry_hooks import apply, bundle, waiting_list
from registry_hooks.comparable import NotComparable, differences

UNITS = [f"U{i}" for i in range(10)]
DAILY = {"horizon_bars": 5, "every_s": 86400.0, "universe": UNITS}
AT = START - timedelta(hours=12)


class Made(Platform):
    """A platform whose versions are made for the bars that `made` says."""

    made = DAILY

    def _bundled(self, ref):
        super()._bundled(ref)
        place = self.context.registry.cache / ref.name / str(ref.version)
        meta = place / "artifacts" / "meta.json"
        meta.write_text(json.dumps(json.loads(meta.read_text()) | self.made))
        return bundle.digest(place)


@pytest.fixture
def one():
    with platforms() as context:
        platform = Made(context, World(Law(units=2, horizon=5), 40, 1), "m", known=False)
        platform.begin()
        yield platform


def _challenge(one, **made):
    one.made = {**DAILY, **made}
    return one.challenge(AT)


def _tags(one, ref):
    return one.client.get_model_version("m", str(ref.version)).tags


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({}, ""),
        ({"every_s": 86400.0 * 0.96}, ""),  # clocks that change
        ({"universe": [*UNITS, "new"]}, ""),  # a listing
        ({"universe": UNITS[1:]}, ""),
        ({"universe": UNITS[3:]}, "80% must be common .* got 70%: none are new, U0, U1, U2 are missing"),
        ({"universe": [f"X{i}" for i in range(7)]}, "got 0%: X0, X1, X2, X3, X4 and 2 more are new, U0, .* and 5 more"),
        ({"every_s": 300.0}, "bars must come every 86400 s, got 300 s"),
        ({"horizon_bars": 1}, "horizon of the labels must be 5 bars, got 1"),
    ],
)
def test_what_differs_is_named(made, why):
    apart, unknown = differences(DAILY, {**DAILY, **made}, 0.8)
    assert not unknown
    assert (why and re.search(why, *apart)) or (not why and not apart)


@pytest.mark.parametrize("name", ["every_s", "universe"])
def test_what_a_bundle_does_not_say_is_unknown(name):
    silent = {key: value for key, value in DAILY.items() if key != name}
    assert ((), (name,)) == differences(DAILY, silent, 0.8) == differences(silent, DAILY, 0.8)


def test_a_version_for_other_bars_is_not_enlisted_and_a_person_is_told(one):
    ref = _challenge(one, every_s=3600.0)

    assert [] == one.context.ledger.registry.open_comparisons("m")
    (alert,) = one.context.ledger.alerts.newest()
    assert (f"not_comparable:m:v{ref.version}:v1", Priority.HIGH) == (alert.key, alert.priority)
    assert "m v2 must be made for the bars of champion v1: bars must come every 86400 s, got 3600 s" in alert.title
    assert "3600" in _tags(one, ref)["not_comparable"]
    with pytest.raises(NotComparable, match=r"got 3600 s\. Train on the champion's bars, or promote it by hand"):
        apply.nominate(one.context.registry, ref, one.context.act("a person", AT))


def test_a_person_may_promote_it_knowingly_and_who_waits_for_the_old_bars_is_no_challenger_any_more(one):
    other = _challenge(one, every_s=3600.0)
    nominated, waiting = _challenge(one), _challenge(one)
    act = one.context.act("a person", AT)
    apply.promote(one.context.registry, other, "hourly from now on", act, expected=1)
    assert other.version == one.context.ledger.registry.champion("m")

    assert None is apply.nominate_next(one.context.registry, "m", act)
    told = {alert.key for alert in one.context.ledger.alerts.newest()}
    assert f"not_comparable:m:v{waiting.version}:v{other.version}" in told
    assert [] == waiting_list.waiting(one.context.registry, "m")
    assert {"watch"} == {c.kind for c in one.context.ledger.registry.open_comparisons("m")}
    assert nominated != waiting


def test_a_bundle_that_does_not_say_is_compared_and_the_version_says_what_was_not_checked(one):
    one.made = {}
    ref = one.challenge(AT)

    assert [ref.version] == [c.challenger for c in one.context.ledger.registry.open_comparisons("m")]
    assert "every_s, universe" == _tags(one, ref)["not_checked"]


def test_the_first_version_of_a_model_has_nothing_to_be_held_against(one):
    assert 1 == one.context.ledger.registry.champion("m")
    assert "not_checked" not in _tags(one, ModelRef("m", 1))
