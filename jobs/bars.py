"""Bars as every job reads them, held against what was read before; `trader-mlops bars`: a person's word on changes.

Load: the file, and the ledger's digests of it. Compute: which symbols' known bars are others now. Act: those symbols
are set aside with an alert, `bars_changed:`, which closes when the bars are as they were, or accepted; symbols that
break the contract of bars have one, too, `bars_rejected:`. What is new is noted.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import structlog
import typer

from jobs.cli.tables import SECONDS, AsJson, show
from jobs.cli.terminal import console
from jobs.context import Context, opened, store
from mlops.alerts import ALERTS
from mlops.errors import DataError
from mlops.io import bar_feed
from mlops.io.ledger.bar_digests import History, NotedBars, histories

app = typer.Typer(help="Files of bars: what was read of them, and changes of it.", no_args_is_help=True)
COLUMNS = ("source", "symbol", "bars", "until", "noted_at", "now")
log = structlog.get_logger()
MAX_KEY = 200  # characters of a symbol in the key of an alert
PAST = timedelta(days=1)  # a job of an instant before is no look at what is new
MANY = 10  # symbols; more at once are one alert
KINDS = ("bars_changed", "bars_rejected")


@dataclass(frozen=True, slots=True)
class Reading:
    """A file of bars beside the notes on it. `changed`: symbol -> why its known bars are not trusted."""

    source: str
    bars: bar_feed.Bars
    known: Mapping[str, NotedBars]
    present: Mapping[str, History]
    changed: Mapping[str, str]


def bars_of(context: Context, source: str, as_of: datetime | None = None) -> pd.DataFrame:
    """Bars of a source, without the symbols whose known history changed.

    Parameters
    ----------
    as_of : datetime, optional
        Of the job. One that looks at the past only compares: it neither notes nor tells.

    Raises
    ------
    DataError
        No symbol is left, or the file breaks the contract of bars as a whole.
    """
    if source in bar_feed.PACKAGED:
        return bar_feed.load_bars(source).frame
    reading, at = read(context, source), datetime.now(UTC)
    for symbol, why in {**reading.bars.rejected, **reading.changed}.items():
        log.warning("symbol set aside", source=reading.source, symbol=symbol, why=why)
    if as_of is None or at - as_of < PAST:
        settle(context, reading, at)
        context.ledger.bar_digests.note(list(_new(reading, at)), reading.known)
    frame = reading.bars.frame
    good = frame[~frame["symbol"].isin(list(reading.changed))].reset_index(drop=True)
    if good.empty:
        why = next(iter(reading.changed.values()))
        raise DataError(f"{source} must have a symbol whose known bars are as they were, got none. The first: {why}")
    return good


def read(context: Context, source: str) -> Reading:
    """Read a file of bars, and hold it against the notes."""
    name = str(Path(source))
    # Before the file: a file that grows meanwhile is never older than the notes on it.
    known = {note.symbol: note for note in context.ledger.bar_digests.notes(name)}
    bars = bar_feed.load_bars(source)
    present = histories(bars.frame)
    changed = {symbol: why for symbol, note in known.items() if (why := _why(note, present, bars.rejected))}
    return Reading(name, bars, known, present, changed)


def settle(context: Context, reading: Reading, at: datetime) -> None:
    """Open alerts for symbols that are set aside now, and close those of symbols that are not."""
    wanted = [
        ALERTS[kind].alert(
            at,
            {"source": reading.source, "symbol": symbol, "why": why, "time": at.isoformat()},
            details={"source": reading.source, "symbol": symbol},
        )
        for kind, reasons in zip(KINDS, (reading.changed, reading.bars.rejected), strict=True)
        for symbol, why in _grouped(reasons).items()
    ]
    context.ledger.alerts.settle(
        KINDS, wanted, at, looked_at=lambda alert: alert.details.get("source") == reading.source
    )


def _why(note: NotedBars, present: Mapping[str, History], rejected: Mapping[str, str]) -> str:
    """Why a symbol's known bars are not those that were noted; empty where they are, or where they are refused."""
    history = present.get(note.symbol)
    if history is None:
        got = "" if note.symbol in rejected else "none"
    elif history.bars < note.bars:
        got = str(history.bars)
    else:
        got = "" if history.digest(note.bars) == note.digest else "others"
    rule = f"the {note.bars} bars until {note.until:%Y-%m-%d %H:%M} must be as they were read before"
    remedy = "Restore the file, or `trader-mlops bars accept`."
    return f"{note.source}, {note.symbol}: {rule}, got {got}. {remedy}" if got else ""


def _new(reading: Reading, at: datetime) -> Iterator[NotedBars]:
    """Longer histories; new symbols only beside whole ones, for a damaged name makes a new symbol, too."""
    for symbol, history in reading.present.items():
        known = reading.known.get(symbol)
        if not reading.changed if known is None else symbol not in reading.changed and history.bars > known.bars:
            yield history.noted(reading.source, symbol, at)


def _grouped(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons by symbol as a key can hold it; of very many symbols one, under `*`."""
    if len(reasons) > MANY:
        return {"*": f"{len(reasons)} symbols. The first: {_plain(next(iter(reasons.values())))}"}
    return {ascii(symbol)[1:-1][:MAX_KEY]: _plain(why) for symbol, why in reasons.items()}


def _plain(text: str) -> str:
    """What both databases can keep."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """What was read of each file, and whether it is still as it was."""
    with opened() as context:
        notes = context.ledger.bar_digests.notes()
        states = {source: _states(context, source) for source in {note.source for note in notes}}
    rows = [
        {name: getattr(note, name) for name in COLUMNS[:-1]}
        | {"now": states[note.source].get(note.symbol, "as it was")}
        for note in notes
    ]
    show(rows, COLUMNS, as_json=as_json)


@app.command("log")
def accepted(as_json: AsJson = False) -> None:
    """Every change that a person accepted."""
    columns = ("accepted_at", "source", "symbol", "actor", "reason")
    with store() as here:
        rows = [{name: getattr(entry, name) for name in columns} for entry in here.ledger.bar_digests.accepted()]
    show(rows, columns, as_json=as_json, formats={"accepted_at": SECONDS})


@app.command()
def accept(
    source: Annotated[str, typer.Argument(help="As the list shows it.")],
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")],
    symbol: Annotated[str, typer.Argument(help="This one only; all that changed where it is left out.")] = "",
    actor: Annotated[str, typer.Option(help="Who.", envvar="USER")] = "",
) -> None:
    """Take the changed bars of SOURCE for right: what the file has now is its history from now on."""
    with opened() as context:
        symbols = accept_changes(context, source, symbol, actor or getpass.getuser(), reason)
    console.print(f"{source}: accepted {', '.join(symbols)}.", markup=False, soft_wrap=True)


def accept_changes(context: Context, source: str, symbol: str, actor: str, reason: str) -> list[str]:
    """Note a file as it is now, of one symbol or of all that changed; which ones.

    Raises
    ------
    DataError
        Nothing of it changed, or actor or reason is missing.
    """
    reading, at = read(context, source), datetime.now(UTC)
    symbols = [name for name in reading.changed if symbol in ("", name)]
    if not symbols:
        names = ", ".join(reading.changed) or "none"
        got = symbol or "no change"
        raise DataError(f"bars of {source} must have changed to be accepted ({names}), got {got}. See the list.")
    notes = [reading.known[name] for name in symbols]
    now = {name: reading.present[name].noted(reading.source, name, at) for name in symbols if name in reading.present}
    context.ledger.bar_digests.accept(notes, now, actor=actor, reason=reason, at=at)
    log.info("bars accepted", source=reading.source, symbols=symbols, by=actor, reason=reason)
    settle(context, read(context, source), at)
    return symbols


def _states(context: Context, source: str) -> Mapping[str, str]:
    """State of each symbol that is not as it was."""
    try:
        reading = read(context, source)
    except DataError as error:
        return dict.fromkeys((note.symbol for note in context.ledger.bar_digests.notes(source)), f"not read: {error}")
    return {**dict.fromkeys(reading.bars.rejected, "rejected"), **dict.fromkeys(reading.changed, "changed")}


def made_for(rows: pd.DataFrame) -> dict[str, Any]:
    """What a version that learns from `rows` is made for: the usual seconds between two bars of a unit, and the units.

    Parameters
    ----------
    rows : DataFrame
        Columns `event_time` and `unit`.
    """
    apart = rows.sort_values("event_time", kind="stable").groupby("unit")["event_time"].diff().dt.total_seconds()
    return {"every_s": float(apart.median()), "universe": sorted(rows["unit"].unique())}
