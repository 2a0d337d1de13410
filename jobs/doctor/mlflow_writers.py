"""Accounts of MLflow that may write what is the platform's: their rights are taken back, and a person is told."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog

from jobs.context import Context
from mlops.alerts import ALERTS
from mlops.errors import RegistryError
from mlops.io import record
from mlops.io.ledger import Ledger
from mlops.learn import STRATEGIES
from mlops.types import Alert
from registry_hooks import grants
from registry_hooks.grants import Grant

log = structlog.get_logger()
EVERY_S = 60.0  # between two looks of the service


def names(ledger: Ledger) -> set[str]:
    """Names of the experiments and registered models that the platform uses, also before it does."""
    return {*STRATEGIES, *ledger.registry.models(), record.BOOKS.name}


def settle(context: Context, at: datetime) -> list[Grant]:
    """Take back others' rights to what is ours and tell a person; what cannot be taken back, as long as it lasts."""
    ours = names(context.ledger)
    excess = grants.excess(context.client, ours, context.settings.tracking_writers)
    left = grants.revoke(context.client, excess)
    for account, rights in _by_account(set(excess) - set(left)).items():
        log.error("rights in MLflow taken back", account=account, rights=[str(right) for right in rights])
        context.ledger.alerts.add(_alert("mlflow_writer_revoked", account, rights, ours, at))
    wanted = [_alert("mlflow_writer", account, rights, ours, at) for account, rights in _by_account(left).items()]
    context.ledger.alerts.settle("mlflow_writer", wanted, at)
    return left


def check(context: Context, at: datetime) -> None:
    """Refuse to write where others may, after their rights were taken back.

    Raises
    ------
    RegistryError
        Some cannot be taken back, or MLflow does not tell.
    """
    if left := settle(context, at):
        rule = "only the platform may write its experiments and models in MLflow"
        got = "; ".join(f"account {account} with {_listed(rights)}" for account, rights in _by_account(left).items())
        raise RegistryError(f"{rule}, got {got}. Take that back as MLflow's admin, or name it in tracking_writers.")


class Look:
    """The service's look at them, every minute."""

    def __init__(self, context: Context, clock: Callable[[], datetime]) -> None:
        self._context, self._clock, self._looked = context, clock, -math.inf

    def __call__(self) -> None:
        if time.monotonic() - self._looked >= EVERY_S:
            settle(self._context, self._clock())
            self._looked = time.monotonic()


def _alert(kind: str, account: str, rights: Sequence[Grant], ours: set[str], at: datetime) -> Alert:
    words = {"account": account, "time": at.isoformat(), "rights": _listed(rights)}
    return ALERTS[kind].alert(at, words, details={"account": account}, about=_model(rights, ours))


def _by_account(rights: Iterable[Grant]) -> dict[str, list[Grant]]:
    by_account: dict[str, list[Grant]] = defaultdict(list)
    for right in sorted(rights, key=str):
        by_account[right.account].append(right)
    return by_account


def _listed(rights: Iterable[Grant]) -> str:
    return ", ".join(map(str, rights))


def _model(rights: Iterable[Grant], ours: set[str]) -> str:
    return next((right.resource for right in rights if right.resource in ours), "")
