"""The loop, end to end: bars to predictions to evidence to a transition to a webhook to another model in the bot."""

import itertools
import subprocess
import sys
from datetime import UTC, datetime

import orjson
import pytest

from jobs import books, promote, train
from jobs.cli import main as command
from jobs.replay import Replay
from mlops.books.rows import restored, state
from mlops.io import logs
from mlops.io.ledger import BookKey
from mlops.learn import STRATEGIES
from mlops.types import ModelRef
from registry_hooks import aliases

pytestmark = pytest.mark.e2e

START, END = datetime(2007, 6, 1, tzinfo=UTC), datetime(2007, 12, 1, tzinfo=UTC)
BY_HAND, BACK = datetime(2007, 9, 4, 12, tzinfo=UTC), datetime(2007, 10, 2, 12, tzinfo=UTC)
STRATEGY = STRATEGIES["volatility"]


@pytest.fixture(scope="module")
def replay(platform, bars):
    """Six months; a person promotes the waiting challenger in September and takes it back in October."""
    context, _ = platform
    logs.configure(context.settings.state / "logs" / "e2e.jsonl")
    ref = train.train(context, STRATEGY, bars, as_of=datetime(2005, 1, 1, tzinfo=UTC), start=None, note="first")
    promote.promote(context, ref, reason="first champion", actor="test", at=START)

    def by_hand(context, at):
        challenger = aliases.read(context.client, "volatility")["challenger"]
        promote.promote(context, ModelRef("volatility", challenger), reason="a person says so", actor="quant", at=at)

    def back(context, at):
        promote.rollback(context, "volatility", reason="fills look wrong", actor="on call", at=at)

    story = []
    replay = Replay(context, ("volatility",), bars, [(BY_HAND, by_hand), (BACK, back)], story.append)
    replay.run(START, END)
    return replay, story


def test_predictions_outcomes_and_fills_are_stored(replay, bars):
    ledger = replay[0].context.ledger
    days = bars[(bars.event_time >= START) & (bars.event_time < END)].event_time.nunique()

    _, values, names = ledger.telemetry.predictions("volatility", start=START, end=END, as_of=END, version=1)
    matured = ledger.telemetry.matured("volatility", start=START, end=END, as_of=END, version=1)

    assert (days * 6, len(STRATEGY.feature_names)) == values.shape
    assert STRATEGY.feature_names == names
    assert (days - STRATEGY.horizon) * 6 == len(matured)
    assert STRATEGY.horizon * 6 == ledger.telemetry.pending("volatility", as_of=END, version=1)
    assert not ledger.telemetry.positions("volatility", "paper").empty


def test_the_books_in_the_ledger_are_the_bots_own_and_its_twin_departs_from_it_nowhere(replay, bars):
    context, bot = replay[0].context, replay[0].bots["volatility"]
    brought = context.ledger.books.ends("volatility")
    books.advance(context, STRATEGY, bars, END)

    assert {("paper", 0), ("twin:paper", 0), ("virtual", 1), ("virtual", 2)} <= {(k.book, k.version) for k in brought}
    for name in ("paper", "twin:paper"):
        found = context.ledger.books.state(BookKey("volatility", name))
        assert state(bot.book) == state(restored(found)), name


def test_the_bot_swaps_at_the_first_bar_after_each_move_and_the_webhook_told_it(replay):
    replayed, story = replay

    assert ["promote", "swapped", "rollback", "swapped"] == [event.kind for event in story if event.kind != "retrain"]
    assert (2, 0) == (replayed.hooks_heard, replayed.hooks_lost)
    frame, _, _ = replayed.context.ledger.telemetry.predictions(
        "volatility", start=START, end=END, as_of=END, version=2
    )
    champion = frame[frame.role == "champion"].event_time
    assert BY_HAND < champion.min() < datetime(2007, 9, 5, tzinfo=UTC)
    assert champion.max() < BACK


def test_one_correlation_id_runs_from_the_decision_to_the_swap(replay):
    state = replay[0].context.settings.state
    lines = [
        orjson.loads(row)
        for name in ("e2e", "serve")
        for row in (state / "logs" / f"{name}.jsonl").read_bytes().splitlines()
    ]
    entry = replay[0].context.ledger.registry.promotions("volatility")[-1]
    mine = [line["event"] for line in lines if line.get("correlation_id") == entry.correlation_id]

    assert {"transition", "webhook", "swapped"} <= set(mine)


def test_the_log_and_the_aliases_agree_and_the_way_back_is_gone_after_a_rollback(replay):
    context = replay[0].context

    assert [("promote", 1), ("promote", 2), ("rollback", 1)] == [
        (entry.kind, entry.to_version) for entry in context.ledger.registry.promotions("volatility")
    ]
    assert {"applied"} == {entry.state for entry in context.ledger.registry.promotions("volatility")}
    found = aliases.read(context.client, "volatility")
    assert 1 == found["champion"]
    assert "previous_champion" not in found


def _of(context, query, **more):
    experiment = context.client.get_experiment_by_name("volatility").experiment_id
    return context.client.search_runs([experiment], query, max_results=1000, **more)


def test_each_weekly_job_left_a_step_and_each_reign_and_comparison_has_one_run(replay):
    context = replay[0].context
    lines = _of(context, "tags.series LIKE '%'")
    monitors, comparisons = ([run for run in lines if run.data.tags["job"] == job] for job in ("monitor", "compare"))

    reigns = [f"monitor v{entry.to_version}:" for entry in context.ledger.registry.promotions("volatility")]
    assert sorted(reigns) == sorted(run.info.run_name[: len(reigns[0])] for run in monitors)
    trials = context.ledger.registry.comparisons("volatility")
    pairs = {(c.champion, c.challenger, c.started_at) for c in trials}
    assert len(comparisons) <= len(pairs)
    steps = [len(context.client.list_artifacts(run.info.run_id, "looks")) for run in monitors]
    assert 2 * 26 == sum(steps) == 2 * len(context.ledger.job_runs.all("monitor:volatility"))
    assert all(run.info.status == "FINISHED" and len(run.data.metrics) <= 12 for run in lines)
    assert {"advance", "hold", "inconclusive"} == {
        run.data.tags["verdict"] for run in _of(context, "tags.job = 'compare'")
    }


def test_a_look_that_acted_is_a_run_beneath_its_comparison_and_the_log_links_to_it(replay):
    context = replay[0].context
    acted = _of(context, "tags.acts = 'true' and tags.job = 'compare'")
    lines = {run.info.run_id: run for run in _of(context, "tags.series LIKE '%'")}

    assert acted
    for run in acted:
        line = lines[run.data.tags["mlflow.parentRunId"]]
        assert line.info.run_name.partition(":")[0] == run.info.run_name.partition(":")[0]
        assert {"compare.json", "findings.csv"} <= {
            file.path for file in context.client.list_artifacts(run.info.run_id)
        }


def test_the_line_of_a_comparison_is_a_point_a_week(replay):
    context = replay[0].context
    (run, *_) = [
        run for run in _of(context, "tags.series LIKE '%' and tags.job = 'compare'") if "gain" in run.data.metrics
    ]
    steps = [point.step for point in context.client.get_metric_history(run.info.run_id, "gain")]

    assert len(steps) >= 3
    assert {7} == {later - earlier for earlier, later in itertools.pairwise(steps)}
    always = {f"{role}.{name}" for role in ("champion", "challenger") for name in ("accuracy", "log_loss", "drawdown")}
    assert always <= set(run.data.metrics)


@pytest.mark.parametrize(
    ("entry", "parameters"),
    [
        ("monitor", {"model": "volatility", "as_of": "2007-11-30T22:00:00+00:00"}),
        ("compare", {"model": "volatility", "as_of": "2007-11-30T22:00:00+00:00"}),
        ("report", {"model": "volatility", "out": "{csv}.html", "as_of": "2007-11-30T22:00+00:00"}),
        (
            "train",
            {
                "model": "volatility",
                "source": "{csv}",
                "start": "2006-01-01T00:00+00:00",
                "as_of": "2007-11-30T22:00+00:00",
            },
        ),
        (
            "promote",
            {"model": "volatility", "version": "2", "reason": "agreed with risk", "as_of": "2007-11-30T22:00+00:00"},
        ),
        (
            "replay",
            {
                "models": "volatility",
                "source": "{csv}",
                "start": "2007-12-03T00:00+00:00",
                "end": "2007-12-20T00:00+00:00",
            },
        ),
    ],
)
def test_every_job_is_an_mlflow_entry_point(replay, environment, bars, tmp_path, entry, parameters):
    csv = tmp_path / "bars.csv"
    bars.to_csv(csv, index=False)
    given = [word for k, v in parameters.items() for word in ("-P", f"{k}={v.format(csv=csv)}")]
    command = ["mlflow", "run", ".", "-e", entry, "--env-manager", "local", *given]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)

    assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-4000:]
    if entry == "replay":  # each of its jobs has a run of its own
        return
    context = replay[0].context
    if entry == "compare":  # nothing is compared after the rollback
        assert "compare of volatility: nothing was decided" in done.stdout
        return
    assert f"{environment['MLFLOW_TRACKING_URI']}/#/" in done.stdout
    (run,) = _of(context, f"tags.`mlflow.project.entryPoint` = '{entry}'")
    assert ("FINISHED", True) == (run.info.status, run.info.run_name.startswith((entry, "promote v2 by")))
    (pointer,) = context.client.search_runs(["0"], f"tags.`mlflow.project.entryPoint` = '{entry}'")
    assert run.info.run_id in pointer.data.tags["mlflow.note.content"]


@pytest.fixture
def say(environment, monkeypatch, capsys):
    """`trader-mlops WORDS` in this process: (exit status, what it printed)."""
    for name, value in environment.items():
        if name.startswith(("MLOPS_", "MLFLOW_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["trader-mlops", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


def test_the_command_line_says_what_stands_and_why(replay, say):
    (status, standing), (explained, history) = say("status"), say("explain", "volatility")

    assert (0, 0) == (status, explained)
    assert "volatility" in standing
    assert "fills look wrong" in history
    assert "on call" in history


def test_the_command_line_tells_a_comparison_on_one_page(replay, say, tmp_path):
    status, said = say("report", "volatility", "--out", str(tmp_path / "page.html"), "--as-of", END.isoformat())
    told = (tmp_path / "page.html").read_text(encoding="utf-8")

    assert 0 == status
    assert "report" in {run.data.tags["job"] for run in _runs(replay[0].context)}
    assert any(label in said for label in ("HOLD", "INCONCLUSIVE", "UNKNOWN", "PROMOTE", "ROLLBACK"))
    assert "<h1>" in told


def _runs(context):
    experiment = context.client.get_experiment_by_name("volatility").experiment_id
    return context.client.search_runs([experiment], "tags.job = 'report'")


def test_the_command_line_promotes_rolls_back_and_refuses_in_one_line(replay, say):
    _, done = say("promote", "volatility", "3", "--reason", "agreed", "--actor", "quant")
    _, back = say("rollback", "volatility", "--reason", "not agreed", "--actor", "quant")
    status, refused = say("promote", "volatility", "99", "--reason", "typo", "--actor", "quant")

    assert "champion is v3 now" in done
    assert "left v3" in back
    assert 1 == status
    assert "RegistryError" in refused
    assert "Traceback" not in refused


def test_retention_is_one_command_and_keeps_the_logs(replay, say):
    """Last: all of the replay is older than two years."""
    status, said = say("prune")

    assert (0, True) == (status, "predictions" in said)
    ledger = replay[0].context.ledger
    assert ledger.telemetry.latest_event_time("volatility") is None
    assert len(ledger.registry.promotions("volatility")) >= 3
