"""What a hostile body costs: memory in the order of its length, whatever is in it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, resource, tempfile
from datetime import UTC, datetime
from pathlib import Path
from fastapi.testclient import TestClient
from mlops.io.ledger import Ledger
from mlops.settings import Settings
from mlops.web import app
from registry_hooks.aliases import Registry

size = 6 * 2**20
at = '"2026-03-02T21:00:00Z"'
bar = '{"event_time":%s,"known_at":%s,"matures_at":%s,' % (at, at, at)
bodies = {
    "rows": "[" + "{}," * (size // 3) + "{}]",
    "lines": "{}\\n" * (size // 3),
    "empty lines": "\\n" * size,
    "lists": "[[" + "[]," * (size // 3) + "[]]]",
    "objects": '[{"features":[' + "{}," * (size // 3) + "{}]}]",
    "numbers": "[" + "1," * (size // 2) + "1]",
    "members": "[{" + ",".join('"%d":1' % i for i in range(size // 12)) + "}]",
    "features": '[{"features":{' + ",".join('"%d":"x"' % i for i in range(size // 14)) + "}}]",
    "the same name": '[{"unit":1' + ',"unit":1' * (size // 9) + "}]",
    "a text": '["' + "x" * size + '"]',
    "a number": '[{"quantity":' + "9" * size + "}]",
    "bad rows": "[" + ",".join(['{"unit":1,"a":1,"b":1}'] * 50_000) + "]",
    "bar of numbers": bar + '"rows":[' + "1," * (size // 2) + "1]}",
    "bar of members": bar + '"rows":[{' + ",".join('"%d":1' % i for i in range(size // 12)) + "}]}",
    "bar with members": bar + ",".join('"%d":1' % i for i in range(size // 12)) + "}",
    "bar of lists": bar + '"rows":[{"features":[' + "[]," * (size // 3) + "[]]}]}",
}
folder, told = Path(tempfile.mkdtemp()), {}
with Ledger(f"sqlite:///{folder / 'ledger.db'}") as ledger:
    key = ledger.api_keys.add("bot", ["admin"], datetime.now(UTC))
    built = app.build(Registry(None, ledger, folder), Settings(), lambda: datetime.now(UTC), lambda model: None)
    with TestClient(built) as client:
        client.headers["authorization"] = f"Bearer {key}"
        for name, body in {"first": "[" + "1," * (size // 2), **bodies}.items():  # what the first request takes
            path = "/v1/models/m/score" if name.startswith("bar") else "/v1/predictions"
            kind = "application/x-ndjson" if "lines" in name else "application/json"
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer = client.post(path, content=body.encode(), headers={"content-type": kind})
            told[name] = answer.status_code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
print(json.dumps(told))
"""
WHOLE = ("rows", "lines", "numbers", "bar of numbers", "bar of members", "bar with members")  # refused as a whole


def test_no_body_costs_much_more_memory_than_its_length():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=600
    )
    assert 0 == done.returncode, done.stderr[-2000:]

    told = json.loads(done.stdout)
    del told["first"]
    assert {422} == {told[name][0] for name in WHOLE}
    assert {200, 422} >= {status for status, _ in told.values()}
    assert sum(grown for _, grown in told.values()) < 300, told  # MiB, of 6 MiB each
