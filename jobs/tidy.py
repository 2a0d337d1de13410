"""Every night: closed hours go to the archive, and rows past their retention leave the ledger once they are there."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from jobs import schedule
from jobs.cli.terminal import start_job
from jobs.context import Context
from mlops.types import Decision

log = structlog.get_logger()


def at(context: Context, as_of: datetime) -> list[Decision]:
    """Archive, then prune."""
    folder, s = context.settings.state / "archive", context.settings
    copied = context.ledger.archive.copy_closed(
        folder, before=as_of - timedelta(hours=s.storage.archive_after_hours), at=as_of
    )
    old = as_of - timedelta(days=s.retention_days)
    gone = context.ledger.archive.prune(folder, before=old, at=as_of)
    log.info("tidied", copied=copied, pruned=gone, rejections=context.ledger.rejections.drop(old))
    return []


def main(as_of: str = "now") -> None:
    schedule.main("tidy", "", as_of)


if __name__ == "__main__":
    start_job(main)
