"""The ledger: what was predicted, what came true, what was traded, and who moved which champion why.

One door to all of it. SQLite by default, PostgreSQL by URL when more than one process writes much.
"""

from mlops.io.archive import Archive
from mlops.io.audit import Audit
from mlops.io.balances import Balance, Balances
from mlops.io.bar_digests import BarDigests
from mlops.io.books import BookKey, BookRows, Mark
from mlops.io.confirmed import ConfirmedPrices
from mlops.io.dealings import Dealings, Epoch
from mlops.io.dispatches import Dispatches
from mlops.io.inbox import Delivery, Inbox
from mlops.io.instruments import Instrument, Instruments
from mlops.io.jobruns import Claim, JobRun, JobRuns
from mlops.io.journal import BundleRow, Experiment, Promotion
from mlops.io.keys import ApiKey, Keys
from mlops.io.latest import LastPrediction, Latest
from mlops.io.outbox import Outbox
from mlops.io.quotes import Quotes
from mlops.io.rejections import Rejections
from mlops.io.risk import Forecast, RiskRows, RiskState
from mlops.io.scorings import Scorings
from mlops.io.splits import Split, Splits
from mlops.io.telemetry import MATURED_COLUMNS
from mlops.io.trading import Trading
from mlops.io.turns import Turns
from mlops.io.uploads import Upload, Uploads
from mlops.io.voids import Void

__all__ = [
    "MATURED_COLUMNS",
    "ApiKey",
    "Balance",
    "BookKey",
    "BookRows",
    "BundleRow",
    "Claim",
    "Delivery",
    "Epoch",
    "Experiment",
    "Forecast",
    "Instrument",
    "JobRun",
    "LastPrediction",
    "Ledger",
    "Mark",
    "Promotion",
    "RiskState",
    "Split",
    "Upload",
    "Void",
]


class Ledger(
    Quotes,
    Scorings,
    Audit,
    Archive,
    Inbox,
    JobRuns,
    Outbox,
    Dispatches,
    Trading,
    Turns,
    Keys,
    Rejections,
    Dealings,
    RiskRows,
    Balances,
    BarDigests,
    ConfirmedPrices,
    Uploads,
    Latest,
    Instruments,
    Splits,
):
    """The database of the platform, migrated when opened; a context manager, usable from several threads.

    Parameters
    ----------
    url : str
        `sqlite:///path/to/file` (its folder is made) or `postgresql+psycopg://user@host/name`.
    disk : Disk, optional
        Where it lies, with its ballast; the file's own folder without one when not given.

    Raises
    ------
    SettingsError
        Another kind of URL, or a database that a newer version of this product wrote.
    """
