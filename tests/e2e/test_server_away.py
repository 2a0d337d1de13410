"""A real MLflow server that goes away in the middle of a transition, and processes that are killed while they ask it."""

import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from benchmarks.faults import registry_world as world
from benchmarks.faults import transitions
from mlops.types import ModelRef
from registry_hooks import aliases, apply
from registry_hooks.apply import RegistryAway, TransitionUnfinished
from registry_hooks.reconcile import reconcile

pytestmark = pytest.mark.e2e
AT = world.AT


def test_no_kill_between_two_requests_leaves_anything_half(platform):
    seed, said = secrets.randbelow(2**31), []

    found = transitions.run(4, seed, said.append, tracking_uri=platform[1])

    assert {"transition_kills": 4, "transition_wrong": 0} == found, f"seed {seed}: " + "\n".join(said)


@pytest.fixture
def short_waits(monkeypatch):
    """MLflow's client asks for minutes before it gives up."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


class Cable:
    """A TCP cable to a real server. It is cut when `cut` is seen in a request: before or after that gets through."""

    def __init__(self, server):
        target = urlsplit(server)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut, self.answered, self.down = b"", False, False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            while not self.down and (request := client.recv(65536)):
                hit = bool(self.cut) and self.cut in request
                if hit and not self.answered:
                    self.down = True
                    return
                server.sendall(request)
                if hit:
                    server.recv(65536)  # it was done, and the answer is lost
                    self.down = True
                    return
                server.settimeout(0.5)
                with suppress(TimeoutError):
                    while answer := server.recv(65536):
                        client.sendall(answer)
                        server.settimeout(0.05)
                server.settimeout(10)


@pytest.mark.parametrize("answered", [False, True])
def test_an_mlflow_server_that_goes_away_in_the_middle_is_caught_up_with(platform, tmp_path, short_waits, answered):
    _, uri = platform
    direct = world.Place(uri, f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    world.found(direct)
    model = f"outage-{answered}"
    registry = direct.open()
    world.add_model(registry, direct, model)
    act = apply.Act("test", AT)
    apply.promote(registry, ModelRef(model, 1), "first", act, expected=None)
    cable = Cable(uri)
    registry = replace(registry, client=MlflowClient(cable.url, registry_uri=cable.url))

    cable.cut, cable.answered = b"POST /api/2.0/mlflow/registered-models/alias", answered
    with pytest.raises(TransitionUnfinished, match="do not repeat it"):
        apply.promote(registry, ModelRef(model, 2), "now", act, expected=1)
    with pytest.raises(RegistryAway, match="Nothing was changed"):
        apply.promote(registry, ModelRef(model, 3), "while away", act, expected=2)
    assert 2 == registry.ledger.registry.champion(model)

    cable.cut, cable.down = b"", False
    assert "finished" == reconcile(registry, model, AT)
    assert "agreed" == reconcile(registry, model, AT)
    assert {"champion": 2, "previous_champion": 1} == aliases.read(registry.client, model)
    assert [("watch", 2, 1)] == [
        (t.kind, t.champion, t.challenger) for t in registry.ledger.registry.open_comparisons(model)
    ]
    cable.close()
    registry.ledger.close()
