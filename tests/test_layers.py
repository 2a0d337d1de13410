"""Who may import whom. The layers of the architecture, as a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE_ROOMS = {f"mlops.{room}" for room in ("monitor", "experiment", "books", "learn", "risk")}
MAY_IMPORT = {  # room -> rooms that it may import (itself always)
    "mlops.types": set(),
    "mlops.errors": set(),
    "mlops.numerals": {"mlops.errors"},
    "mlops.compute": {"mlops.errors"},
    "mlops.stats": {"mlops.errors"},
    "mlops.assignment": {"mlops.errors"},
    **{room: {"mlops.assignment", "mlops.stats", "mlops.types", "mlops.errors"} for room in PURE_ROOMS},
    "mlops.learn": {"mlops.compute", "mlops.stats", "mlops.types", "mlops.errors"},
    "mlops.risk": {"mlops.compute", "mlops.assignment", "mlops.stats", "mlops.types", "mlops.errors"},
    "mlops.experiment": {"mlops.assignment", "mlops.books", "mlops.stats", "mlops.types", "mlops.errors"},
    "mlops.policy": {"mlops.types", "mlops.errors"},
    "mlops.kinds": {"mlops.policy", "mlops.types"},
    "mlops.settings": {"mlops.errors", "mlops.numerals"},
    "mlops.alerts": {"mlops.types", "mlops.errors"},
    "mlops.io": {"mlops.types", "mlops.errors", "mlops.alerts"},
    "mlops.plots": {"mlops.types", "mlops.errors"},
    "mlops.migrations": {"mlops.io"},
    "mlops.web": {"mlops.types", "mlops.errors", "mlops.numerals", "mlops.settings", "mlops.io", "registry_hooks"},
    "mlops": {"mlops.types"},
    "models": {"mlops.types", "mlops.learn"},
    # Bot and comparison split units by one pure function, so that both hash alike; a bot loads no statistics for it.
    "registry_hooks": {
        "mlops.types",
        "mlops.errors",
        "mlops.numerals",
        "mlops.settings",
        "mlops.alerts",
        "mlops.io",
        "mlops.assignment",
        "mlops.kinds",
    },
    "jobs": {"mlops", "models", "registry_hooks"},
}
PURE = (
    "mlops.types",
    "mlops.errors",
    "mlops.numerals",
    "mlops.assignment",
    "mlops.stats",
    "mlops.policy",
    "mlops.alerts",
    *sorted(PURE_ROOMS),
)
DOORS = {
    "mlflow",
    "requests",
    "httpx",
    "sqlite3",
    "sqlalchemy",
    "subprocess",
    "socket",
    "structlog",
    "logging",
    "os",
    "pathlib",
    "time",
}
FILES = [p for top in ("mlops", "models", "registry_hooks", "jobs") for p in sorted((ROOT / top).rglob("*.py"))]


def _module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _room(module):
    return max((r for r in MAY_IMPORT if module == r or module.startswith(r + ".")), key=len, default="")


def _imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_a_room_imports_only_the_rooms_below_it(path):
    me = _room(_module(path))
    for name in _imports(path):
        if _room(name) in ("", me):
            continue
        allowed = any(name == room or name.startswith(room + ".") for room in MAY_IMPORT[me])
        assert allowed, f"{_module(path)} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_nobody_but_jobs_imports_jobs(path):
    if _room(_module(path)) != "jobs":
        assert not {name for name in _imports(path) if name == "jobs" or name.startswith("jobs.")}


@pytest.mark.parametrize("path", [p for p in FILES if _module(p).startswith(PURE)], ids=_module)
def test_a_pure_room_has_no_doors(path):
    assert not {name.split(".")[0] for name in _imports(path)} & DOORS


def test_no_module_imports_in_a_circle():
    graph = {_module(p): _imports(p) for p in FILES}
    modules = {
        m: {t for t in graph if t != m and any(n == t or n.startswith(t + ".") for n in names)}
        for m, names in graph.items()
    }
    packages = {m for m in modules if (ROOT / m.replace(".", "/")).is_dir()}
    remaining = {m: {t for t in targets if t not in packages} for m, targets in modules.items() if m not in packages}
    while leaves := {m for m, targets in remaining.items() if not targets & remaining.keys()}:
        remaining = {m: targets for m, targets in remaining.items() if m not in leaves}
    assert not remaining
