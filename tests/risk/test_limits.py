import math

import pytest

from mlops.errors import DataError
from mlops.risk.limits import Line, Measured, State, judge
from mlops.types import Level

VAR = Line("var", warning=0.02, soft=0.03, hard=0.05, owner="ada")


def only(line, *measured):
    (found,) = judge([line], measured)
    return found


@pytest.mark.parametrize(
    ("value", "state", "level"),
    [
        (-0.1, State.OK, Level.OK),
        (0.0199, State.OK, Level.OK),
        (0.02, State.WARNING, Level.WARN),
        (0.0299, State.WARNING, Level.WARN),
        (0.03, State.SOFT, Level.ALERT),
        (0.0499, State.SOFT, Level.ALERT),
        (0.05, State.HARD, Level.ALERT),
        (9.0, State.HARD, Level.ALERT),
    ],
)
def test_a_line_is_crossed_on_it_and_over_it(value, state, level):
    found = only(VAR, Measured("var", value))

    assert (state, level) == (found.params["state"], found.level)
    assert value / 0.05 == pytest.approx(found.params["utilisation"])
    assert 0.05 - value == pytest.approx(found.params["headroom"])
    assert ("var", "all", 0.05, "ada") == (found.name, found.subject, found.limit, found.params["owner"])


@pytest.mark.parametrize(
    "measured",
    [
        (),
        (Measured("es", 0.01),),
        (Measured("var", 0.01, scope="trend"),),
        (Measured("var", math.nan),),
        (Measured("var", math.inf),),
        (Measured("var", -math.inf),),
        (Measured("var", 0.01, why="two prices are missing"),),
        (Measured("var", 0.09, why="two prices are missing"),),
        (Measured("var", 0.01, why="two prices are missing", at_least=True),),
    ],
)
def test_what_is_not_known_is_never_ok(measured):
    found = only(VAR, *measured)

    assert (Level.UNKNOWN, State.UNKNOWN) == (found.level, found.params["state"])
    assert math.isnan(found.value)
    assert math.isnan(found.params["utilisation"])
    assert found.params["why"]
    assert found.note.startswith("var is not known: ")


def test_what_is_known_from_below_counts_where_it_crosses_a_line():
    found = only(VAR, Measured("var", 0.06, why="two prices are missing", at_least=True))

    assert State.HARD is found.params["state"]
    assert "var at least 6.0 %, at or over the hard line of 5.0 %" == found.note


def test_each_scope_has_its_own_line():
    lines = [VAR, Line("var", 0.01, 0.015, 0.02, scope="trend")]

    found = judge(lines, [Measured("var", 0.018), Measured("var", 0.019, scope="trend"), Measured("net", 9.0)])

    assert [("all", State.OK), ("trend", State.SOFT)] == [(f.subject, f.params["state"]) for f in found]
    assert "var of trend 1.9 %, at or over the soft line of 1.5 % (hard: 2.0 %)" == found[1].note


def test_numbers_that_are_no_small_fractions_are_told_plainly():
    found = only(Line("gross", 1.5, 2.0, 3.0), Measured("gross", 2.5))

    assert "gross 2.50, at or over the soft line of 2.00 (hard: 3.00)" == found.note


@pytest.mark.parametrize("lines", [(0.03, 0.02, 0.05), (0.0, 0.02, 0.05), (0.1, 0.2, math.inf), (0.1, math.nan, 0.2)])
def test_lines_out_of_order_are_refused(lines):
    with pytest.raises(DataError, match="lines of var must rise from warning to hard, got "):
        Line("var", *lines)


def test_a_measure_that_is_given_twice_is_refused():
    with pytest.raises(DataError, match="measures must be given once a scope, got var of all twice"):
        judge([VAR], [Measured("var", 0.01), Measured("var", 0.02)])


def test_a_fall_of_exactly_the_hard_line_is_on_it():
    assert State.HARD is only(Line("drawdown", 0.08, 0.12, 0.2), Measured("drawdown", 1 - 0.8)).params["state"]


def test_what_has_no_equity_under_it_is_beyond_every_line_unless_more_is_missing():
    beyond = Measured("gross", math.nan, beyond="equity is -5")

    assert State.HARD is only(Line("gross", 1.5, 2.0, 3.0), beyond).params["state"]
    assert "gross is beyond its hard line of 3.00: equity is -5" == only(Line("gross", 1.5, 2.0, 3.0), beyond).note
    assert (
        State.UNKNOWN is only(VAR, Measured("var", math.nan, why="no balance", beyond="equity is -5")).params["state"]
    )
