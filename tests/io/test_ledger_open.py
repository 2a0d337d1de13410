"""Opening: migrations, concurrent openers, what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event, text

from mlops.errors import SettingsError
from mlops.io.ledger import Ledger
from mlops.io.storage.database import revisions
from mlops.io.storage.schema import metadata

ROOT = Path(__file__).parents[2]
CONTENDER = """
import sys
from datetime import UTC, datetime
from mlops.errors import AliasMoved
from mlops.io.storage.database import revisions
from mlops.io.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
with Ledger(sys.argv[1]) as ledger:
    try:
        ledger.registry.append_promotion("volatility", expected=None, to=int(sys.argv[2]), kind="promote", actor="race",
            reason="", evidence_run="", correlation_id="", at=datetime(2020, 1, 1, tzinfo=UTC))
        print("won")
    except AliasMoved:
        print("lost")
"""


def test_the_migrated_schema_is_the_declared_one(url):
    with Ledger(url):
        engine = create_engine(url)

    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert [] == compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    engine.dispose()


def test_opening_again_keeps_what_is_there(url, make):
    with Ledger(url) as ledger:
        ledger.telemetry.add_outcomes(make.outcomes([("A", 0)]))

    with Ledger(url) as ledger:
        assert ledger.telemetry.add_outcomes(make.outcomes([("A", 0)])) == 0


def test_processes_that_open_a_fresh_database_at_once_all_succeed_and_one_promotion_wins(url):
    command = [sys.executable, "-c", CONTENDER, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    contenders = [subprocess.Popen([*command, str(i)], cwd=ROOT, **pipes) for i in (1, 2, 3)]
    for contender in contenders:
        assert "ready\n" == contender.stdout.readline()
    for contender in contenders:
        contender.stdin.write("go\n")
        contender.stdin.flush()
    said = [contender.communicate(timeout=60) for contender in contenders]

    assert ["lost\n", "lost\n", "won\n"] == sorted(out for out, _ in said), said
    with Ledger(url) as ledger:
        assert 1 == len(ledger.registry.promotions("volatility"))


def test_a_database_of_a_newer_version_is_refused(url):
    with Ledger(url):
        engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(SettingsError, match=r"of this version or older.*9999"):
        Ledger(url)


@pytest.mark.parametrize(
    "wrong", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://host/name", "postgresql+asyncpg://host/name"]
)
def test_a_url_that_cannot_hold_a_ledger_is_refused(wrong):
    with pytest.raises(SettingsError, match="ledger URL must"):
        Ledger(wrong)


def test_what_someone_relies_on_waits_for_the_disk_and_telemetry_does_not(tmp_path):
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        for durable, grade in ((True, 2), (False, 1)):  # SQLite: 2 is FULL, 1 is NORMAL
            with ledger.writing(durable=durable) as connection:
                assert grade == connection.scalar(text("PRAGMA synchronous"))
        with ledger.reading() as connection:
            assert "wal" == connection.scalar(text("PRAGMA journal_mode"))


def test_postgresql_compiles_no_plan(url):
    if url.startswith("sqlite"):
        pytest.skip("SQLite compiles none")
    with Ledger(url) as ledger, ledger.reading() as connection:
        assert "off" == connection.scalar(text("SHOW jit"))


def test_downgrading_leaves_nothing_behind(url):
    config, script = revisions()
    with Ledger(url) as ledger, ledger.writing() as connection:
        with EnvironmentContext(config, script, fn=lambda now, _: script._downgrade_revs("base", now)) as environment:
            environment.configure(connection=connection)
            environment.run_migrations()
        left = connection.dialect.get_table_names(connection)

    assert ["alembic_version"] == left


def test_reads_of_one_book_look_into_an_index_of_its_fills(sqlite_ledger, make):
    sqlite_ledger.telemetry.add_fills(make.fills([("f1", "A", 1.0, 10.0, 0.1)]))
    plans = []

    def explain(connection, _cursor, statement, values, *_):
        if "FROM fills" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.extend(row[-1] for row in rows if " fills" in row[-1])

    event.listen(sqlite_ledger.engine, "before_cursor_execute", explain)
    sqlite_ledger.telemetry.positions("volatility", "paper")
    sqlite_ledger.books.unbooked_fills("volatility", "paper", as_of=make.at(9))
    sqlite_ledger.books.traded_versions("volatility", "paper")
    sqlite_ledger.risk.fills_since("volatility", make.at(0))
    sqlite_ledger.risk.first_traded("volatility", "paper")
    sqlite_ledger.voids.newest_fills("volatility", "paper")

    assert 7 <= len(plans)
    assert [] == [plan for plan in plans if not plan.startswith("SEARCH fills USING")]
