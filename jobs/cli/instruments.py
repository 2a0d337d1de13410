"""`trader-mlops instrument`: what units are, where they are more than a share in the books' currency."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.tables import AsJson, show
from jobs.cli.terminal import console
from jobs.context import moment, store
from mlops.errors import DataError
from mlops.io.ledger import Instrument
from mlops.numerals import decimal
from mlops.types import INSTRUMENT_COLUMNS, Kind

app = typer.Typer(help="What units are: sector, currency, and the terms of options.", no_args_is_help=True)
NUMBERS = ("multiplier", "strike", "daily_volume")
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


@app.command("load")
def load(file: Annotated[Path, typer.Argument(help="CSV with a header.", exists=True, dir_okay=False)]) -> None:
    """Keep what FILE says of units; good rows go in, bad ones are told, and then the exit status is 1.

    Columns: unit, and any of kind (spot, future, call, put), currency, sector, multiplier, underlying, strike, expiry
    (an instant with its offset), american, daily_volume. A unit that is told again is what it was told last.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:  # empty, no text, or rows of different lengths
        raise DataError(f"{file.name} must be a readable CSV, got {error!r:.200}. Export it again.") from error
    if unknown := sorted(set(frame.columns) - set(INSTRUMENT_COLUMNS)):
        raise typer.BadParameter(f"columns must be of {', '.join(INSTRUMENT_COLUMNS)}, got {', '.join(unknown)}.")
    if "unit" not in frame:
        raise typer.BadParameter("there must be a column unit.")
    good, bad = list[Instrument](), list[str]()
    for number, row in enumerate(frame.to_dict("records"), start=2):  # as an editor counts, with the header
        try:
            good.append(_read({str(name): str(text).strip() for name, text in row.items()}))
        except DataError as error:
            bad.append(f"line {number}: {error}")
    with store() as opened:
        stored = opened.ledger.instruments.put(list({unit.unit: unit for unit in good}.values()), datetime.now(UTC))
    console.print(f"{stored} instruments kept.")
    for why in bad:
        console.print(why, style="red", markup=False, soft_wrap=True)
    if bad:
        raise typer.Exit(1)


@app.command("list")
def listed(as_json: AsJson = False) -> None:
    """All units that something is known of."""
    with store() as opened:
        frame = opened.ledger.instruments.frame()
    show(frame.to_dict("records"), INSTRUMENT_COLUMNS, as_json=as_json)


def _read(row: Mapping[str, str]) -> Instrument:
    """One row; an empty cell is not told."""
    given: dict[str, Any] = {name: text for name, text in row.items() if text}
    for name in NUMBERS:
        if name in given:
            given[name] = decimal(name, given[name])
    if "kind" in given and given["kind"] not in list(Kind):
        raise DataError(f"kind must be one of {', '.join(Kind)}, got {given['kind']!r}. Choose one of them.")
    if "kind" in given:
        given["kind"] = Kind(given["kind"])
    if "expiry" in given:
        given["expiry"] = moment(given["expiry"], "expiry")
    if "american" in given:
        word = given["american"].lower()
        if word not in TRUE + FALSE:
            raise DataError(f"american must be true or false, got {word!r}. Write one of them.")
        given["american"] = word in TRUE
    return Instrument(**{"unit": "", **given})
