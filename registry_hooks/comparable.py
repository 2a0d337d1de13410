"""Whether a version may be compared with the champion: both must be made for the same bars.

Frequency, units and horizon of a bundle's labels are what its numbers are about. A version that was trained on others
answers another question, whoever is right more often; it stays in the registry, and a person may promote it knowingly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from mlops.alerts import ALERTS
from mlops.errors import RegistryError
from mlops.types import ModelRef
from registry_hooks import bundle, waiting_list
from registry_hooks.aliases import Registry, fetched, known

log = structlog.get_logger()
REFUSED_TAG, UNCHECKED_TAG = "not_comparable", "not_checked"
SAME_PACE = 0.1  # of the seconds between two bars: the median of one calendar is not exactly that of another


class NotComparable(RegistryError):
    """The version was made for other bars than the champion. Nothing was changed."""


def differences(
    champion: Mapping[str, Any], challenger: Mapping[str, Any], common_units: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In what the bars of two bundles differ, and what is not known of either.

    Parameters
    ----------
    champion, challenger : mapping
        `meta.json` of the champion and of the challenger, with `horizon_bars`; `every_s` (seconds between two bars of a
        unit) and `universe` (its units) where the release that trained them said so.
    common_units : float
        Least share of all units of both that both have.

    Examples
    --------
    >>> daily = {"horizon_bars": 5, "every_s": 86400.0, "universe": ["A", "B", "C", "D"]}
    >>> differences(daily, {**daily, "universe": ["A", "B", "C", "D", "E"]}, 0.8)
    ((), ())
    >>> differences(daily, {"horizon_bars": 1, "every_s": 3600.0}, 0.8)
    (('horizon of the labels must be 5 bars, got 1', 'bars must come every 86400 s, got 3600 s'), ('universe',))
    """
    apart = []
    if champion["horizon_bars"] != challenger["horizon_bars"]:
        apart.append(f"horizon of the labels must be {champion['horizon_bars']} bars, got {challenger['horizon_bars']}")
    unknown = tuple(name for name in ("every_s", "universe") if not champion.get(name) or not challenger.get(name))
    if "every_s" not in unknown and abs(challenger["every_s"] / champion["every_s"] - 1) > SAME_PACE:
        apart.append(f"bars must come every {champion['every_s']:.0f} s, got {challenger['every_s']:.0f} s")
    if "universe" not in unknown:
        units, others = set(champion["universe"]), set(challenger["universe"])
        share = len(units & others) / len(units | others)
        if share < common_units:
            rule = f"of the units of both, {common_units:.0%} must be common (experiment.common_units)"
            apart.append(f"{rule}, got {share:.0%}: {_few(others - units)} are new, {_few(units - others)} are missing")
    return tuple(apart), unknown


def check(registry: Registry, ref: ModelRef) -> None:
    """Refuse a version that was made for other bars than the champion; what is not known of either is a tag on it.

    Raises
    ------
    NotComparable
        With each difference.
    BundleError
        A bundle of the two cannot be read.
    """
    champion = registry.ledger.registry.champion(ref.name)
    if champion is None or champion == ref.version:
        return
    metas = [_meta(registry, version) for version in (ModelRef(ref.name, champion), ref)]
    apart, unknown = differences(metas[0], metas[1], registry.common_units)
    if apart:
        remedy = "Train on the champion's bars, or promote it by hand if that is meant"
        raise NotComparable(f"{ref} must be made for the bars of champion v{champion}: {'; '.join(apart)}. {remedy}.")
    if unknown:
        registry.client.set_model_version_tag(ref.name, str(ref.version), UNCHECKED_TAG, f"{', '.join(unknown)}")
        log.warning("bars of challenger and champion not compared", model=str(ref), unknown=unknown)


def unlike(registry: Registry, ref: ModelRef) -> tuple[str, ...]:
    """What `check` would refuse a version for; empty: nothing."""
    try:
        check(registry, ref)
    except NotComparable as error:
        return (str(error),)
    return ()


def refused(registry: Registry, ref: ModelRef, at: datetime) -> bool:
    """Check within the turn, for jobs: a person is told; the version leaves the waiting list and stays registered."""
    for why in unlike(registry, ref):
        champion = registry.ledger.registry.champion(ref.name)
        words = {"model": ref.name, "version": ref.version, "champion": champion, "why": why}
        registry.ledger.alerts.add(ALERTS["not_comparable"].alert(at, words))
        registry.client.set_model_version_tag(ref.name, str(ref.version), REFUSED_TAG, why)
        waiting_list.leave(registry.client, ref.name, ref.version)
        log.warning("not comparable", model=str(ref), why=why)
        return True
    return False


def _meta(registry: Registry, ref: ModelRef) -> dict[str, Any]:
    """What a bundle says of itself, its digest checked; the horizon is that of the ledger."""
    path, digest = fetched(registry, ref)
    bundle.verify(path, digest)
    return {**bundle.meta(path), "horizon_bars": known(registry, ref).horizon_bars}


def _few(units: set[str]) -> str:
    first = sorted(units)[:5]
    more = f" and {len(units) - len(first)} more" if len(units) > len(first) else ""
    return (", ".join(first) or "none") + more
