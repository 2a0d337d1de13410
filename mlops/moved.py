"""Modules that documents of the release of November 2026 showed, under the names that they had then."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

MOVED = {  # former name -> name of now; only what a document showed, until the release after the next
    "jobs.command": "jobs.cli.main",
    "mlops.io.feed": "mlops.io.bar_feed",
    "mlops.io.writer": "mlops.io.ledger.group_commit",
    "mlops.risk.comovement": "mlops.risk.correlation.comovement",
    "mlops.risk.conditional": "mlops.risk.stress.conditional",
    "mlops.risk.default": "mlops.risk.var.selection",
    "mlops.risk.fitted": "mlops.risk.var.fitted",
    "mlops.risk.greeks": "mlops.risk.options.greeks",
    "mlops.risk.joint": "mlops.risk.stress.joint",
    "mlops.risk.montecarlo": "mlops.risk.stress.montecarlo",
    "mlops.risk.reverse": "mlops.risk.stress.reverse",
    "mlops.risk.sensitivity": "mlops.risk.stress.sensitivity",
    "mlops.risk.terminal": "mlops.risk.stress.importance_sampling",
    "mlops.risk.threshold": "mlops.risk.correlation.threshold",
    "mlops.risk.views": "mlops.risk.stress.views",
    "registry_hooks.courier": "registry_hooks.bot.courier",
}


class Moved(MetaPathFinder, Loader):
    """Finds a module by its former name, and gives the one of now."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in MOVED:
            return None
        warnings.warn(f"{name} is {MOVED[name]} now. Import it from there.", DeprecationWarning, stacklevel=2)
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it ran under its name of now, whose spec it keeps."""
        spec = module.__spec__
        if spec is not None and spec.loader is self:
            module.__spec__ = spec.loader_state

    def get_code(self, name: str) -> CodeType | None:
        """Code for `python -m`."""
        spec = importlib.util.find_spec(MOVED[name])
        source = None if spec is None else getattr(spec.loader, "get_code", None)
        return None if source is None else source(MOVED[name])


def install() -> None:
    """Have former names found, after all others."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
