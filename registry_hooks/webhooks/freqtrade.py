"""freqtrade's webhook as it is: a flat dictionary of strings that its user laid out, in one of three formats.

It is not signed, has no delivery id and no version of its own; a lost one is lost (freqtrade drops a message after its
retries). So every message is kept raw first, and only what is beyond doubt becomes a row: a fill with trade, pair,
direction, amount and price. The one thing that carries a model through freqtrade is the free text `enter_tag`; we read
`<model>@<version>|<arm>|<prediction id>`, and a trade without it is kept under UNTAGGED, never guessed to a version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qsl

import orjson
import pandas as pd
import structlog

from mlops.errors import DataError
from mlops.io.ledger import Ledger
from mlops.numerals import decimal
from mlops.types import FILL_COLUMNS
from registry_hooks.refused_fills import refuse_fills
from registry_hooks.unknown_models import UnknownModels

log = structlog.get_logger()
UNTAGGED, NO_VERSION = "untagged", 0
FILLS = ("entry_fill", "exit_fill")
BALANCE = "balance="  # how a strategy's message begins that says what the account is worth
# What else freqtrade sends (enums/rpcmessagetype.py): kept raw, nothing follows.
NOTES = (
    *("status", "warning", "exception", "startup", "entry", "entry_cancel", "exit", "exit_cancel"),
    *("protection_trigger", "protection_trigger_global", "strategy_msg", "whitelist", "analyzed_df", "new_candle"),
)
TAG = re.compile(r"(?P<model>[^@|\s][^@|]*)@(?P<version>[1-9][0-9]{0,8})\|(?P<arm>[^|]*)\|(?P<prediction>.*)")
BEGIN = datetime(2009, 1, 3, tzinfo=UTC)  # nothing that freqtrade trades is older than Bitcoin's first block
CLOCKS = timedelta(days=1)  # how far a bot's clock may go ahead of ours: fills are rows to keep, not to be strict about
GRACE = timedelta(seconds=10)  # a younger message is still being followed by the request that brought it
TIMES_OF_ROWS = ("event_time", "known_at")
MAX_FIELDS = 100  # a message has about thirty
FORMATS = {"application/json": "json", "application/x-www-form-urlencoded": "form", "text/plain": "raw"}
PRICES = {
    "entry_fill": ("rate", "open_rate", "order_rate", "limit"),
    "exit_fill": ("rate", "close_rate", "order_rate", "limit"),
}
TIMES = {"entry_fill": ("ts", "open_date"), "exit_fill": ("ts", "close_date")}
# What tells two fills of a trade apart, whatever the user's layout has of it: freqtrade sends no order id. The stake
# grows with each entry, the realised profit changes with each partial exit.
IDENTITY = ("stake_amount", "cumulative_profit", "profit_amount", "close_date", "ts", "sub_trade", "order")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it arrived. `bot` is the label of the key that came with it."""

    bot: str
    kind: str
    body: bytes

    @classmethod
    def of(cls, bot: str, content_type: str, body: bytes) -> Self:
        """Read by its content type; an unknown one is taken for raw."""
        return cls(bot, FORMATS.get(content_type.partition(";")[0].strip().lower(), "raw"), body)

    @property
    def delivery_id(self) -> str:
        """The same message of the same bot is one delivery: freqtrade repeats it to the byte."""
        return f"freqtrade:{self.kind}:{hashlib.sha256(self.body).hexdigest()}:{self.bot}"


def receive(ledger: Ledger, letter: Letter, at: datetime, unknown: UnknownModels | None = None) -> dict[str, Any]:
    """Keep the message, then draw what follows from it; `effect` is fill, balance, kept or rejected.

    `unknown`: what a process keeps of the names that it looked up, so that each is looked up once.
    """
    if not ledger.deliveries.add(letter.delivery_id, "freqtrade", letter.body, at):
        return {"accepted": False}
    return {"accepted": True, "effect": _follow(ledger, letter, at, unknown or UnknownModels(ledger))}


def catch_up(ledger: Ledger, at: datetime) -> int:
    """Follow the messages that a crash left kept but not followed; how many there were."""
    left, unknown = ledger.deliveries.unsettled("freqtrade", before=at - GRACE), UnknownModels(ledger)
    for delivery in left:
        _, kind, _, bot = delivery.delivery_id.split(":", 3)
        _follow(ledger, Letter(bot, kind, delivery.body), delivery.received_at, unknown)
    return len(left)


def fields(letter: Letter) -> dict[str, str]:
    """The message's dictionary; what freqtrade renders as "None" or as nothing is left out.

    Raises
    ------
    DataError
        The body is not what its format says.
    """
    try:
        message = READERS[letter.kind](letter.body.decode())
    except ValueError as error:  # what orjson, parse_qsl and decode raise
        raise DataError(f"body must be a freqtrade message ({letter.kind}), got {error}. Check `format`.") from error
    if not (isinstance(message, dict) and all(isinstance(value, str) for value in message.values())):
        raise DataError("message must be one flat object of strings, got another. Send what freqtrade sends.")
    if len(message) > MAX_FIELDS:
        raise DataError(f"message must have at most {MAX_FIELDS} fields, got {len(message)}. Check the layout.")
    return {key: value for key, value in message.items() if value not in ("", "None")}


def kind_of(message: Mapping[str, str]) -> str:
    """The type by its modern name: `webhookbuyfill`, `sell_fill` and `RPCMessageType.EXIT_FILL` are understood.

    Raises
    ------
    DataError
        No type, or one that freqtrade does not send.
    """
    given = message.get("type") or message.get("event") or ""
    plain = given.rpartition(".")[2].lower().removeprefix("webhook").replace("_", "")
    plain = re.sub("^buy", "entry", re.sub("^sell", "exit", plain))
    known = {kind.replace("_", ""): kind for kind in (*FILLS, *NOTES)}
    if plain not in known:
        raise DataError(f"type must be one that freqtrade sends, got {given[:40]!r}. Lay out `type` in the config.")
    return known[plain]


def fill(message: Mapping[str, str], bot: str, received_at: datetime) -> dict[str, Any]:
    """One row of `fills`. Bought is positive: an entry long, an exit short.

    A missing time is the time of arrival: freqtrade sends as it fills. So is the time of a further entry, because
    freqtrade's `open_date` is the trade's, not the order's.

    Raises
    ------
    DataError
        A field that a fill cannot do without is missing or cannot be read.
    """
    kind = kind_of(message)
    if kind not in FILLS:
        raise DataError(f"message must be of a fill, got {kind}. Only {' and '.join(FILLS)} are.")
    short = _direction(message)
    amount, price = _positive(message, ("amount",)), _positive(message, PRICES[kind])
    trade, pair = _text(message, "trade_id"), _text(message, "pair")
    model, version = tagged(message.get("tag") or message.get("enter_tag") or message.get("buy_tag") or "")
    again = kind == "entry_fill" and message.get("sub_trade") == "True"
    parts = [bot, trade, kind, pair, str(short), repr(amount), repr(price), *(message.get(f, "") for f in IDENTITY)]
    row = {
        "fill_id": "freqtrade:" + hashlib.sha256(orjson.dumps(parts)).hexdigest(),
        "model": model,
        "version": version,
        "book": _book(message, bot),
        "unit": pair,
        "event_time": received_at if again else _time(message, TIMES[kind], received_at),
        "quantity": amount if (kind == "entry_fill") != short else -amount,
        "price": price,
        "fee": _fee(message, amount * price),
    }
    return {name: row[name] for name in FILL_COLUMNS}


def balance(message: Mapping[str, str], bot: str, models: Sequence[str], received_at: datetime) -> dict[str, Any]:
    """One row of `balances`, from a strategy's `balance=1000 at=<ISO 8601> [flow=-500] [model=<model>]`.

    Parameters
    ----------
    models : sequence of str
        Those that the bot's trades followed so far; the only one is meant where the message names none.

    Raises
    ------
    DataError
        A member is missing, unknown or cannot be read, or it is not clear which model is meant.
    """
    pairs = [part.partition("=") for part in message.get("msg", "").split()]
    values = {name: value for name, _, value in pairs}
    if len(values) != len(pairs) or not {"balance", "at"} <= values.keys() <= {"balance", "at", "flow", "model"}:
        raise DataError(f"balance must be told with at=, and flow= and model= at most, got {message.get('msg')!r}.")
    if "model" not in values and len(models) != 1:
        raise DataError(f"balance must name its model, got a bot that follows {list(models)}. Add model=.")
    return {
        "model": values.get("model") or models[0],
        "book": bot,
        "event_time": _time(values, ("at",), received_at),
        "known_at": max(received_at, _time(values, ("at",), received_at)),
        "amount": decimal("balance", values["balance"]),
        "flow": decimal("flow", values.get("flow", "0")),
    }


def tagged(tag: str) -> tuple[str, int]:
    """Model and version of an `enter_tag`; UNTAGGED where it is not ours."""
    match = TAG.fullmatch(tag) if tag.isprintable() else None
    return (match["model"], int(match["version"])) if match else (UNTAGGED, NO_VERSION)


def _tell_unknown(unknown: UnknownModels, row: dict[str, Any], letter: Letter, at: datetime) -> None:
    """Tell of a model that a trade or balance names and nobody trained; one without a tag names none."""
    if row["model"] != UNTAGGED:
        unknown.tell({name: [value] for name, value in row.items()}, f"freqtrade:{letter.bot}", at)


def _follow(ledger: Ledger, letter: Letter, at: datetime, unknown: UnknownModels) -> str:
    effect = "kept"
    try:
        message = fields(letter)
        if kind_of(message) in FILLS:
            row = fill(message, letter.bot, at)
            ledger.telemetry.add_fills(_frame(row))
            _tell_unknown(unknown, row, letter, at)
            effect = "fill"
        elif kind_of(message) == "strategy_msg" and message.get("msg", "").startswith(BALANCE):
            models = [model for model in ledger.risk.traded_models() if letter.bot in ledger.books.traded_books(model)]
            row = balance(message, letter.bot, [model for model in models if model != UNTAGGED], at)
            ledger.balances.add(_frame(row), "freqtrade")
            _tell_unknown(unknown, row, letter, at)
            effect = "balance"
    except DataError as error:
        log.warning("freqtrade message not understood", bot=letter.bot, error=str(error))
        text = letter.body.decode(errors="backslashreplace").replace("\x00", "\\x00")
        refuse_fills(ledger, f"freqtrade:{letter.bot}", [(text, str(error))], at)
        effect = "rejected"
    # Without a model: these are not hints, and a bot that follows a model need not hear of them.
    ledger.deliveries.settle(letter.delivery_id, model="", alias="", version=None, at=at)
    return effect


def _frame(row: Mapping[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame([row])
    return frame.assign(**{name: pd.to_datetime(frame[name], utc=True) for name in TIMES_OF_ROWS if name in frame})


def _form(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=MAX_FIELDS))


def _raw(text: str) -> Any:
    """JSON, or a line `key=value` each."""
    if text.lstrip().startswith("{"):
        return orjson.loads(text)
    lines = [line.partition("=") for line in text.splitlines() if line.strip()]
    return {key.strip(): value.strip() for key, _, value in lines}


READERS: dict[str, Callable[[str], Any]] = {"json": orjson.loads, "form": _form, "raw": _raw}


def _text(message: Mapping[str, str], name: str) -> str:
    value = message.get(name, "")
    if not value or not value.isprintable():
        raise DataError(f"{name} must be given, got {value!r}. Lay it out in the config.")
    return value


def _book(message: Mapping[str, str], bot: str) -> str:
    """The book of the key: a message that names another would write into it."""
    named = message.get("book", bot)
    if named != bot:
        raise DataError(f"book must be that of the key, {bot!r}, got {named[:40]!r}. Make a key for each book.")
    return bot


def _direction(message: Mapping[str, str]) -> bool:
    """Whether short."""
    direction = message.get("direction", "").lower()
    if direction not in ("long", "short"):
        raise DataError(f"direction must be Long or Short, got {direction!r}. Lay out `direction` in the config.")
    return direction == "short"


def _positive(message: Mapping[str, str], names: tuple[str, ...]) -> float:
    name = next((name for name in names if name in message), names[0])
    value = decimal(name, message.get(name, ""))
    if value <= 0:
        raise DataError(f"{name} must be positive, got {value}. The direction is in `direction`.")
    return value


def _fee(message: Mapping[str, str], notional: float) -> float:
    """freqtrade sends none; a layout may have `fee` (quote currency) or `fee_rate` (a fraction)."""
    if "fee" in message:
        return decimal("fee", message["fee"])
    return decimal("fee_rate", message["fee_rate"]) * notional if "fee_rate" in message else 0.0


def _time(message: Mapping[str, str], names: tuple[str, ...], received_at: datetime) -> datetime:
    text = next((message[name] for name in names if name in message), None)
    if text is None:
        return received_at
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"time must be ISO 8601, got {text[:40]!r}. Lay it out as the documentation does.") from error
    when = when.replace(tzinfo=when.tzinfo or UTC)  # freqtrade's times are UTC, with or without saying so
    if not BEGIN <= when <= received_at + CLOCKS:
        raise DataError(f"time must lie after 2009 and not after the arrival, got {text}. Check the bot's clock.")
    return when
