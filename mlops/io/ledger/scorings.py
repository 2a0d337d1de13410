"""What each arm cost to ask: how long it took for a bar, and whether it failed; idempotent by arm, bar and units."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from mlops.io.ledger.telemetry import Telemetry
from mlops.io.storage.arrow import KEYS
from mlops.io.storage.database import Database, Tables
from mlops.io.storage.insert import scoring_rows
from mlops.io.storage.schema import scorings
from mlops.io.storage.validation import to_frame
from mlops.io.storage.windows import Span, microseconds, verify, window
from mlops.types import SCORING_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


class Scorings(Tables):
    """Latency and failures of arms."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        super().__init__(database)
        self._telemetry = telemetry

    def add(self, frame: pd.DataFrame) -> int:
        """Keep how arms were asked, in a frame with SCORING_COLUMNS; the number of rows that were new.

        `seconds` is how long the arm took, `rows` how many units it was asked for, `failed` 1 where it gave no
        probabilities, `batch` a name of the units: another request of the same bar is another row.
        """
        return self._telemetry.store(scoring_rows(frame))

    def between(self, model: str, start: datetime, end: datetime) -> pd.DataFrame:
        """How the arms of a model were asked for bars with `start <= event_time < end`.

        Returns
        -------
        DataFrame with SCORING_COLUMNS, sorted by event_time, version, batch, failed

        Raises
        ------
        CorruptionError
            What was read is not what was written.
        """
        import pandas as pd

        span = Span(scorings, {"model": model}, microseconds(start), microseconds(end))
        names = [name for name in SCORING_COLUMNS if name != "model"]
        key = [name for name in KEYS["scorings"] if name != "model"]
        with self._reading() as connection:
            columns = window(connection, span, names, key)
        stored = columns.pop("checksum")
        verify("scorings", {**columns, "model": model}, stored, key)
        frame = to_frame(names, [columns[name] for name in names])
        frame.insert(0, "model", pd.Series(model, index=frame.index, dtype=object))
        return frame
