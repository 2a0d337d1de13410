"""Every knob, in one frozen object, read once.

Read from `mlops.toml` in the working directory and from `MLOPS_*` variables, which win
(`MLOPS_MONITOR__WINDOW=2000`). Defaults are the user's where the user gave one.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from mlops.errors import SettingsError
from mlops.numerals import decimal, whole

TOML = "mlops.toml"
FORMER_WORKERS = ("train", "n_jobs")  # what `compute.workers` was called


def _numeral(model: type[BaseModel], value: object, info: ValidationInfo) -> object:
    """Refuse what is no number in plain digits: pydantic takes `1_000` and blanks in a text, and `true` for 1."""
    name = info.field_name or ""
    kind = model.model_fields[name].annotation
    if kind is not int and kind is not float:
        return value
    if isinstance(value, bool):
        raise ValueError(f"{name} must be a number, got {str(value).lower()}. Write 1.")
    if isinstance(value, str):
        return whole(name, value) if kind is int else decimal(name, value)
    return value


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _in_plain_digits(cls, value: object, info: ValidationInfo) -> object:
        return _numeral(cls, value, info)


class MonitorSettings(Section):
    window: int = Field(1000, ge=50, description="Predictions in the current window, or those of more bars.")
    window_bars: int = Field(60, ge=20, description="Bars that the current window has at least, however many units.")
    drift_threshold: float = Field(0.05, gt=0, lt=1, description="False-discovery rate over features.")
    confidence_threshold: float = Field(0.55, gt=0.5, lt=1, description="A prediction under it is a weak one.")
    false_alarms_per_year: float = Field(1.0, gt=0, description="Of the accuracy chart, while nothing is wrong.")
    cool_down_bars: int = Field(60, ge=0, description="Bars after a retrain that was compared, without another.")
    labels_late_bars: int = Field(5, ge=1, description="Bars after a label is due, from which on it is overdue.")


class ExperimentSettings(Section):
    split: float = Field(0.9, gt=0, lt=1, description="Share of units that the champion keeps beside one challenger.")
    shadow_bars: int = Field(20, ge=1, description="Bars that a challenger scores in shadow before it trades.")
    shadow_unreported: bool = Field(False, description="Let a challenger trade whose latency nobody reports.")
    ab_bars: int = Field(20, ge=0, description="Bars that it has traded a share of the units before it is promoted.")
    ab_units: int = Field(0, ge=0, description="Units that were assigned to it by then, at least.")
    min_samples: int = Field(1000, ge=1, description="Paired predictions before any verdict.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="1 - the chance to promote an equal challenger.")
    horizon_bars: int = Field(252, ge=10, description="A comparison ends after so many bars.")
    look_every: int = Field(5, ge=1, description="Bars between two looks at the evidence.")
    min_bars: int = Field(40, ge=10, description="Bars before the first look.")
    min_events: float = Field(5, ge=0, description="Independent events of the rarer label before anything is proven.")
    watch_confidence: float = Field(0.95, gt=0.5, lt=1, description="1 - the chance to roll back an equal champion.")
    watch_bars: int = Field(126, ge=10, description="How long a new champion is watched.")
    evidence: Literal["planned", "anytime"] = Field(
        "planned", description="What proves: a test at planned looks, or an e-value at every bar (needs more bars)."
    )
    watch_simulated: bool = Field(
        False, description="Lower the watch's threshold until its false alarms, simulated on the model's record, fit."
    )
    margin: float = Field(
        0.0002, ge=0, description="Nats a bar worth a change; 0.0002 is one point of accuracy on even odds."
    )
    drawdown_margin: float = Field(0.05, gt=0, lt=1, description="A challenger's book may fall so much deeper.")
    drawdown_volatility: float = Field(0.6, ge=0, le=2, description="Or as a book of so much more volatility.")
    drawdown_confidence: float = Field(0.95, gt=0.5, lt=1, description="That it does not.")
    common_units: float = Field(0.8, gt=0, le=1, description="Of the units of champion and challenger, at least.")
    cool_down_days: float = Field(7, ge=0, description="No job promotes so soon after the champion was moved.")
    transitions_per_day: int = Field(
        1, ge=1, description="A job promotes only under it; rollbacks and people are not held back."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.min_bars > self.horizon_bars:
            got = f"{self.min_bars} and {self.horizon_bars}"
            raise ValueError(f"min_bars must be at most horizon_bars, or no comparison is ever looked at, got {got}")
        return self


class LimitSettings(Section):
    """Hard limits on a champion that trades: crossed, it is rolled back at once."""

    drawdown: float = Field(0.15, gt=0, le=1, description="Deepest fall of its book since it became champion.")
    loss: float = Field(0.10, gt=0, le=1, description="Its book under where it began as champion.")
    error_rate: float = Field(0.02, ge=0, le=1, description="Share of bars that it failed to score.")
    latency_s: float = Field(1.0, gt=0, description="99th percentile of the time that a bar's scores took.")
    failures: int = Field(3, ge=1, description="Bars in a row that it failed to score.")
    window: int = Field(500, ge=50, description="Bars over which error rate and latency are taken.")
    every_s: float = Field(5.0, gt=0, le=3600, description="How often the service looks.")


class RiskLimit(Section):
    """A line that a person drew on one measure of risk."""

    measure: Literal["var", "es", "stress", "drawdown", "daily_loss", "gross", "net", "leverage", "concentration"]
    warning: float = Field(gt=0, description="Shown amber from here on.")
    soft: float = Field(gt=0, description="An alert from here on.")
    hard: float = Field(gt=0, description="Trading is reduced from here on.")
    owner: str = Field("desk", min_length=1, description="Who answers for it.")
    scope: str = Field("all", min_length=1, description="`all`, or a strategy's name.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.warning <= self.soft <= self.hard:
            got = f"{self.warning:g}, {self.soft:g}, {self.hard:g}"
            raise ValueError(f"warning, soft and hard of {self.measure} must not fall in this order, got {got}")
        return self


class RiskSettings(Section):
    """What may be lost, how that is measured, and what may be lost at most. Fractions of equity."""

    every_s: float = Field(1.0, gt=0, le=3600, description="How often the risk of all books is taken anew.")
    stale_s: float = Field(3.0, gt=0, description="A page that heard nothing for so long says so.")
    price_stale_s: float = Field(60.0, gt=0, description="A price older than this is shown as old.")
    price_confirm_s: float = Field(5.0, ge=0, le=3600, description="How long quotes stand before a jump counts.")
    price_jump_sigmas: float = Field(5.0, gt=0, le=50, description="Of a unit's own volatility: a larger move jumps.")
    price_jump_floor: float = Field(0.01, gt=0, lt=1, description="A smaller move is never a jump.")
    price_max_spread: float = Field(0.05, gt=0, lt=2, description="Ask less bid over their middle: wider is no price.")
    price_volatility: float = Field(0.02, gt=0, lt=1, description="A day, of a unit whose past is not known.")
    fill_most_times_equity: float = Field(
        20.0, gt=0, description="A fill worth more times its book's equity is doubtful: more than you ever trade."
    )
    clock: Literal["now", "ledger"] = Field("now", description="`ledger`: as of the newest row, to look at a replay.")
    currency: str = Field("USD", min_length=1, description="Of all books: what equity and losses are told in.")
    confidence: float = Field(0.99, gt=0.5, lt=1, description="Of the VaR and ES that limits are drawn on.")
    horizon_bars: int = Field(1, ge=1, description="Bars over which a loss is told.")
    history_bars: int = Field(2000, ge=250, description="Bars from which losses are estimated.")
    paths: int = Field(10_000, ge=100, description="Of a Monte Carlo simulation.")
    window_days: int = Field(60, ge=20, description="Of the rolling correlations.")
    breakdown: float = Field(0.5, gt=0, lt=2, description="Change of a pair's correlation that counts as one.")
    alarms_per_year: float = Field(1.0, gt=0, description="Of the correlation monitor, while nothing changes.")
    sizing: Literal["off", "on"] = Field("off", description="Whether the paper bot's targets are sized.")
    volatility_target: float = Field(0.15, gt=0, lt=2, description="Annual volatility that sizing aims at.")
    stand_in_volatility: float = Field(
        0.5, gt=0, lt=10, description="A year, of a unit without history; the most volatile unit's where that is more."
    )
    max_weight: float = Field(0.20, gt=0, le=1, description="Of one unit, of equity, where sizing is on.")
    factors: str = Field("", description="Bars of factors that exposure is told to each night: `factors`, or a file.")
    interest_rate: float = Field(0.0, ge=-0.1, lt=1, description="Continuously compounded, for options.")
    market: str = Field(
        "index:sp500", description="Stands for the S&P 500 in betas: a symbol of the bars, or a source; empty: none."
    )
    option_step: float = Field(
        0.01, ge=0, description="Step in which options are quoted: their prices are known to half of it. 0: exactly."
    )
    patience_s: float = Field(
        345_600.0,
        gt=0,
        description="A hard breach that lasts so long halts trading: two bars and a weekend.",
    )
    limits: tuple[RiskLimit, ...] = (
        RiskLimit(measure="var", warning=0.02, soft=0.03, hard=0.05),
        RiskLimit(measure="es", warning=0.03, soft=0.045, hard=0.07),
        RiskLimit(measure="drawdown", warning=0.08, soft=0.12, hard=0.20),
        RiskLimit(measure="daily_loss", warning=0.02, soft=0.03, hard=0.05),
        RiskLimit(measure="gross", warning=1.5, soft=2.0, hard=3.0),
    )

    @model_validator(mode="after")
    def _one_line_each(self) -> Self:
        lines = [(line.measure, line.scope) for line in self.limits]
        if twice := sorted({f"{measure} of {scope}" for measure, scope in lines if lines.count((measure, scope)) > 1}):
            raise ValueError(f"a measure must have one line in limits for each scope, got more of {', '.join(twice)}")
        return self


class BookBalance(Section):
    """What the account behind a bot's book had when the book began."""

    model: str = Field("", description="Empty: of every model.")
    book: str = Field("", description="Empty: every book.")
    amount: float = Field(gt=0, lt=9e10, description="In `risk.currency`.")


class BookSettings(Section):
    cash: float = Field(1_000_000.0, gt=0, lt=9e10, description="What every book starts with, in its one currency.")
    balances: tuple[BookBalance, ...] = Field(
        (), description="What accounts had when their books began, where no bot tells it: model, book, amount."
    )
    balance_tolerance_bps: float = Field(
        50.0, gt=0, description="Of the balance: one that departs further from what is expected is an alert."
    )
    slippage_bps: float = Field(0.0, ge=0, description="Of the traded value, which a virtual book pays beside the fee.")
    funding_bps: float = Field(
        0.0, description="Of a position's value, which a virtual long pays (a short gets) a bar."
    )
    twin_limit_bps: float = Field(100.0, gt=0, description="Of equity: a book that departs further is an alert.")
    twin_days: int = Field(30, ge=1, description="Over how long a bot's own book is held against its virtual twin.")


class TrainSettings(Section):
    trials: int = Field(12, ge=1)
    folds: int = Field(5, ge=2)
    embargo_bars: int = Field(5, ge=0)
    seed: int = 7
    learner: str = Field("gbm", description="How rows become a model: a name of `mlops.learn.learners.LEARNERS`.")
    min_bars: int = Field(200, ge=50, description="Fewer labelled bars than this are not trained on.")
    bar_delay_s: float = Field(
        60.0, ge=0, description="How long after a bar's close the bot decides: features see no bar that came later."
    )
    held_out_share: float = Field(
        0.2, gt=0, le=0.5, description="Of the bars, the newest, which nothing is chosen by: the monitor's reference."
    )
    held_out_bars: int = Field(
        250, ge=100, description="That it has at least; a shorter history has none, and the monitor says UNKNOWN."
    )
    max_auc: float = Field(0.9, gt=0.5, le=1, description="Out of fold; a better model is refused as a leak.")
    trusted: tuple[str, ...] = Field((), description="Strategies whose scores a person trusts, however good.")


class ComputeSettings(Section):
    """Where heavy work runs; the numbers do not depend on it."""

    workers: int = Field(1, ge=-1, description="Processes of one job at once; -1: one a core.")


class ServiceSettings(Section):
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = Field(
        ("127.0.0.1", "localhost", "testserver"), description="Host headers that are answered; `*.example.org` works."
    )
    port: int = Field(8100, ge=1, le=65535)
    webhook_secret: SecretStr = Field(SecretStr(""), description="Shared with MLflow; without it no hook is accepted.")
    webhook_secret_previous: SecretStr = Field(SecretStr(""), description="Accepted too, while a new one takes over.")
    webhook_tolerance_s: int = Field(300, ge=1, description="Older or newer deliveries are refused.")
    poll_s: float = Field(10.0, gt=0, description="How often service and bot look for what a lost hook told of.")
    max_body: int = Field(8 * 2**20, ge=1024, description="Bytes of a request to the bot API.")
    max_rows: int = Field(50_000, ge=1, description="Rows of a request to the bot API.")
    max_books: int = Field(50, ge=1, description="Books of one model that fills over HTTP may open.")
    max_books_all: int = Field(200, ge=1, description="Books of all models that fills over HTTP may open.")
    max_depth: int = Field(8, ge=2, description="Nesting of a request's JSON.")
    rate: int = Field(6000, ge=1, description="Requests a minute of one API key (or of one address without a key).")
    max_connections: int = Field(2000, ge=1, description="Open connections at once; strangers make room for keys.")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses of reverse proxies whose `X-Forwarded-For` is believed; by default nobody's is."
    )

    @model_validator(mode="after")
    def _few_proxies(self) -> Self:
        if everybody := [
            proxy for proxy in self.trusted_proxies if proxy.strip() == "*" or proxy.strip().endswith("/0")
        ]:
            rule = "trusted_proxies must name proxies"
            raise ValueError(f"{rule}, got {everybody[0]!r}, which is everybody. Give the address of each.")
        return self


class FeedSettings(Section):
    """The live feed and its pages."""

    max_clients: int = Field(500, ge=1, description="Open feeds at once; one more is refused.")
    resume: int = Field(120, ge=1, description="Changes kept for who comes back after a gap.")
    dead_s: float = Field(20.0, gt=0, description="A client that takes nothing for so long is dropped.")
    session_hours: float = Field(12.0, gt=0, description="Then a person logs in again.")
    origins: tuple[str, ...] = Field(
        (), description="Origins of pages elsewhere that may open the feed, `https://wall.example`; ours always may."
    )


class JobSettings(Section):
    source: str = Field("sp500", description="Where the bars of scheduled jobs come from: a data set or a file.")
    parallel: int = Field(1, ge=1, description="Runs at the same time, in one scheduler.")
    lease_s: float = Field(30.0, gt=0, description="A run whose lease was not renewed for so long is taken for dead.")
    max_attempts: int = Field(3, ge=1, description="Then it is a dead letter, with an alert.")
    back_off_s: float = Field(60.0, gt=0, description="Before the second attempt; doubles.")
    time_limit_s: float = Field(3600.0, gt=0, description="Longer runs are killed with their whole process group.")
    memory_limit_mib: int = Field(4096, ge=256, description="Of one run, all its processes together.")


class BotSettings(Section):
    spool_mib: int = Field(1024, ge=1, description="Disk that predictions may take while the ledger is away.")
    shadow_budget_ms: float = Field(50.0, gt=0, description="A shadow slower than this is cut off for a while.")
    silent_bars: int = Field(2, ge=1, description="Bars of its own clock that a bot misses: then it is silent.")
    silent_late_s: float = Field(300.0, ge=0, description="How late a bar may be that is not missing yet.")
    silent_s: float = Field(
        345_600.0, gt=0, description="Silent after so long without a clock: it never spoke, or for less than a week."
    )


class HookSettings(Section):
    """One receiver of outgoing hooks."""

    name: str = Field(min_length=1)
    url: str
    secret: SecretStr
    events: tuple[Literal["transition", "trading_state", "alert"], ...] = ("transition", "trading_state", "alert")


class OutgoingSettings(Section):
    hooks: tuple[HookSettings, ...] = ()
    allow_hosts: tuple[str, ...] = Field((), description="Host names that may resolve to private addresses.")
    timeout_s: float = Field(10.0, gt=0)
    max_attempts: int = Field(12, ge=1, description="Then the delivery is a dead letter, with an alert.")
    max_wait_s: float = Field(3600.0, gt=0, description="Longest wait between two attempts.")

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [hook.name for hook in self.hooks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"hooks must have names of their own, got {', '.join(twice)} more than once")
        return self


class StorageSettings(Section):
    archive_after_hours: int = Field(48, ge=1, description="Hours closed longer ago go to Parquet.")
    ballast_mib: int = Field(16, ge=0, description="Disk kept aside so that a full disk can be tidied.")
    min_free_mib: int = Field(64, ge=0, description="Less free disk than this is reported as degraded.")


class Settings(BaseSettings):
    """All settings. Frozen; unknown names are refused."""

    model_config = SettingsConfigDict(
        env_prefix="MLOPS_",
        env_nested_delimiter="__",
        toml_file=TOML,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _in_plain_digits(cls, value: object, info: ValidationInfo) -> object:
        return _numeral(cls, value, info)

    @model_validator(mode="before")
    @classmethod
    def _former_names(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Settings from before that say `train.n_jobs` mean `compute.workers`."""
        section, name = FORMER_WORKERS
        if not isinstance(former := given.get(section), dict) or name not in former:
            return given
        rest = {key: value for key, value in former.items() if key != name}
        return {**given, section: rest, "compute": {"workers": former[name], **given.get("compute", {})}}

    state: Path = Field(Path(".state/live"), description="Folder of everything that a set-up keeps.")
    ledger_url: str = Field("", description="Empty: SQLite in the state folder.")
    tracking_uri: str = Field("http://127.0.0.1:5000", description="Of MLflow; on loopback `make up` runs it.")
    tracking_auth: bool = Field(True, description="`make up` runs MLflow with accounts: only the platform writes.")
    tracking_writers: tuple[str, ...] = Field(
        (), description="Accounts of MLflow, beside the platform's own, that may write its models and experiments."
    )
    retention_days: int = Field(730, ge=1, description="Predictions, outcomes, quotes older than this may be pruned.")
    on_manual_move: Literal["adopt", "undo", "keep"] = Field(
        "adopt",
        description="A champion moved by hand: adopt it if the guard passes, else undo; undo always; or adopt it "
        "and keep it with an alert even if the gates did not pass.",
    )
    monitor: MonitorSettings = MonitorSettings()
    experiment: ExperimentSettings = ExperimentSettings()
    limits: LimitSettings = LimitSettings()
    risk: RiskSettings = RiskSettings()
    books: BookSettings = BookSettings()
    train: TrainSettings = TrainSettings()
    compute: ComputeSettings = ComputeSettings()
    service: ServiceSettings = ServiceSettings()
    feed: FeedSettings = FeedSettings()
    jobs: JobSettings = JobSettings()
    bot: BotSettings = BotSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    storage: StorageSettings = StorageSettings()

    @property
    def ledger(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or f"sqlite:///{(self.state / 'ledger.db').absolute()}"

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read() -> Settings:
    """The settings of this process.

    Raises
    ------
    SettingsError
        A name is unknown or a value out of range (the message names each), or the file can not be read.
    """
    try:
        return Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{TOML} must be TOML in UTF-8, got {error}. Mend that line.") from error
    except OSError as error:
        raise SettingsError(f"{TOML} must be a readable file, got {error}. Mend its place or mode.") from error
    except ValidationError as error:
        rows = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e.get('input')!r})" for e in error.errors())
        raise SettingsError(f"settings must be valid, got {rows}. Mend mlops.toml or the MLOPS_ variable.") from error
