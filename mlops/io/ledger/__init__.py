"""The ledger: what was predicted, what came true, what was traded, and who moved which champion why.

One door to all of it. SQLite by default, PostgreSQL by URL when more than one process writes much.
"""

from mlops.io.ledger.alerts import Alerts
from mlops.io.ledger.api_keys import ApiKey, ApiKeys
from mlops.io.ledger.archive import Archive
from mlops.io.ledger.assignments import Assignments, Epoch
from mlops.io.ledger.audit import Audit
from mlops.io.ledger.balances import Balance, Balances
from mlops.io.ledger.bar_digests import BarDigests
from mlops.io.ledger.books import BookKey, BookRows, Books, Mark
from mlops.io.ledger.confirmed_prices import ConfirmedPrices
from mlops.io.ledger.deliveries import Deliveries, Delivery
from mlops.io.ledger.dispatches import Dispatches
from mlops.io.ledger.instruments import Instrument, Instruments
from mlops.io.ledger.job_runs import Claim, JobRun, JobRuns
from mlops.io.ledger.latest import LastPrediction, Latest
from mlops.io.ledger.outbox import Outbox
from mlops.io.ledger.quotes import Quotes
from mlops.io.ledger.registry import BundleRow, ComparisonRow, Promotion, RegistryLog
from mlops.io.ledger.rejections import Rejections
from mlops.io.ledger.risk import Forecast, RiskRows, RiskState
from mlops.io.ledger.scorings import Scorings
from mlops.io.ledger.splits import Split, Splits
from mlops.io.ledger.telemetry import MATURED_COLUMNS, Telemetry
from mlops.io.ledger.trading_state import Trading
from mlops.io.ledger.uploads import Upload, Uploads
from mlops.io.ledger.voids import Void, Voids
from mlops.io.storage.database import Database
from mlops.io.storage.disk import Disk
from mlops.io.storage.locks import Locks

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
    "ComparisonRow",
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


class Ledger(Database):
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

    def __init__(self, url: str, disk: Disk | None = None) -> None:
        super().__init__(url, disk)
        self.telemetry = Telemetry(self)
        self.quotes = Quotes(self, self.telemetry)
        self.scorings = Scorings(self, self.telemetry)
        self.balances = Balances(self, self.telemetry)
        self.registry = RegistryLog(self)
        self.assignments = Assignments(self)
        self.uploads = Uploads(self)
        self.books = Books(self)
        self.voids = Voids(self)
        self.splits = Splits(self)
        self.instruments = Instruments(self)
        self.confirmed_prices = ConfirmedPrices(self)
        self.bar_digests = BarDigests(self)
        self.latest = Latest(self)
        self.risk = RiskRows(self)
        self.trading = Trading(self)
        self.alerts = Alerts(self)
        self.deliveries = Deliveries(self)
        self.outbox = Outbox(self)
        self.dispatches = Dispatches(self)
        self.job_runs = JobRuns(self)
        self.api_keys = ApiKeys(self)
        self.rejections = Rejections(self)
        self.archive = Archive(self)
        self.audit = Audit(self, self.registry, self.books, self.telemetry)
        self.locks = Locks(self)
