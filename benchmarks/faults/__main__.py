"""`make faults`: kill -9, races and flipped bits at random points; what was lost, doubled or silently wrong.

    python -m benchmarks.faults                             # the long form: 1,000 transitions, 100 kills elsewhere
    python -m benchmarks.faults --only jobs --kills 20      # one campaign, shorter

The seed is printed; the same seed kills at the same points as far as the machine's timing allows.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated

import typer

from benchmarks.faults import jobs, ledger, transitions

CAMPAIGNS = {"transitions": (transitions.run, 1000), "jobs": (jobs.run, 100), "ledger": (ledger.run, 100)}


def main(
    only: Annotated[str, typer.Option(help="transitions, jobs or ledger; default: all.")] = "",
    kills: Annotated[int, typer.Option(help="Kills a campaign; 0: its own number.")] = 0,
    seed: Annotated[int, typer.Option(help="0: a fresh one.")] = 0,
) -> None:
    seed = seed or secrets.randbelow(2**31)
    found: dict[str, int] = {}
    for name, (run, usual) in CAMPAIGNS.items():
        if only in ("", name):
            began, n = time.monotonic(), kills or usual
            print(f"{name}: {n} kills, seed {seed}", flush=True)
            found |= run(n, seed, lambda text: print(f"  {text}", flush=True))
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps({"seed": seed, **found}))


if __name__ == "__main__":
    typer.run(main)
