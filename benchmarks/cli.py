"""How long `trader-mlops` takes to start: processes of its own, in an empty set-up.

`start_ms`: median of the help's wall clock; the same of what asks the ledger, and CPU seconds of each beside it, which
a busy machine does not change.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import orjson

RUNS = 5
PROGRAM = "import sys; sys.argv[0] = 'trader-mlops'; from jobs.cli.main import main; main()"
COMPLETE = {"_TRADER_MLOPS_COMPLETE": "complete_bash", "COMP_WORDS": "trader-mlops al", "COMP_CWORD": "1"}
COMMANDS = {"start": ["--help"], "complete": [], "alerts": ["alert", "list"], "status": ["status"]}


def measure(words: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Medians of wall clock and CPU of a command, in milliseconds; the first run, which compiles, does not count."""
    clock, cpu = list[float](), list[float]()
    for _ in range(RUNS + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", PROGRAM, *words], env=environment, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return statistics.median(clock[1:]), statistics.median(cpu[1:])


def main() -> None:
    """Print a line a command, and JSON last."""
    numbers = {}
    with tempfile.TemporaryDirectory() as state:
        common = {**os.environ, "MLOPS_STATE": state, "OMP_NUM_THREADS": "1"}
        for name, words in COMMANDS.items():
            clock, cpu = measure(words, common | (COMPLETE if name == "complete" else {}))
            numbers |= {f"{name}_ms": round(clock), f"{name}_cpu_ms": round(cpu)}
            print(f"{name:<10}{clock:8.0f} ms{cpu:8.0f} ms of CPU")
    print(orjson.dumps({"cli": numbers}).decode())


if __name__ == "__main__":
    main()
