"""Simulated years in chunks, each stored as it gets done: a run can be stopped, continued and merged."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

from benchmarks.simulated.cells import CELLS, GRID, Cell
from benchmarks.simulated.platform import platforms, quiet
from benchmarks.simulated.years import KINDS, Year
from mlops.settings import ExperimentSettings, Settings

ROOT = Path(__file__).parents[2]
DECIDES = ("jobs", "mlops", "registry_hooks", "models", "benchmarks/simulated")
CHUNK = {"compared": 25, "watched": 20, "monitored": 2, "weekly": 1}  # years on one ledger
BY_NAME = {cell.name: cell for cell in (*CELLS, *GRID)}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Years `first` to `first + count` of a cell, the CPU seconds they took, and the code that they ran on."""

    cell: str
    law: str
    code: str
    first: int
    years: tuple[Year, ...]
    cpu_s: float


@cache
def code() -> str:
    """Digest of all that decides: years of other code are not merged."""
    total = hashlib.sha256()
    for path in sorted(path for place in DECIDES for path in (ROOT / place).rglob("*.py")):
        if path.name not in ("cells.py", "chunks.py"):
            total.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


def simulate(name: str, first: int, count: int) -> Chunk:
    """So many years of a cell, each from a seed of its own."""
    quiet()
    cell, begun = BY_NAME[name], time.process_time()
    with platforms(_settings(cell)) as context:
        seeds = range(crc32(name.encode()) + first, crc32(name.encode()) + first + count)
        years = tuple(KINDS[cell.kind](context, cell.law, seed) for seed in seeds)
    return Chunk(name, _law(cell), code(), first, years, round(time.process_time() - begun, 3))


def _settings(cell: Cell) -> Settings:
    few = {} if cell.min_samples is None else {"min_samples": cell.min_samples}
    return Settings(experiment=ExperimentSettings(**few))


def _law(cell: Cell) -> str:
    return repr((cell.law, cell.min_samples))


class Store:
    """A file of chunks, a line each."""

    def __init__(self, path: Path, *, mixed: bool = False) -> None:
        """`mixed`: take also the years of other code; where there are several of a year, of this code."""
        self._path, self._chunks = path, dict[tuple[str, int], Chunk]()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            chunk = Chunk(**row | {"years": tuple(Year(**year) for year in row["years"])})
            cell = BY_NAME.get(chunk.cell)
            if cell is not None and chunk.law == _law(cell) and (mixed or chunk.code == code()):
                old = self._chunks.get((chunk.cell, chunk.first))
                if old is None or old.code != code():
                    self._chunks[chunk.cell, chunk.first] = chunk

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk."""
        self._chunks[chunk.cell, chunk.first] = chunk
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(chunk)) + "\n")

    def of(self, cell: Cell) -> list[Chunk]:
        """Those of a cell, in order."""
        return sorted((one for one in self._chunks.values() if one.cell == cell.name), key=lambda one: one.first)

    def left(self, cells: Iterable[Cell], scale: float) -> list[tuple[str, int, int]]:
        """What is to be simulated still: cell, first year, number of years; all cells grow together."""
        todo = []
        for cell in cells:
            years, size = max(1, round(scale * cell.years)), CHUNK[cell.kind]
            for first in range(0, years, size):
                known, count = self._chunks.get((cell.name, first)), min(size, years - first)
                if known is None or len(known.years) < count:
                    todo.append((first / years, cell.name, first, count))
        return [(name, first, count) for _, name, first, count in sorted(todo)]


def run(store: Store, todo: Sequence[tuple[str, int, int]], processes: int, until: float) -> None:
    """Simulate what is left, in order, while `time.monotonic()` is under `until`."""
    waiting, running = list(reversed(todo)), set[Future[Chunk]]()
    code()  # of the code that is loaded now, whatever becomes of the files meanwhile
    with ProcessPoolExecutor(processes) as pool:
        while running or (waiting and time.monotonic() < until):
            while waiting and len(running) < processes and time.monotonic() < until:
                running.add(pool.submit(simulate, *waiting.pop()))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for task in done:
                store.add(task.result())
