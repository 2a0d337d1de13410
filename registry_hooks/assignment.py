"""Which arm trades which key. A key is assigned once in an experiment: by a hash and the weights of that moment.

What was assigned is remembered here and in the ledger, where the first one wins: other weights, another process or a
restart move no key. Weights belong to the open comparison of the nominated challenger; shadows that wait may have some.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mlops.io.ledger import Epoch, Ledger
from mlops.io.ledger.assignments import Assignment
from mlops.io.storage.validation import storable
from registry_hooks import stages
from registry_hooks.aliases import Lineup, Registry, turn
from registry_hooks.apply import Act


class Assigner:
    """Assigns the keys of one model. Usable from several threads; `assign` never waits for the ledger, others do."""

    def __init__(self, model: str, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger
        self._known: dict[str, dict[str, int]] = {}  # salt -> key -> version
        self._new: dict[str, list[Assignment]] = defaultdict(list)  # by salt: not in the ledger yet
        self._turn = threading.Lock()

    @property
    def pending(self) -> bool:
        """Whether something was assigned that the ledger does not know yet."""
        return bool(self._new)

    def assign(
        self, lineup: Lineup, keys: Sequence[str], at: datetime, able: Container[int] | None = None
    ) -> NDArray[np.int64]:
        """The version that trades each key; shape (len(keys),). While no challenger has a weight, nothing is assigned.

        Parameters
        ----------
        at : datetime
            When a key that is new counts as assigned.
        able : container of int, optional
            The versions that can score now; the champion trades what belongs to others. Without it all of them.
        """
        if not lineup.weights:
            return np.full(len(keys), lineup.champion, dtype=np.int64)
        trading = {v for v in lineup.weights if able is None or v in able}
        known = self._known.setdefault(lineup.salt, {})
        fresh = [key for key in dict.fromkeys(keys) if key not in known]
        if fresh:
            self._remember(lineup, known, fresh, at)
        assigned = (known[key] for key in keys)
        return np.array([v if v in trading else lineup.champion for v in assigned], dtype=np.int64)

    def assign_now(
        self, lineup: Lineup, keys: Sequence[str], at: datetime, able: Container[int] | None = None
    ) -> NDArray[np.int64]:
        """Assign after the ledger has had its word; raises what it raises."""
        assigned = self.assign(lineup, keys, at, able)
        if not self.pending:
            return assigned
        self.settle()
        return self.assign(lineup, keys, at, able)

    def settle(self) -> None:
        """Tell the ledger what was assigned; where another process was first, its word counts from now on."""
        for salt in list(self._new):
            with self._turn:
                new = self._new.pop(salt, [])
            try:
                stands = self._ledger.assignments.add(self._model, salt, new)
            except BaseException:
                with self._turn:
                    self._new[salt] = new + self._new[salt]
                raise
            if salt in self._known:
                self._known[salt].update(stands)

    def learn(self, lineup: Lineup) -> None:
        """Take up what was assigned in an experiment, by whomever; those before it are forgotten."""
        if lineup.salt:
            stands = self._ledger.assignments.of(self._model, lineup.salt)
            self._known.setdefault(lineup.salt, {}).update(stands)
        while len(self._known) > 2:  # the one before may still be assigned by until the next boundary
            del self._known[next(iter(self._known))]

    def _remember(self, lineup: Lineup, known: dict[str, int], keys: Sequence[str], at: datetime) -> None:
        with self._turn:
            for key, version in zip(keys, lineup.assign(keys).tolist(), strict=True):
                if key in known:  # another thread was quicker
                    continue
                known[key] = version
                if storable(str(key)):  # else no ledger can remember it; the hash still knows
                    self._new[lineup.salt].append(Assignment(str(key), version, lineup.epoch, at))


def set_weights(registry: Registry, model: str, given: Mapping[int, float], reason: str, act: Act) -> Epoch:
    """Give versions that are compared another share of the keys that are assigned from now on.

    Bots take it up when they next read the registry. A weight of 0 takes a version out of trading, with the keys that
    it has; they come back with its weight. A version with a weight is in A/B, whatever the gate of the shadow stage
    says.

    Raises
    ------
    RegistryError
        Nothing is compared, or not the version named.
    DataError
        The weights are no shares, or leave nothing to the champion.
    """
    with turn(registry, model):
        return stages.share(registry, model, given, actor=act.actor, reason=reason, at=act.at)
