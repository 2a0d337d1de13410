"""The receiver of the documentation, as it stands there, under a real sender."""

import re
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvicorn
from pydantic import SecretStr
from receivers import SECRET

from mlops.settings import HookSettings, OutgoingSettings
from registry_hooks.webhooks.outgoing import Sender

DOC = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def test_the_documented_receiver_verifies_and_looks_again_once_a_delivery(sqlite_ledger):
    names, looked = {}, []
    exec(re.search(r"```python\n(.*?)```", DOC, re.DOTALL)[1], names)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/mlops"
        app = names["receiver"](SECRET, looked.append)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        settings = OutgoingSettings(
            hooks=(HookSettings(name="bot", url=url, secret=SecretStr(SECRET)),), allow_hosts=("127.0.0.1",)
        )
        now = datetime.now(UTC)
        sender = Sender(sqlite_ledger, settings, lambda: datetime.now(UTC))
        said = {"expected": None, "to": 2, "kind": "promote", "actor": "ada", "reason": "better", "evidence_run": ""}
        entry = sqlite_ledger.registry.append_promotion("volatility", correlation_id="", at=now, **said)
        sqlite_ledger.registry.settle_promotion(entry.id, "applied", now)
        sender.once()
        sqlite_ledger.dispatches.redeliver("bot", 1, now)
        sender.once()
        forged = httpx.post(url, content=b"{}", headers={"webhook-id": "x", "webhook-timestamp": "1"})
        broken = httpx.post(url, content=b"\xff", headers={"webhook-id": "x"})
        server.should_exit = True
        thread.join()

    assert ["volatility"] == looked
    assert ["delivered"] == [d.state for d in sqlite_ledger.dispatches.all("bot")]
    assert (401, 401) == (forged.status_code, broken.status_code)
