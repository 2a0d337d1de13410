"""What the OpenAPI description says, put to the test: requests that fit it, and requests that do not."""

import json
from datetime import UTC, datetime

import hypothesis
import jsonschema_rs
import numpy as np
import pytest
import schemathesis
from mlflow import MlflowClient
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from mlops.io.ledger import Ledger
from mlops.settings import ServiceSettings, Settings
from mlops.types import Role
from mlops.web import app
from registry_hooks.aliases import Registry
from registry_hooks.bot.client import Scored

T0 = datetime(2026, 3, 2, 21, tzinfo=UTC)
ROWS = tuple(f"/v1/{kind}" for kind in ("predictions", "outcomes", "fills", "quotes", "balances"))
SCORE = "/v1/models/{model}/score"
TIMES = ("event_time", "known_at", "matures_at")
BY_ROW = [negative_data_rejection]  # a bad row is set aside; the request is good
BY_MODEL = [positive_data_acceptance]  # its features are the model's, which no schema can say
MANY = hypothesis.settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


class Anything:
    """A model of two features."""

    names = ("a", "b")

    def score(self, units, values, *, event_time, known_at, matures_at, keys=None):
        return Scored(tuple(units), np.full(len(units), 0.5), np.full(len(units), 1), {}, {1: Role.CHAMPION})


class Stage:
    """Where the application stands while a test runs: requests are made up before any test begins."""

    app = None

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


def described():
    """The description, read by schemathesis; it needs neither a ledger nor MLflow."""
    generation = GenerationConfig(allow_extra_parameters=False, with_security_parameters=False)
    config = SchemathesisConfig(seed=7, projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    empty = app.build(Registry(None, None, None), Settings(), lambda: T0)
    found = schemathesis.openapi.from_asgi("/openapi.json", empty, config=config)
    found.app = STAGE
    return found


@schemathesis.serializer("application/x-ndjson")
def line_by_line(_, value):
    """How schemathesis writes NDJSON; what is no list goes as one line."""
    rows = value if isinstance(value, list) else [value]
    return "".join(json.dumps(row) + "\n" for row in rows).encode() or b"\n"


STAGE = Stage()
API = described()
SCHEMAS = API.raw_schema["components"]["schemas"]


@pytest.fixture(scope="module", autouse=True)
def key(tmp_path_factory):
    """A key to the application, which has a ledger of its own and a champion of model `m`."""
    folder = tmp_path_factory.mktemp("fuzz")
    with Ledger(f"sqlite:///{folder / 'ledger.db'}") as ledger:
        client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        client.create_registered_model("m")
        why = {"actor": "t", "reason": "t", "evidence_run": "", "correlation_id": "", "at": T0}
        ledger.registry.append_promotion("m", expected=None, to=1, kind="promote", **why)
        settings = Settings(service=ServiceSettings(rate=10**6))
        STAGE.app = app.build(
            Registry(client, ledger, folder), settings, lambda: datetime.now(UTC), {"m": Anything()}.get
        )
        yield {"Authorization": f"Bearer {ledger.api_keys.add('fuzz', ['admin'], T0)}"}


@API.include(path_regex=r"^/(healthz|readyz|metrics|v1/rejections|v1/models/.*/assignment)$").parametrize()
@MANY
def test_readings_answer_as_described(case, key):
    case.call_and_validate(headers=key)


@API.include(path=list(ROWS)).parametrize()
@MANY
def test_every_row_is_counted_and_none_that_breaks_its_schema_is_taken(case, key):
    if isinstance(case.body, list) and case.meta.generation.mode.is_positive:
        case.body = [row | {name: T0.isoformat() for name in row if name in TIMES} for row in case.body]
    answer = case.call_and_validate(headers=key, excluded_checks=BY_ROW)
    if answer.status_code != 200 or not isinstance(case.body, list):
        return

    found = answer.json()
    refused = {one["row"] for one in found["rejected"]}

    assert len(case.body) == found["stored"] + found["known"] + len(refused)
    contract = SCHEMAS[case.path.removeprefix("/v1/").removesuffix("s").capitalize()]
    fits = jsonschema_rs.validator_for(contract).is_valid
    assert {i for i, row in enumerate(case.body) if not fits(row)} <= refused
    again = case.call(headers=key).json()
    assert (0, found["stored"] + found["known"]) == (again["stored"], again["known"])
    assert found["rejected"] == again["rejected"]


@API.include(path=SCORE).parametrize()
@MANY
def test_scores_answer_as_described(case, key):
    case.call_and_validate(headers=key, excluded_checks=BY_MODEL)


@API.include(path_regex="^/v1/models").parametrize()
@MANY
def test_a_model_that_is_there_answers_as_described(case, key):
    case.path_parameters["model"] = "m"
    if isinstance(case.body, dict):
        for row in case.body["rows"] if isinstance(case.body.get("rows"), list) else []:
            if isinstance(row, dict) and isinstance(row.get("features"), dict):
                row["features"] = {"a": 0.5, "b": None}
    case.call_and_validate(headers=key, excluded_checks=[*BY_ROW, *BY_MODEL])


@API.include(path_regex="^/v1/").parametrize()
@MANY
def test_without_a_key_nothing_is_answered_and_nothing_is_stored(case):
    assert case.call(headers={}).status_code == (401 if case.method == case.operation.method.upper() else 405)
