"""Whatever order, however late, however often rows arrive: the ledger says the same."""

import itertools

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.io.ledger import Ledger

PREDICTED = st.tuples(st.just("p"), st.integers(1, 2), st.sampled_from("AB"), st.integers(0, 3))
CAME_TRUE = st.tuples(st.just("o"), st.sampled_from("AB"), st.integers(0, 3), st.integers(0, 4))
BATCHES = st.lists(st.lists(st.one_of(PREDICTED, CAME_TRUE), min_size=1, max_size=5), max_size=6)
MODELS = (f"m{i}" for i in itertools.count())
quiet = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _vector(version, unit, day):
    return np.array([version, ord(unit), day], dtype=np.float32)


def _say(ledger, model, batch, make):
    """Add a batch; the numbers of new predictions and outcomes."""
    said, ended = [e[1:] for e in batch if e[0] == "p"], [e[1:] for e in batch if e[0] == "o"]
    new = [0, 0]
    if said:
        frame = make.predictions(said, model=model)
        new[0] = ledger.telemetry.add_predictions(frame, np.array([_vector(*key) for key in said]), ["v", "u", "d"])
    if ended:
        delays = pd.to_timedelta([delay for *_, delay in ended], unit="D")
        new[1] = ledger.telemetry.add_outcomes(make.outcomes([key for *key, _ in ended], model=model, delay=delays))
    return new


@quiet
@given(batches=BATCHES, as_of=st.integers(-1, 8))
def test_what_is_read_is_what_a_dictionary_would_hold(ledger, make, batches, as_of):
    model, said, ended, new = next(MODELS), set(), {}, np.zeros(2, dtype=int)
    for batch in batches:
        new += _say(ledger, model, batch, make)
        for event in batch:
            if event[0] == "p":
                said.add(event[1:])
            else:
                ended.setdefault(event[1:3], event[3])  # the first to say it stays

    assert [len(said), len(ended)] == new.tolist()
    known = {key for key in said if key[2] <= as_of}
    due = {k for k in known if k[1:] in ended and k[2] + ended[k[1:]] <= as_of}
    span = {"start": make.at(0), "end": make.at(9), "as_of": make.at(as_of)}
    matured = ledger.telemetry.matured(model, **span)
    by_time = sorted(due, key=lambda k: (k[2], k[0], k[1]))
    assert by_time == [
        (v, u, (t - make.at(0)).days) for v, u, t in zip(matured.version, matured.unit, matured.event_time, strict=True)
    ]
    assert len(known - due) == ledger.telemetry.pending(model, as_of=make.at(as_of))
    frame, values, _ = ledger.telemetry.predictions(model, **span)
    keys = zip(frame.version, frame.unit, (frame.event_time - make.at(0)).dt.days, strict=True)
    assert [_vector(*key).tolist() for key in keys] == values.tolist()
    assert len(known) == len(frame)


@quiet
@given(batches=BATCHES, random=st.randoms(use_true_random=False))
def test_order_and_repetition_of_batches_do_not_matter(ledger, make, batches, random):
    first, second = next(MODELS), next(MODELS)
    outcomes = {event[1:3] for batch in batches for event in batch if event[0] == "o"}
    batches = [[e for e in b if e[0] == "p"] for b in batches] + [[("o", *key, 1)] for key in sorted(outcomes)]
    for batch in batches:
        _say(ledger, first, batch, make)
    again = batches * 2
    random.shuffle(again)
    for batch in again:
        _say(ledger, second, batch, make)

    span = {"start": make.at(0), "end": make.at(9), "as_of": make.at(9)}
    pd.testing.assert_frame_equal(ledger.telemetry.matured(first, **span), ledger.telemetry.matured(second, **span))
    (one, x, _), (two, y, _) = (ledger.telemetry.predictions(model, **span) for model in (first, second))
    pd.testing.assert_frame_equal(one.drop(columns="model"), two.drop(columns="model"))
    np.testing.assert_array_equal(x, y)


def test_writers_at_once_store_every_row_once(url, make):
    from concurrent.futures import ThreadPoolExecutor

    keys = [(1, f"U{i}", d) for d in range(20) for i in range(10)]

    def write(seed):
        order = np.random.default_rng(seed).permutation(len(keys))
        with Ledger(url) as ledger:
            mine = [keys[i] for i in order]
            return sum(
                ledger.telemetry.add_predictions(
                    make.predictions(part), np.ones((len(part), 2), np.float32), ["a", "b"]
                )
                for part in (mine[i : i + 25] for i in range(0, len(mine), 25))
            )

    with ThreadPoolExecutor(4) as pool:
        assert len(keys) == sum(pool.map(write, range(4)))
