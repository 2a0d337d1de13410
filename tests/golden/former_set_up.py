"""Make `former_set_up.tar.xz`: a set-up as commit b5f7490 left it, the last one before files got their places of now.

In a checkout of that commit, with its dependencies: `python former_set_up.py former_set_up.tar.xz`. Two versions, one
champion, a comparison in its shadow stage, four months of predictions and outcomes, books, weekly looks, a job that
died, alerts, and a study whose search was cut short. Its code is not that of today: run it only there.
"""

import shutil
import sqlite3
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobs.house import opened

from jobs import freshness, train, unbooked, worker
from jobs.replay import Replay
from mlops.io import feed
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import apply

MODEL, UNITS = "volatility", ["AAPL", "GE", "XOM"]
FIRST, SECOND, END = (datetime(year, month, 1, tzinfo=UTC) for year, month in ((2006, 1), (2007, 1), (2007, 5)))


def made(house, bars):
    for at in (FIRST, SECOND):
        train.train(house, STRATEGIES[MODEL], bars, as_of=at, start=None)
    apply.promote(house.registry, ModelRef(MODEL, 1), "first", house.act("ada", SECOND), expected=None)
    apply.nominate(house.registry, ModelRef(MODEL, 2), house.act("ada", SECOND))
    Replay(house, [MODEL], bars).run(SECOND, END)
    claim = house.ledger.start_job(f"monitor:{MODEL}", END, END)
    house.ledger.fail_job(claim, "no room", END, max_attempts=1, back_off_s=1.0)
    worker.report(house.ledger, END)
    unbooked.settle(house, {f"{MODEL}/live/AAPL": "fill f1 cannot be booked: nobody trades that much"}, END)
    late = END + timedelta(days=30)
    freshness.act(house, freshness.Freshness(house).models(late), None, late)
    study = train.prepare(house.settings.train, STRATEGIES[MODEL], bars[bars.known_at <= END], None)
    with train._parent_run(house, study, END) as (journal, _):
        journal.ask()  # a trial that a kill cut short


def main(target):
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "live"
        bars = feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=END).frame
        small = TrainSettings(trials=1, folds=2, min_bars=50)
        with opened(Settings(state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", train=small)) as house:
            made(house, bars[bars.symbol.isin(UNITS)])
        for database in state.glob("*.db"):
            with sqlite3.connect(database) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute("VACUUM")
        for name in ("ballast", "logs"):
            shutil.rmtree(state / name, ignore_errors=True)
            (state / name).unlink(missing_ok=True)
        with tarfile.open(target, "w:xz", preset=9) as archive:
            archive.add(state, "live")


if __name__ == "__main__":
    main(*sys.argv[1:])
