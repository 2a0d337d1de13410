"""Whoever reaches MLflow without an account of ours, and without a key, brings no code into the platform."""

import contextlib
import threading
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import structlog

from jobs import train
from jobs.context import opened
from jobs.stack.servers import free_port, mlflow_server
from mlops.errors import BundleError, RegistryError
from mlops.io import bar_feed
from mlops.io.ledger.job_runs import run_key
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef, Role
from registry_hooks import aliases, apply, guard
from registry_hooks.apply import Act
from registry_hooks.reconcile import reconcile, sweep

pytestmark = pytest.mark.e2e
MODEL, AS_OF = "volatility", datetime(2006, 1, 1, tzinfo=UTC)
JOB = run_key(f"train:{MODEL}", AS_OF)
ACT = Act("test", AS_OF)
SMALL = TrainSettings(trials=1, folds=2, min_bars=50, embargo_bars=0)


class Attacker:
    """A process that speaks HTTP with MLflow and has nothing else of ours."""

    def __init__(self, uri, marker):
        self.http = httpx.Client(base_url=f"{uri}/api/2.0", timeout=30)
        self.code = f"import pathlib\npathlib.Path({str(marker)!r}).write_text('ran')\nraise SystemExit\n"

    def post(self, path, **body):
        answer = self.http.post(f"/mlflow/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def put(self, path, content):
        return self.http.put(f"/mlflow-artifacts/artifacts/{path}", content=content)

    def models(self):
        """(experiment, id) of every logged model."""
        experiments = self.http.get("/mlflow/experiments/search", params={"max_results": 100}).json()["experiments"]
        ids = [e["experiment_id"] for e in experiments]
        found = self.post("logged-models/search", experiment_ids=ids).get("models", [])
        return [(m["info"]["experiment_id"], m["info"]["model_id"]) for m in found]

    def overwrite(self, name="gbm.py", content=None):
        for experiment, model in self.models():
            self.put(f"{experiment}/models/{model}/artifacts/{name}", content or self.code.encode())

    def logged(self, files):
        """The id of a logged model that has these files."""
        model = self.post("logged-models", experiment_id="0", name="evil")["model"]["info"]["model_id"]
        for name, content in files.items():
            self.put(f"0/models/{model}/artifacts/{name}", content).raise_for_status()
        self.http.patch(
            f"/mlflow/logged-models/{model}", json={"model_id": model, "status": "LOGGED_MODEL_READY"}
        ).raise_for_status()
        return model

    def plant(self, model_id, tags=()):
        """A version of our model that consists of a logged model of theirs."""
        with contextlib.suppress(httpx.HTTPStatusError):
            self.post("registered-models/create", name=MODEL)
        rows = [{"key": k, "value": v} for k, v in tags]
        run = self.post("runs/create", experiment_id="0", run_name="train")["run"]["info"]["run_id"]
        given = {"name": MODEL, "source": f"models:/{model_id}", "model_id": model_id, "run_id": run, "tags": rows}
        return int(self.post("model-versions/create", **given)["model_version"]["version"])

    def evil(self):
        """A logged model that is ours but for the script."""
        experiment, model = self.models()[-1]
        root, names = f"{experiment}/models/{model}/artifacts", ("MLmodel", "artifacts/meta.json")
        files = {name: self.http.get(f"/mlflow-artifacts/artifacts/{root}/{name}").content for name in names}
        return self.logged({**files, "gbm.py": self.code.encode()})


@pytest.fixture(scope="module")
def bars():
    frame = bar_feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=AS_OF).frame
    return frame[frame.symbol.isin(["AAPL", "GE", "XOM"])]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_port()) as uri:
        yield uri


@pytest.fixture
def context(server, tmp_path):
    with opened(Settings(state=tmp_path, tracking_uri=server, train=SMALL)) as context:
        for model in context.client.search_registered_models():
            context.client.delete_registered_model(model.name)
        yield context


@pytest.fixture
def marker(tmp_path):
    """What the code of an attacker would write."""
    return tmp_path / "ran"


@pytest.fixture
def attacker(server, marker):
    found = Attacker(server, marker)
    with found.http:
        yield found


def trained(context, bars, job_run=None, attempt="1"):
    bound = {} if job_run is None else {"job_run": job_run, "attempt": attempt}
    with structlog.contextvars.bound_contextvars(**bound):
        return train.train(context, STRATEGIES[MODEL], bars, as_of=AS_OF, start=None)


def test_files_that_are_rewritten_while_they_are_registered_never_run(context, bars, attacker, marker):
    over = threading.Event()

    def rewrite():
        while not over.is_set():
            attacker.overwrite()

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        with pytest.raises(RegistryError, match="must be as they were before the upload"):
            trained(context, bars)
    finally:
        over.set()
        thread.join()

    assert [] == context.ledger.registry.bundles(MODEL)
    assert [f"bundle_altered:{MODEL}:v1"] == [alert.key for alert in context.ledger.alerts.newest()]
    with pytest.raises(RegistryError):
        apply.promote(context.registry, ModelRef(MODEL, 1), "by force", ACT, expected=None)
    assert not marker.exists()


def test_a_planted_version_with_the_slot_of_a_job_run_is_not_taken_for_an_earlier_attempt(
    context, bars, attacker, marker
):
    ref = trained(context, bars)
    planted = attacker.plant(attacker.evil(), [("job_run", JOB), ("attempt", "1")])

    again = trained(context, bars, JOB, attempt="2")

    assert again.version not in (planted, ref.version)
    assert context.ledger.registry.bundle(MODEL, planted) is None
    apply.promote(context.registry, again, "trained", ACT, expected=None)
    assert not marker.exists()


def test_tags_and_aliases_of_a_planted_version_make_it_nothing(context, bars, attacker, marker):
    first = trained(context, bars)
    apply.promote(context.registry, first, "trained", ACT, expected=None)
    planted = attacker.plant(attacker.evil(), [("role", "shadow"), ("waits", "true")])
    for alias in ("champion", "challenger"):
        attacker.post("registered-models/alias", name=MODEL, alias=alias, version=str(planted))

    assert {1: Role.CHAMPION} == aliases.lineup(context.registry, MODEL).roles
    assert apply.nominate_next(context.registry, MODEL, ACT) is None
    assert "undone" == reconcile(context.registry, MODEL, AS_OF, on_manual_move="keep")

    assert {"champion": 1} == aliases.read(context.client, MODEL)
    assert [] == context.ledger.registry.comparisons(MODEL)
    assert 1 == context.ledger.registry.champion(MODEL)
    assert not marker.exists()


def test_a_model_of_somebody_elses_is_not_even_looked_at(context, attacker):
    attacker.post("registered-models/create", name="stranger")
    assert {} == sweep(context.registry, AS_OF)


def test_files_that_are_added_later_are_not_downloaded(context, bars, attacker, tmp_path):
    ref = trained(context, bars)
    attacker.overwrite("artifacts/more.bin", bytes(2**20))
    fresh = replace(context.registry, cache=tmp_path / "fresh")

    with pytest.raises(BundleError, match="must be at most 1000 with .* Somebody added to them"):
        apply.prove_loadable(fresh, ref)

    assert [] == list((tmp_path / "fresh" / MODEL).iterdir())


@pytest.mark.parametrize("name", ["gbm.py", "sitecustomize.py", "registered_model_meta/gbm.py", "a%0Ab.py", "-rf"])
def test_files_that_are_rewritten_or_added_later_never_run(context, bars, attacker, marker, tmp_path, name):
    ref = trained(context, bars)
    attacker.overwrite("input_example.json", b"{}")  # makes room
    attacker.overwrite(name)
    fresh = replace(context.registry, cache=tmp_path / "fresh")

    for _ in range(3):
        assert guard.unsound(fresh, ref)

    assert not marker.exists()
    assert len(list((tmp_path / "fresh" / MODEL).iterdir())) <= 1  # at most one copy is put aside


def test_a_version_of_a_model_that_was_made_anew_comes_from_where_the_ledger_says(
    context, bars, attacker, marker, tmp_path
):
    ref, evil = trained(context, bars), attacker.evil()
    attacker.http.request("DELETE", "/mlflow/registered-models/delete", json={"name": MODEL}).raise_for_status()
    assert ref.version == attacker.plant(evil)
    fresh = replace(context.registry, cache=tmp_path / "fresh")

    found = apply.prove_loadable(fresh, ref)

    assert context.ledger.registry.bundle(MODEL, ref.version).digest == found.digest
    assert not marker.exists()


@pytest.mark.parametrize(
    "place", ["mlflow-artifacts://127.0.0.1:{port}/x", "http://127.0.0.1:{port}/x", "s3://theirs/x"]
)
def test_an_experiment_that_keeps_its_files_elsewhere_gets_neither_files_nor_the_account(
    tmp_path, bars, place, monkeypatch
):
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(dict(self.headers))
            self.send_error(404)

        do_PUT = do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a secret of ours")
    settings = Settings(state=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", train=SMALL)
    with HTTPServer(("127.0.0.1", 0), Listener) as theirs, opened(settings) as context:
        thread = threading.Thread(target=theirs.serve_forever)
        thread.start()
        context.client.create_experiment(MODEL, artifact_location=place.format(port=theirs.server_port))
        with pytest.raises(RegistryError, match="must lie in MLflow's own store"):
            trained(context, bars)
        theirs.shutdown()
        thread.join()
    assert [] == asked
