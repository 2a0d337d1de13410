"""The ledger's tables, the same on SQLite and on PostgreSQL.

Instants are BIGINT microseconds since 1970-01-01 UTC: exact, sortable and quick to read into arrays on both.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from mlops.io.storage.utc_time import UtcTime

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

feature_sets = Table(
    "feature_sets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("names", Text, nullable=False),  # JSON list, in the order of the stored vector
    Column("digest", Text, nullable=False, unique=True),  # sha256 of `names`: long lists do not fit into an index
)
# SQLite keeps these two in the order of their key (no rowid): a window is read in one sweep, and there is no second
# index to write. A key starts with model and time because every reading is a window of one model.
predictions = Table(
    "predictions",
    metadata,
    Column("model", Text, primary_key=True),
    Column("event_time", UtcTime, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("unit", Text, primary_key=True),
    Column("known_at", UtcTime, nullable=False),
    Column("matures_at", UtcTime, nullable=False),
    Column("role", Text, nullable=False),
    Column("probability", Float(53), nullable=False),
    Column("feature_set_id", Integer, ForeignKey("feature_sets.id"), nullable=False),
    Column("features", LargeBinary, nullable=False),  # little-endian float32: exactly what was scored
    Column("correlation_id", Text, nullable=False),
    Column("checksum", BigInteger),  # of the row without its features; NULL in rows of release 0.1
    Column("features_checksum", BigInteger),  # of the row with its features
    sqlite_with_rowid=False,
)
outcomes = Table(
    "outcomes",
    metadata,
    Column("model", Text, primary_key=True),
    Column("event_time", UtcTime, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("known_at", UtcTime, nullable=False),
    Column("label", Float(53), nullable=False),
    Column("value", Float(53), nullable=False),
    Column("checksum", BigInteger),
    sqlite_with_rowid=False,
)
fills = Table(
    "fills",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fill_id", Text, nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("book", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("event_time", UtcTime, nullable=False),
    Column("quantity", Float(53), nullable=False),  # signed: positive bought
    Column("price", Float(53), nullable=False),
    Column("fee", Float(53), nullable=False),
    Column("checksum", BigInteger),
)
Index(None, fills.c.model, fills.c.book, fills.c.id)
bundles = Table(
    "bundles",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("train_start", UtcTime, nullable=False),
    Column("train_end", UtcTime, nullable=False),
    Column("horizon_bars", Integer, nullable=False),
    Column("registered_at", UtcTime, nullable=False),
    Column("checksum", BigInteger),
    Column("kind", Text, nullable=False, server_default="strategy"),
)
promotions = Table(
    "promotions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence_run", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending, applied, undone
    Column("created_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("checksum", BigInteger),
    UniqueConstraint("model", "seq"),  # the compare-and-set: two that append after the same entry cannot both win
)
experiments = Table(
    "experiments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),  # compare, watch, shadow
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer, nullable=False),
    Column("salt", Text, nullable=False),
    Column("split", Float(53), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("verdict", Text),
    Column("ended_at", UtcTime),
    Column("alias_at", UtcTime),  # the alias `challenger` was made to say so; NULL: still to be done
    Column("plan", Text),  # JSON, by the settings of its first look; NULL: not looked at yet
)
Index(  # one open comparison of a kind and pair, also when two processes open it at once
    "uq_experiments_open",
    experiments.c.model,
    experiments.c.kind,
    experiments.c.champion,
    experiments.c.challenger,
    unique=True,
    sqlite_where=experiments.c.ended_at.is_(None),
    postgresql_where=experiments.c.ended_at.is_(None),
)
weights = Table(  # append-only: an epoch is what all open arms have from then on
    "weights",
    metadata,
    Column("model", Text, primary_key=True),
    Column("salt", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, ...; 0 is the experiment's own split
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("weight", Float(53), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)
assignments = Table(  # the first one wins: a key is assigned once in an experiment
    "assignments",
    metadata,
    Column("model", Text, primary_key=True),
    Column("salt", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),  # of the weights that it was assigned by
    Column("assigned_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
scorings = Table(
    "scorings",
    metadata,
    Column("model", Text, primary_key=True),
    Column("event_time", UtcTime, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("batch", Text, primary_key=True),  # which units: a digest of their names
    Column("failed", Integer, primary_key=True, autoincrement=False),  # 1: it gave no probabilities
    Column("rows", Integer, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("checksum", BigInteger),
    sqlite_with_rowid=False,
)
alerts = Table(
    "alerts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("priority", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("details", Text, nullable=False),  # JSON
    Column("resolved_at", UtcTime),
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("delivery_id", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # raw, as it was signed
    Column("received_at", UtcTime, nullable=False),
    Column("model", Text),
    Column("alias", Text),
    Column("version", Integer),
    Column("settled_at", UtcTime),
    Column("settled_seq", Integer, unique=True),  # the order in which readers see them
)
Index(None, deliveries.c.model, deliveries.c.settled_seq)
Index(
    "ix_deliveries_unsettled",
    deliveries.c.source,
    deliveries.c.id,
    sqlite_where=deliveries.c.settled_at.is_(None),
    postgresql_where=deliveries.c.settled_at.is_(None),
)
job_runs = Table(
    "job_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("scheduled_for", UtcTime, nullable=False),
    Column("state", Text, nullable=False),  # due, running, done, failed (will be tried again), parked, dead, skipped
    Column("attempts", Integer, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("owner", Text, nullable=False, server_default=text("''")),
    Column("fence", Integer, nullable=False, server_default=text("0")),  # grows at each claim; an older one is void
    Column("lease_until", UtcTime),  # past it, whoever runs it is taken for dead
    Column("not_before", UtcTime),  # back-off
    Column("error", Text, nullable=False, server_default=text("''")),
    UniqueConstraint("job", "scheduled_for"),
)
Index(None, job_runs.c.state, job_runs.c.not_before)
quotes = Table(
    "quotes",
    metadata,
    Column("unit", Text, primary_key=True),
    Column("event_time", UtcTime, primary_key=True),
    Column("known_at", UtcTime, nullable=False),
    Column("bid", Float(53), nullable=False),
    Column("ask", Float(53), nullable=False),
    Column("bid_size", Float(53), nullable=False),  # 0: not told
    Column("ask_size", Float(53), nullable=False),
    Column("checksum", BigInteger),
    sqlite_with_rowid=False,
)
events = Table(  # the outbox: written in the transaction of the change that it tells of
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seq", Integer, nullable=False, unique=True),  # 1, 2, 3, ... in the order of commits
    Column("event_id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # transition, trading_state, alert
    Column("model", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("correlation_id", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
endpoints = Table(  # whom the outbox was sent to; where they are and their secrets are settings
    "endpoints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since_seq", Integer, nullable=False),  # it hears of what came after
    Column("seen_at", UtcTime, nullable=False),
    Column("fingerprint", Text, nullable=False),  # sha256 of address and secret: another one is a new start
    Column("disabled", Text, nullable=False),  # why nothing is sent until it is configured anew; empty: it is sent to
    Column("failures", Integer, nullable=False),  # in a row; the circuit breaker's count
    Column("probe_at", UtcTime, nullable=False),  # when an open circuit is tried next
    Column("owner", Text, nullable=False),  # the attempt under way, if any
    Column("lease_until", UtcTime, nullable=False),  # past it, whoever made that attempt is taken for dead
)
dispatches = Table(
    "dispatches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("state", Text, nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("last_status", Integer),
    Column("last_error", Text, nullable=False),
    Column("settled_at", UtcTime),
    UniqueConstraint("endpoint", "seq"),
)
Index(None, dispatches.c.state, dispatches.c.not_before)
trading_states = Table(
    "trading_states",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seq", Integer, nullable=False, unique=True),
    Column("state", Text, nullable=False),  # active, reducing, halted
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("accepted", Text, nullable=False, server_default="{}"),  # measure:scope -> value that a person accepted
    Column("correlation_id", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),  # the public half, shown in logs
    Column("label", Text, nullable=False),
    Column("digest", Text, nullable=False),  # sha256 of the secret half; the secret itself is kept nowhere
    Column("scopes", Text, nullable=False),  # space-separated
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
)
rejections = Table(  # rows that broke their contract, kept where a person can see them
    "rejections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("digest", Text, nullable=False),  # sha256 of `body`: the same bad row is kept once
    Column("received_at", UtcTime, nullable=False),
    UniqueConstraint("kind", "digest"),
)
Index(None, rejections.c.received_at)
tallies = Table(  # rows written by scope (a model, a book, a unit) and hour: what vanished is missed (SQLite)
    "tallies",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("scope", Text, primary_key=True),  # JSON list
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("rows", Integer, nullable=False),
    sqlite_with_rowid=False,
)
archives = Table(  # closed hours that went to Parquet
    "archives",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("hour", UtcTime, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("written_at", UtcTime, nullable=False),
    UniqueConstraint("table_name", "hour"),
)
