"""The ledger and what stands in it: clock, models, transitions, jobs, parts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from sqlalchemy import inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from jobs import schedule
from jobs.context import Context
from jobs.doctor import NO_LEDGER, NO_SERVER, Problem, Setup, nothing, part_health
from jobs.live import freshness, model_status
from jobs.stack.up import present
from mlops.io.spool import left
from mlops.io.storage.database import DRIVERS, revisions
from mlops.io.storage.schema import alerts, job_runs, promotions
from mlops.types import Level, ModelRef, Role, TradingState
from registry_hooks import aliases, guard

LATE = timedelta(minutes=10)  # a transition takes a second, a due job starts within one
SKEW = timedelta(seconds=2)
WHOLE = timedelta(seconds=1)  # an HTTP date tells no fractions


def ledger(setup: Setup) -> Iterator[Problem]:
    """The ledger is there, sound and of this release."""
    url = setup.settings.ledger
    try:
        place = make_url(url)
        driver = f"{place.get_backend_name()}+{place.get_driver_name()}"
    except (ArgumentError, ImportError):
        driver = "no URL of a database"
    if driver not in DRIVERS:
        yield Problem(f"ledger URL is {driver}, not {' or '.join(DRIVERS)}", "Correct MLOPS_LEDGER_URL")
        return
    if place.get_backend_name() == "sqlite" and not Path(str(place.database)).exists():
        yield Problem(f"there is no ledger at {place.database} yet", "`make up` makes it", Level.WARN)
        return
    try:
        with setup.engine.connect() as connection:
            if place.get_backend_name() == "sqlite":
                answer = connection.execute(text("PRAGMA quick_check(1)")).scalar()
                if answer != "ok":
                    yield Problem(f"ledger is damaged: {answer}", "Restore the last backup: docs/operations.md")
                    return
            known = inspect(connection).has_table("alembic_version")
            at = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if known else None
    except SQLAlchemyError as error:
        damaged = "malformed" in str(error) or "not a database" in str(error)
        remedy = "Restore the last backup" if damaged else "Start its server, or correct MLOPS_LEDGER_URL"
        yield Problem(f"ledger cannot be read: {getattr(error, 'orig', error)}", remedy)
        return
    yield from _revision(setup, at)


def _revision(setup: Setup, at: str | None) -> Iterator[Problem]:
    script = revisions()[1]
    known, head = {step.revision for step in script.walk_revisions()}, script.get_current_head()
    if at == head:
        setup.current = True
    elif at is None:
        yield Problem("ledger's database has no tables yet", "`make up` makes them", Level.WARN)
    elif at in known:
        problem = f"ledger is of an older release (schema {at}, ours is {head})"
        yield Problem(problem, "Back up, then `make up`: it is brought up to date", Level.WARN)
    else:
        yield Problem(f"ledger was written by a newer release (schema {at}, ours is {head})", "Install that release")


def clock(setup: Setup) -> Iterator[Problem]:
    """Clocks agree: ours, MLflow's, the ledger's."""
    tolerance = timedelta(seconds=setup.settings.service.webhook_tolerance_s)
    server = make_url(setup.settings.ledger).get_backend_name() == "postgresql"
    if not setup.answers:
        yield NO_SERVER
    if server and not setup.current:
        yield NO_LEDGER
    before = setup.clock()
    if setup.answers:
        date = parsedate_to_datetime(setup.server.get("/health").headers["date"])
        yield from skewed("MLflow's server", before, setup.clock(), date, tolerance, coarse=WHOLE)
    if setup.current and server:
        before = setup.clock()
        with setup.engine.connect() as connection:
            theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        yield from skewed("the ledger's PostgreSQL", before, setup.clock(), theirs, tolerance)


def skewed(
    who: str,
    before: datetime,
    after: datetime,
    theirs: datetime,
    tolerance: timedelta,
    *,
    coarse: timedelta = timedelta(0),
) -> Iterator[Problem]:
    """Whether `theirs`, told between `before` and `after` by our clock and cut to `coarse`, can be the same time."""
    off = max(theirs - after, before - (theirs + coarse), timedelta(0))
    if off > SKEW:
        level = Level.ALERT if off > tolerance else Level.WARN
        refused = "; webhooks are refused as stale" if level is Level.ALERT else ""
        yield Problem(f"clock of {who} is {off.total_seconds():.0f} s off ours{refused}", "Set both by NTP", level)


def models(setup: Setup) -> Iterator[Problem]:
    """Every champion is the same in log and aliases, and its bundle loads."""
    if not (setup.current and setup.answers):
        yield NO_SERVER if setup.current else NO_LEDGER
        return
    if not (names := setup.registry.ledger.registry.models()):
        yield nothing("model is registered")
    for model in names:
        yield from _model(setup, model)


def _model(setup: Setup, model: str) -> Iterator[Problem]:
    version, client = setup.registry.ledger.registry.champion(model), setup.registry.client
    answer = setup.server.get("/api/2.0/mlflow/registered-models/get", params={"name": model})
    if answer.status_code == 404:
        yield Problem(f"{model}: MLflow does not have it any more", "Restore a backup, or train it again")
        return
    alias = aliases.read(client, model).get(Role.CHAMPION)
    if alias != version:
        problem = f"{model}: alias champion is {_v(alias)}, the promotion log says {_v(version)}"
        yield Problem(problem, "A running service mends it within 30 s: `make up`, then look at the alerts")
    if version is None:
        yield Problem(f"{model} has no champion: no bot can trade it", f"trader-mlops promote {model} N", Level.WARN)
        return
    for why in guard.unsound(setup.registry, ModelRef(model, version)):
        yield Problem(
            f"{model}: its champion cannot be loaded: {why}", f"trader-mlops rollback {model}, or restore a backup"
        )


def bots(setup: Setup) -> Iterator[Problem]:
    """Bots predict, and prices come."""
    if not setup.current:
        yield NO_LEDGER
        return
    now, known = setup.clock(), freshness.Freshness(Context(setup.settings, setup.registry))
    champions = {model: fresh for model, fresh in known.models(now).items() if fresh.since is not None}
    if not champions:
        yield nothing("model has a champion, so no bot is expected to predict")
    for model, fresh in champions.items():
        last = f"{model}: {model_status.told(fresh)}"
        if fresh.silence.level is Level.ALERT:
            yield Problem(f"its bot is silent. {last}", "Is the bot up? Read its log; docs/runbook.md, `bot_silent`")
        elif fresh.silence.level is Level.UNKNOWN:
            yield Problem(f"never predicted. {last}", "Start its bot: docs/bot.md", Level.UNKNOWN)
        else:
            yield Problem(last, "", Level.OK)
    feeds = known.feeds(now)
    if not feeds:
        yield nothing("price has come")
    for source, finding in feeds.items():
        stale = finding.level is Level.ALERT
        remedy = "Is the feed up? docs/runbook.md, `feed_stale`" if stale else ""
        yield Problem(f"{source}: {finding.note}", remedy, finding.level)


def transitions(setup: Setup) -> Iterator[Problem]:
    """No transition was left half done."""
    if not setup.current:
        yield NO_LEDGER
        return
    c = promotions.c
    for row in setup.rows(select(c.model, c.to_version, c.created_at).where(c.state == "pending")):
        if setup.clock() - row.created_at > LATE:
            problem = f"{row.model}: transition to v{row.to_version} is pending since {row.created_at:%Y-%m-%d %H:%M}"
            yield Problem(problem, "Start the service and MLflow: reconciling finishes or undoes it")


def jobs(setup: Setup) -> Iterator[Problem]:
    """Jobs run when they are due."""
    if not setup.current:
        yield NO_LEDGER
        return
    now, c = setup.clock(), job_runs.c
    for row in setup.rows(select(c.job, c.scheduled_for, c.state, c.error, c.not_before)):
        run = f"job {row.job} of {row.scheduled_for:%Y-%m-%d %H:%M}"
        if row.state == "dead":
            yield Problem(
                f"{run} failed at every attempt: {row.error[-200:]}", "Mend it, then `trader-mlops job retry`"
            )
        elif row.state == "parked":
            yield Problem(
                f"{run} cannot be imported: {row.error[-200:]}", "Bring its code back; it then runs by itself"
            )
        elif (
            row.state in ("due", "failed") and now - max(row.scheduled_for, row.not_before or row.scheduled_for) > LATE
        ):
            yield Problem(f"{run} is overdue", "Is the scheduler up? `make up`, then read logs/scheduler.log")
    yield from _unplanned(setup, now)


def _unplanned(setup: Setup, now: datetime) -> Iterator[Problem]:
    """Slots that passed and that nobody wrote down: no scheduler was there."""
    for job, last in sorted(setup.registry.ledger.job_runs.last_planned().items()):
        line = schedule.line_of(job)
        missed = [at for at, _ in schedule.due(last, now - LATE, [line[0]])] if line else []
        if missed:
            problem = f"job {job} should have been planned for {missed[-1]:%Y-%m-%d %H:%M} and was not"
            yield Problem(problem, "No scheduler runs: `make up`; one run catches up")


def parts(setup: Setup) -> Iterator[Problem]:
    """What `make up` started is up."""
    now = present(setup.settings.state)
    if not now.running and not now.died:
        yield Problem("not looked at: nothing runs here by `make up`", "make up", Level.UNKNOWN)
    if now.died:
        yield Problem(f"supervisor {now.pid} died: nothing restarts what dies now", "make up")
    if now.running and not now.parts:
        yield Problem("not looked at: run/up.json cannot be read", "Look at the disk; `make down up`", Level.UNKNOWN)
    if now.running and part_health.frozen(now.pid):
        yield Problem(
            f"supervisor {now.pid} is stopped: it restarts nothing", f"kill -CONT {now.pid}, or `make down up`"
        )
    for part in part_health.looked(now.parts, setup.settings) if now.running else ():
        if part.state != "up":
            yield Problem(part_health.told(part), part_health.remedy(part, setup.settings))


def spool(setup: Setup) -> Iterator[Problem]:
    """What bots scored reaches the ledger, whole."""
    folder = setup.settings.state / "spool"
    if not folder.is_dir():
        yield nothing(f"bot has written to {folder}")
        return
    late = (setup.clock() - LATE).timestamp()
    if late_ones := [path.stat() for path in left(folder) if path.stat().st_mtime < late]:
        mib = sum(stat.st_size for stat in late_ones) / 2**20
        remedy = f"`make up`: its service brings them. Is it up already? Read {folder / 'courier.log'}"
        yield Problem(f"{mib:.1f} MiB of scores wait in {folder} since more than {LATE}", remedy)
    if bad := sorted(path.name for path in folder.glob("*.bad")):
        remedy = "Scores are missing there: look at the disk, then move these files away"
        yield Problem(f"damaged records of the spool were put aside in {folder}: {', '.join(bad)}", remedy, Level.WARN)


def critical(setup: Setup) -> Iterator[Problem]:
    """No critical alert is open, and trading is not halted."""
    if not setup.current:
        yield NO_LEDGER
        return
    state = setup.registry.ledger.trading.state()
    if state is not TradingState.ACTIVE:
        remedy = "See why: `trader-mlops trading-state show`; docs/runbook.md, `trading_state`"
        yield Problem(f"trading is {state.value}", remedy, Level.ALERT if state is TradingState.HALTED else Level.WARN)
    c = alerts.c
    for row in setup.rows(select(c.key, c.title).where(c.resolved_at.is_(None), c.priority == "critical")):
        yield Problem(f"open alert: {row.title}", f"docs/runbook.md, `{row.key.split(':')[0]}`")


def _v(version: int | None) -> str:
    return "not set" if version is None else f"v{version}"
