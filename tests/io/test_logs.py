"""Log lines: JSON, one correlation id, and never a reason to stop."""

import orjson
import structlog
from sqlalchemy.sql.elements import quoted_name

from mlops.io import logs


def test_a_line_is_json_with_the_id_that_is_bound(tmp_path):
    logs.configure(tmp_path / "log.jsonl")
    with logs.bind(correlation_id="one"):
        structlog.get_logger().info("said", model="m")
    line = orjson.loads((tmp_path / "log.jsonl").read_bytes())

    assert {"event": "said", "model": "m", "correlation_id": "one", "level": "info"} == {
        name: line[name] for name in ("event", "model", "correlation_id", "level")
    }


def test_what_json_cannot_say_is_logged_all_the_same(tmp_path):
    logs.configure(tmp_path / "log.jsonl")
    structlog.get_logger().info("counted", rows={quoted_name("fills", None): 1})
    structlog.get_logger().info("big", number=2**70, text="\ud800")

    counted, big = map(orjson.loads, (tmp_path / "log.jsonl").read_bytes().splitlines())
    assert {"fills": 1} == counted["rows"]
    assert (str(2**70), "'\\ud800'") == (big["number"], big["text"])


def test_a_full_disk_stops_nobody_who_logs():
    with open("/dev/full", "ab", buffering=0) as full:
        sink = logs._Sink(full)
        structlog.configure(
            processors=[structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event))],
            logger_factory=structlog.BytesLoggerFactory(sink),
        )
        structlog.get_logger().error("not kept")
