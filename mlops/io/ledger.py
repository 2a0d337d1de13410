"""The ledger: what was predicted, what came true, what was traded, and who moved which champion why.

One door to all of it. SQLite by default, PostgreSQL by URL when more than one process writes much.
"""

from mlops.io.inbox import Delivery, Inbox, JobRun
from mlops.io.journal import BundleRow, Experiment, Journal, Promotion
from mlops.io.telemetry import MATURED_COLUMNS, Telemetry

__all__ = ["MATURED_COLUMNS", "BundleRow", "Delivery", "Experiment", "JobRun", "Ledger", "Promotion"]


class Ledger(Telemetry, Journal, Inbox):
    """The database of the platform, migrated when opened; a context manager, usable from several threads.

    Parameters
    ----------
    url : str
        `sqlite:///path/to/file` (its folder is made) or `postgresql+psycopg://user@host/name`.

    Raises
    ------
    SettingsError
        Another kind of URL, or a database that a newer version of this product wrote.
    """
