import pytest

from mlops.monitor import layers
from mlops.monitor.verdict import Layer, layer_of
from mlops.types import Finding, Level


def _finding(name, level=Level.OK, subject="", **params):
    return Finding(name, 1.0, 0.5, level, 50, params, subject, f"{name} as noted")


def _verdict(*findings):
    return {f.name.removeprefix("layer_"): f for f in layers(findings)}


def test_every_finding_speaks_for_one_layer_or_only_describes():
    expected = {"ks": Layer.INPUTS, "confidence_mean": Layer.LABEL_FREE, "accuracy_change": Layer.MATURED, "n": None}
    assert expected == {name: layer_of(_finding(name)) for name in expected}
    assert Layer.INPUTS is layer_of(_finding("a_new_detector", subject="f", p_adjusted=0.1))


def test_inputs_that_moved_while_answers_stay_right_are_no_alarm():
    found = _verdict(_finding("ks", Level.ALERT, "trend", p_adjusted=0.0), _finding("accuracy_change"))
    assert (Level.ALERT, Level.OK, Level.OK) == (found["inputs"].level, found["matured"].level, found["verdict"].level)
    assert "the inputs have moved; its answers are as good as before" == found["verdict"].note
    assert "ks of trend" in found["inputs"].note


def test_without_labels_nothing_is_proven():
    found = _verdict(_finding("ks", Level.ALERT, "trend"), _finding("accuracy_change", Level.UNKNOWN))
    assert (Level.UNKNOWN, Level.WARN) == (found["matured"].level, found["verdict"].level)
    assert "no label has said yet" in found["verdict"].note


@pytest.mark.parametrize("level", [Level.WARN, Level.ALERT])
def test_labels_have_the_last_word(level):
    found = _verdict(_finding("ks"), _finding("confidence_mean"), _finding("decay_log_loss", level))
    assert level is found["verdict"].level
    assert "the model is more often wrong" == found["verdict"].note


@pytest.mark.parametrize("name", ["accuracy", "auc", "brier", "log_loss", "mean_confidence", "brier_reliability"])
def test_what_was_not_tested_speaks_no_words(name):
    found = _verdict(_finding("accuracy_change"), _finding(name, Level.WARN))
    assert (Level.OK, "nothing has changed") == (found["verdict"].level, found["verdict"].note)


def test_nothing_and_only_unknown_are_unknown():
    for given in ((), (_finding("ks", Level.UNKNOWN, "f"), _finding("accuracy_change", Level.UNKNOWN))):
        found = _verdict(*given)
        assert {Level.UNKNOWN} == {f.level for f in found.values()}
        assert "too little is known to say" == found["verdict"].note


def test_many_loud_findings_are_counted_and_the_worst_are_named():
    loud = [_finding("psi", Level.WARN, f"f{i}") for i in range(4)] + [_finding("ks", Level.ALERT, "g")]
    found = _verdict(*loud)["inputs"]
    assert (5.0, 5) == (found.value, found.n)
    assert found.note.startswith("5 of 5: ks of g, ")
    assert found.note.endswith("and 2 more")


def test_the_layers_of_layers_change_nothing():
    findings = (_finding("ks", Level.ALERT, "f"), _finding("skill", Level.WARN))
    assert layers(findings) == layers((*findings, *layers(findings)))


def test_before_the_labels_what_is_quiet_is_only_quiet_so_far():
    found = _verdict(_finding("ks"), _finding("accuracy_change", Level.UNKNOWN))
    assert "nothing has changed before the labels; none has spoken yet" == found["verdict"].note
    assert "none of 1 is known yet" == found["matured"].note


def test_a_silent_bot_is_not_in_order_whatever_it_did_before():
    found = _verdict(_finding("ks"), _finding("accuracy_change"), _finding("silence", Level.ALERT))
    assert Level.UNKNOWN is found["verdict"].level
    assert "the bot is silent, silence as noted; before that: nothing has changed" == found["verdict"].note
