"""`trader-mlops prune` and `verify`: rows past their time, and bits that rotted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from jobs.cli.tables import AsJson, show
from jobs.cli.terminal import console, working
from jobs.context import store


def prune() -> None:
    """Archive, then delete predictions, outcomes and quotes older than `retention_days`; logs are kept for ever."""
    with working("archiving"), store() as opened:
        now = datetime.now(UTC)
        before = now - timedelta(days=opened.settings.retention_days)
        gone = opened.ledger.archive.prune(opened.settings.state / "archive", before=before, at=now)
    deleted = ", ".join(f"{n} {table}" for table, n in gone.items())
    console.print(f"Before {before:%Y-%m-%d}: {deleted} deleted.", soft_wrap=True)


def verify(as_json: AsJson = False) -> None:
    """Read all of the ledger and its archive against their checksums. About a second for 300,000 rows."""
    with working("reading everything"), store() as opened:
        problems = [*opened.ledger.audit.verify(), *opened.ledger.archive.verify(opened.settings.state / "archive")]
    rows = [{"damaged": problem} for problem in problems]
    if as_json or rows:
        show(rows, ("damaged",), as_json=as_json, styles=["red"] * len(rows))
    if not as_json:
        console.print(f"{len(problems)} problems.")
    if problems:
        raise typer.Exit(1)
