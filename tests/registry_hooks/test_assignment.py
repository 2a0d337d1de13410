"""Who trades a key: assigned once, whatever the weights, the processes and the restarts that come after it."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest

from mlops.errors import DataError, RegistryError
from mlops.learn import STRATEGIES
from mlops.types import ModelRef, Role
from registry_hooks import aliases, apply, assignment, stages
from registry_hooks.aliases import Lineup
from registry_hooks.apply import Act
from registry_hooks.assignment import Assigner
from registry_hooks.bot import last_lineup
from registry_hooks.bot.client import Bot

NOW = datetime(2008, 1, 4, 22, tzinfo=UTC)
MODEL, NAMES = "volatility", STRATEGIES["volatility"].feature_names
ACT = Act("test", NOW, split=0.5)
KEYS = [f"key {i}" for i in range(300)]
VALUES = np.random.default_rng(3).uniform(0.5, 1.5, (len(KEYS), len(NAMES))).astype(np.float32)
DAYS = count()


@pytest.fixture
def registry(live):
    """v1 champion, v2 nominated and trading one half, v3 waiting."""
    apply.enlist(live, ModelRef(MODEL, 2), ACT)
    apply.enlist(live, ModelRef(MODEL, 3), ACT)
    give(live, {2: 0.5})
    return live


def give(registry, weights):
    return assignment.set_weights(registry, MODEL, weights, "slowly", ACT)


def trade(bot, keys):
    """The version that traded each key at a bar of its own."""
    bot.boundary(NOW)
    at = NOW + timedelta(days=next(DAYS))
    scored = bot.score(keys, VALUES[: len(keys)], event_time=at, known_at=at, matures_at=at + timedelta(days=5))
    assert np.array_equal(np.array([scored.by_version[v][i] for i, v in enumerate(scored.version)]), scored.probability)
    return dict(zip(keys, scored.version.tolist(), strict=True))


def open_bot(registry, **kwargs):
    return Bot(MODEL, registry, names=NAMES, **{"poll_s": 0.0, "background": False} | kwargs)


def trial(registry):
    return stages.comparison(registry.ledger, MODEL)


def test_other_weights_move_no_key_that_was_assigned_and_shadows_trade_what_they_are_given(registry):
    bot = open_bot(registry)
    before = trade(bot, KEYS[:100])
    give(registry, {2: 0.1, 3: 0.6})

    after = trade(bot, KEYS)

    assert {1, 2} == set(before.values())
    assert before == {key: after[key] for key in before}
    fresh = [after[key] for key in KEYS[100:]]
    assert {1: 0.3, 2: 0.1, 3: 0.6} == pytest.approx({v: fresh.count(v) / 200 for v in (1, 2, 3)}, abs=0.1)
    assert after == trade(open_bot(registry), KEYS)  # after a restart
    nobody, first, second = registry.ledger.assignments.by_epoch(trial(registry))
    assert {1: 1.0, 2: 0.0} == nobody.weights
    assert 100 == sum(first.counts.values())
    assert {v: fresh.count(v) for v in (1, 2, 3)} == second.counts


def test_a_weight_of_zero_takes_a_version_out_of_trading_and_its_keys_come_back_with_it(registry):
    bot = open_bot(registry)
    before = trade(bot, KEYS)
    give(registry, {2: 0.0})
    assert {1} == set(trade(bot, KEYS).values())
    give(registry, {2: 0.01})

    assert before == trade(bot, KEYS)


def test_a_bot_in_the_background_remembers_too_and_takes_other_weights_up_after_it_told_what_it_assigned(
    registry, tmp_path, eventually
):
    with open_bot(registry, background=True, poll_s=0.1) as bot:
        holder = sqlite3.connect(tmp_path / "state" / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        before = trade(bot, KEYS[:100])  # does not wait for the ledger
        assert bot._assigner.pending
        holder.execute("ROLLBACK")
        holder.close()
        give(registry, {2: 0.1, 3: 0.6})
        eventually(lambda: bot.boundary(NOW) or bot.lineup.epoch == 2)
        assert before == registry.ledger.assignments.of(MODEL, bot.lineup.salt)
        after = trade(bot, KEYS)
        assert bot.flush()
        assert before == {key: after[key] for key in before}
        stands = registry.ledger.assignments.of(MODEL, bot.lineup.salt)

    assert {1, 2, 3} == set(stands.values())
    assert set(KEYS) == set(stands)


def test_a_shadow_without_a_weight_is_not_waited_for_and_one_with_a_weight_is(registry):
    with open_bot(registry, background=True, poll_s=3600.0) as bot:
        assert [2] == bot._arms.challengers()
        give(registry, {3: 0.2})
        bot.refresh(NOW)
        assert [2, 3] == bot._arms.challengers()
        assert 0.3 == pytest.approx(bot.lineup.split)
        assert Role.SHADOW is bot.lineup.roles[3]


def test_of_two_bots_that_deal_by_other_weights_the_first_one_stands(registry):
    early = open_bot(registry, poll_s=3600.0)
    give(registry, {2: 0.01, 3: 0.9})
    late = open_bot(registry)

    first, second = trade(late, KEYS[:150]), trade(early, KEYS)

    assert 3 in first.values()
    # The early one does not score for v3 by the weights that it knows: the champion trades these keys meanwhile.
    assert {k: 1 if v == 3 else v for k, v in first.items()} == {k: second[k] for k in first}
    early.refresh(NOW)
    assert first == {k: v for k, v in trade(early, KEYS).items() if k in first}


def test_who_is_not_compared_any_more_is_assigned_nothing_more(registry):
    give(registry, {2: 0.2, 3: 0.2})
    apply.retire(registry, ModelRef(MODEL, 3), "hold", NOW)

    assert {2: 0.2} == aliases.lineup(registry, MODEL).weights
    last = registry.ledger.assignments.epochs(trial(registry))[-1]
    assert (3, 0.0, "registry") == (last.number, last.weights[3], last.actor)
    assert 0.8 == pytest.approx(last.weights[1])


def test_the_next_comparison_assigns_anew(registry):
    bot = open_bot(registry)
    trade(bot, KEYS)
    give(registry, {2: 0.2, 3: 0.3})
    apply.retire(registry, ModelRef(MODEL, 2), "hold", NOW)
    assert {1} == set(trade(bot, KEYS).values())
    apply.nominate_next(registry, MODEL, ACT)

    assert {1, 3} == set(trade(bot, KEYS).values())
    first, second = [epoch.weights for epoch in registry.ledger.assignments.epochs(trial(registry))]
    assert ({1: 1.0, 3: 0.0}, {1: 0.7, 3: 0.3}) == (first, pytest.approx(second))


@pytest.mark.parametrize(
    ("weights", "error", "rule"),
    [
        ({4: 0.1}, RegistryError, r"must be of versions that are compared \(v2, v3\), got v4. Enlist it first"),
        ({3: 0.5}, DataError, "must sum to less than 1"),
        ({1: 0.1}, DataError, "got one of the champion v1"),
    ],
)
def test_weights_that_cannot_be_are_refused(registry, weights, error, rule):
    with pytest.raises(error, match=rule):
        give(registry, weights)


def test_where_nobody_is_nominated_there_is_nothing_to_deal(live):
    with pytest.raises(RegistryError, match="must have a nominated challenger to assign keys to, got none"):
        give(live, {2: 0.1})


def test_whatever_happens_between_a_key_stays_with_its_first_version(ledger):
    """Two processes, restarts, other weights, in any order: after each has settled, no key has ever moved."""
    rng, terms = np.random.default_rng(7), {"champion": 1, "challenger": 2, "kind": "compare", "salt": "s"}
    one = ledger.registry.open_comparison(MODEL, **terms, split=0.5, at=NOW)
    assigners, epochs, stood = [Assigner(MODEL, ledger) for _ in range(2)], [0, 0], {}

    def lineup(epoch):
        found = ledger.assignments.epochs(one)[epoch]
        weights = {v: w for v, w in found.weights.items() if v != 1 and w > 0}
        return Lineup(1, dict.fromkeys((1, 2, 3, 4), Role.SHADOW), "s", weights, epoch)

    for _ in range(150):
        i, what = int(rng.integers(2)), rng.random()
        if what < 0.2:
            shares = rng.dirichlet(np.ones(4))
            ledger.assignments.add_weights(
                one, dict(zip((2, 3, 4), shares[1:], strict=True)), actor="a", reason="r", at=NOW
            )
        elif what < 0.4:
            assigners[i].settle()  # what a bot does before it takes other weights up
            epochs[i] = len(ledger.assignments.epochs(one)) - 1
            assigners[i].learn(lineup(epochs[i]))
        elif what < 0.5:
            assigners[i].settle()
            assigners[i] = Assigner(MODEL, ledger)
            assigners[i].learn(lineup(epochs[i]))
        keys = [str(key) for key in rng.integers(0, 400, 10)]
        assigned = assigners[i].assign_now(lineup(epochs[i]), keys, NOW, (1, 2, 3, 4))
        for key, version in zip(keys, assigned.tolist(), strict=True):
            if version != 1:  # the champion also trades for one that has no weight now
                assert version == stood.setdefault(key, version)

    assert stood.items() <= ledger.assignments.of(MODEL, "s").items()
    assert {2, 3, 4} == set(stood.values())


def test_a_lineup_that_an_older_release_remembered_is_read(tmp_path):
    folder = tmp_path / MODEL
    folder.mkdir()
    old = {"champion": 1, "roles": [[1, "champion"], [2, "challenger"], [3, "shadow"]], "salt": "s", "split": 0.75}
    (folder / "lineup.json").write_text(json.dumps(old))
    roles = {1: Role.CHAMPION, 2: Role.CHALLENGER, 3: Role.SHADOW}

    found = last_lineup.read(tmp_path, MODEL)

    assert Lineup(1, roles, "s", {2: 0.25}) == found
    more = Lineup(1, roles, "s", {2: 0.25, 3: 0.1}, 4)
    last_lineup.write(tmp_path, MODEL, more)
    assert more == last_lineup.read(tmp_path, MODEL)
