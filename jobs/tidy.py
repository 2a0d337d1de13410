"""Every night: closed hours go to the archive, and rows past their retention leave the ledger once they are there."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import structlog
import typer

from jobs.context import House, moment, run
from mlops.types import Decision

log = structlog.get_logger()


def at(house: House, model: str, bars: pd.DataFrame, as_of: datetime) -> list[Decision]:
    """Archive, then prune. It is about no model in particular and needs no bars."""
    folder, s = house.settings.state / "archive", house.settings
    copied = house.ledger.archive(folder, before=as_of - timedelta(hours=s.storage.archive_after_hours), at=as_of)
    old = as_of - timedelta(days=s.retention_days)
    gone = house.ledger.prune(folder, before=old, at=as_of)
    log.info("tidied", copied=copied, pruned=gone, rejections=house.ledger.drop_rejections(old))
    return []


def main(as_of: str = "now") -> None:
    run("tidy", lambda house: at(house, "", pd.DataFrame(), moment(as_of)))


if __name__ == "__main__":
    typer.run(main)
