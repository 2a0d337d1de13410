"""The whole loop on real data, from an empty folder: `make demo`.

A real MLflow server and the platform's service on loopback; champions of both strategies trained and registered; real
history from July 2007 on replayed through the paper bot, with the shipped gates and the shipped schedule. Two things
are arranged, and said: the first volatility champion knows only 1992, so that there is something better to find; and in
2009 a person forces through a model whose feed was broken, so that there is something to roll back.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Column, Table

from jobs import promote, schedule, train
from jobs.cli.number_options import whole
from jobs.cli.terminal import start_job
from jobs.context import Context, opened
from jobs.live import risk as live
from jobs.replay import Event, Replay
from jobs.stack.servers import mlflow_server, own_secret, platform_service
from mlops.errors import SettingsError
from mlops.experiment import ab
from mlops.io import bar_feed, logs, private_files, record
from mlops.io.ledger import ComparisonRow
from mlops.learn import STRATEGIES, strategy_of
from mlops.monitor import performance
from mlops.settings import ComputeSettings, RiskSettings, ServiceSettings, Settings
from mlops.types import ModelRef
from registry_hooks.aliases import COMPARED

START, END = datetime(2007, 7, 2, tzinfo=UTC), datetime(2009, 4, 15, tzinfo=UTC)
OLD = (datetime(1992, 1, 1, tzinfo=UTC), datetime(1993, 1, 1, tzinfo=UTC))
FORCED = datetime(2009, 2, 16, 12, tzinfo=UTC)
MOST_RUNS = 100  # in MLflow, beside trainings and their trials
LEAST_BARS = 100  # of a comparison that the summary counts
OUTAGE = 5  # bars: the broken feed delivers one week and is stuck the next

console = Console(width=max(100, min(150, Console().width)), emoji=False)


@dataclass
class Story:
    """What happened, as the replay tells it."""

    began: float = field(default_factory=time.monotonic)
    events: list[Event] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        self.events.append(event)
        console.print(
            f"[dim]{time.monotonic() - self.began:5.0f} s[/]  {event.at:%Y-%m-%d}  [bold]{event.model:<10}[/] "
            f"{event.kind:<9} {event.text}",
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - self.began:5.0f} s[/]  {text}", soft_wrap=True)


def broken(bars: pd.DataFrame) -> pd.DataFrame:
    """What a feed delivers that is down every other week: the last close again and again, then a jump."""
    wide = bars.pivot_table(index="event_time", columns="symbol", values="close")
    down = (np.arange(len(wide)) // OUTAGE) % 2 == 1
    wide.loc[down] = np.nan
    stuck = wide.ffill()
    keys = pd.MultiIndex.from_frame(bars[["event_time", "symbol"]])
    return bars.assign(close=stuck.stack().reindex(keys).to_numpy())


def first_champions(context: Context, bars: pd.DataFrame, story: Story) -> None:
    """Train, register and promote the models that the bot starts with."""
    notes = {
        "volatility": (OLD[0], OLD[1], "trained on 1992 alone: little and old data, on purpose"),
        "direction": (None, START, "trained on all that was known at the start"),
    }
    for model, (since, until, note) in notes.items():
        with logs.bind(correlation_id=f"demo:{model}:first"):
            ref = train.train(context, strategy_of(model), bars, as_of=until, start=since, note=note)
            promote.promote(context, ref, reason=f"first champion, {note}", actor="demo", at=START)
        story.say(f"{model}: first champion {ref}, {note}")


def force_broken(bars: pd.DataFrame, story: Story) -> tuple[datetime, object]:
    """A person forces a model through whose feed was broken."""

    def act(context: Context, at: datetime) -> None:
        note = "its feed was stuck every other week"
        known = broken(bars[bars.known_at <= at])
        with logs.bind(correlation_id=f"demo:volatility:forced:{at.isoformat()}"):
            ref = train.train(context, strategy_of("volatility"), known, as_of=at, start=None, note=note)
            promote.promote(context, ref, reason=f"forced by hand past the gates ({note})", actor="a person", at=at)

    return FORCED, act


def checks(replay: Replay) -> dict[str, bool]:
    """What must have happened for the demo to have shown the loop."""
    ledger = replay.context.ledger
    log = {model: ledger.registry.promotions(model) for model in replay.models}
    volatility, direction = log["volatility"], log["direction"]
    gated = [e for e in volatility if e.kind == "promote" and e.actor == "jobs.compare"]
    champions = {entry.to_version for entry in volatility}
    worse = [t for t in ledger.registry.comparisons("volatility") if t.kind in COMPARED and _worse(replay.context, t)]
    swapped = {b.model: b.bot.champion for b in replay.bots.values()}
    return {
        "predictions and matured outcomes are stored": all(
            len(ledger.telemetry.matured(m, start=START, end=END, as_of=END)) > 1000 for m in replay.models
        ),
        "a better volatility challenger was promoted on evidence": bool(gated),
        "newer volatility challengers that were worse were not promoted": bool(worse)
        and not {t.challenger for t in worse} & champions,
        "the forced model was rolled back by its watch or a hard limit": any(
            e.kind == "rollback" and e.actor in ("jobs.compare", "jobs.limits") and e.created_at > FORCED
            for e in volatility
        ),
        "every move reached the bot by webhook": replay.hooks_lost == 0 and replay.hooks_heard >= 3,
        "the bot trades what the registry says": swapped == {m: ledger.registry.champion(m) for m in replay.models},
        "nothing was promoted for direction": len(direction) == 1,
        "MLflow is short enough to read": runs(replay.context) <= MOST_RUNS,
        "what all books may lose is told, by whom, and judged": _risk_told(replay.context),
    }


def _risk_told(context: Context) -> bool:
    """Whether the page has a VaR that its positions add up to, and a backtest."""
    now = live.Live(context).look(live.clock(context, END)).state
    parts = sum(row.component_var or 0.0 for row in now.positions.values())
    var = now.kpi.var.value
    return var is not None and math.isclose(var, parts, rel_tol=1e-6) and now.backtest.n > 0 and len(now.stress) > 0


def summary(replay: Replay, passed: dict[str, bool], uri: str, story: Story) -> None:
    """What was decided, why, and where the evidence is."""
    columns = ("model", "when", "what", Column("why", overflow="fold"))  # no link is cut
    table = Table(*columns, title="\nWhat was decided", title_justify="left", show_lines=True)
    for model in replay.models:
        for entry in replay.context.ledger.registry.promotions(model):
            move = f"{entry.kind} v{entry.from_version or '-'} → v{entry.to_version}"
            link = record.link(replay.context.client, model, entry.evidence_run)
            table.add_row(model, f"{entry.created_at:%Y-%m-%d}", move, f"{entry.reason}\n[dim link={link}]{link}[/]")
        for row in replay.context.ledger.registry.comparisons(model):
            if row.kind == "compare" and row.challenger != replay.context.ledger.registry.champion(model):
                pair, verdict = (f"v{row.challenger} against v{row.champion}", row.verdict or "still compared")
                table.add_row(
                    model, f"{row.started_at:%Y-%m-%d}", f"not {pair}", f"{_cost(replay.context, row)} ({verdict})"
                )
    console.print(table)
    for model in replay.models:
        console.print(f"  {model}: {_skill(replay.context, model)}")
    for question, ok in passed.items():
        console.print(f"  {'[green]yes[/]' if ok else '[red]NO [/]'}  {question}")
    console.print(
        f"\nMLflow: {uri}  (press “Model training” on its first page)   {time.monotonic() - story.began:.0f} s"
    )


def runs(context: Context) -> int:
    """Number of runs in MLflow beside trainings and their trials: what a person looks through."""
    experiments = [experiment.experiment_id for experiment in context.client.search_experiments()]
    every = context.client.search_runs(experiments, max_results=10_000)
    return sum(run.data.tags.get("job") not in ("train", "trial") for run in every)


def _skill(context: Context, model: str) -> str:
    """Whether the champion that stands knows anything, on all that it predicted and that has matured."""
    champion = ModelRef(model, context.ledger.registry.champion(model) or 0)
    matured = context.ledger.telemetry.matured(model, start=START, end=END, as_of=END, version=champion.version)
    findings = performance(matured, base_rate=context.bundle(champion).meta["base_rate"])
    return f"{champion}, " + next(finding.note for finding in findings if finding.name == "skill")


def _gains(context: Context, comparison: ComparisonRow) -> pd.Series:
    """What the challenger gained on the champion, in log-loss a bar."""
    until = comparison.ended_at or END
    matured = context.ledger.telemetry.matured(comparison.model, start=comparison.started_at, end=until, as_of=until)
    return ab.pairs(matured, champion=comparison.champion, challenger=comparison.challenger)["difference"]


def _worse(context: Context, comparison: ComparisonRow) -> bool:
    """Whether newest-wins would have lost by it, over enough bars to say so."""
    gains = _gains(context, comparison)
    return len(gains) >= LEAST_BARS and bool(gains.mean() < 0)


def _cost(context: Context, comparison: ComparisonRow) -> str:
    """What taking the newer model would have cost, in log-loss a bar."""
    gains = _gains(context, comparison)
    if gains.empty:
        return "no matured bar yet"
    word = "gained" if gains.mean() > 0 else "lost"
    return f"newest-wins would have {word} {abs(gains.mean()):.4f} log-loss a bar over {len(gains)} bars"


@contextmanager
def stage(state: Path, port: int, service_port: int) -> Iterator[tuple[Context, str]]:
    """Servers and an open context, all in `state`, all on loopback."""
    secret = own_secret(state, "webhook")
    with mlflow_server(state, port) as uri:
        service = ServiceSettings(port=service_port, webhook_secret=secret)
        compute = ComputeSettings(workers=min(2, os.cpu_count() or 1))
        looked = RiskSettings(clock="ledger")  # the page shows the replay's last bar as now
        settings = Settings(
            state=state, tracking_uri=uri, tracking_auth=False, service=service, compute=compute, risk=looked
        )
        environment = {
            "MLOPS_STATE": str(state.absolute()),
            "MLOPS_TRACKING_URI": uri,
            "MLOPS_TRACKING_AUTH": "false",
            "MLFLOW_TRACKING_URI": uri,  # MLflow leaves the last server of this process there
            "MLOPS_SERVICE__PORT": str(service_port),
            "MLOPS_RISK__CLOCK": "ledger",
            "MLOPS_SERVICE__WEBHOOK_SECRET": secret,
        }
        os.environ.update(environment)  # what this process starts (mlflow run, say) sees the same set-up
        with platform_service(state, service_port, environment), opened(settings) as context:
            yield context, uri


def play(context: Context, story: Story) -> Replay:
    """The story itself: champions, then two years."""
    bars = bar_feed.load_bars("sp500").frame
    first_champions(context, bars, story)
    replay = Replay(context, tuple(STRATEGIES), bars, [force_broken(bars, story)], story.hear)  # type: ignore[list-item]
    replay.run(START, END)
    at = live.clock(context, END)
    story.say("risk of all books: the VaR's model is chosen among thirteen and judged, scenarios are run")
    for name in ("risk", "stress"):
        schedule.run(schedule.ENTRIES[name], context, "", at, bars=bars)
    return replay


def _fresh(state: Path) -> None:
    """An empty folder. One that the demo did not make is never deleted."""
    mark = state / ".demo"
    if state.exists() and any(state.iterdir()) and not mark.exists():
        raise SettingsError(f"state folder must be empty or an earlier demo's, got {state}. Choose another.")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    mark.touch()


def main(
    state: Path = Path(".state/demo"),
    port: Annotated[
        int, typer.Option(help="Of MLflow; the service takes the next one.", parser=whole(1, 65_534))
    ] = 5000,
    leave: Annotated[
        bool, typer.Option("--exit", help="End by itself; status 0 only if the whole loop closed.")
    ] = False,
) -> None:
    _fresh(state)
    private_files.umask()
    logs.configure(state / "logs" / "demo.jsonl")
    story = Story()
    story.say("starting MLflow and the platform's service")
    with stage(state, port, port + 1) as (context, uri):
        story.say(
            f"MLflow is at {uri}, open to this machine, as nothing here is worth an account: press “Model training”"
        )
        replay = play(context, story)
        passed = checks(replay)
        summary(replay, passed, uri, story)
        console.print(f'{{"demo": {{"runs": {runs(context)}}}}}', soft_wrap=True, highlight=False)
        if leave:
            sys.exit(0 if all(passed.values()) else 1)
        key = context.ledger.api_keys.add("demo", ("risk:read",), datetime.now(UTC))
        page = f"http://127.0.0.1:{port + 1}/risk"
        console.print(f"Risk of all books: {page}, with the key [bold]{key}[/]", soft_wrap=True, highlight=False)
        shell = f'eval "$(MLOPS_STATE={state} .venv/bin/trader-mlops environment)"'
        console.print(f"In another shell: {shell}, then `trader-mlops status`.", soft_wrap=True, highlight=False)
        console.print("Up for browsing until Ctrl-C.")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    start_job(main)
