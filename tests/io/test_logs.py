"""Log lines: JSON, one correlation id, and never a reason to stop."""

import orjson
import structlog

from mlops.io import logs


def test_a_line_is_json_with_the_id_that_is_bound(tmp_path):
    logs.configure(tmp_path / "log.jsonl")
    with logs.bind(correlation_id="one"):
        structlog.get_logger().info("said", model="m")
    line = orjson.loads((tmp_path / "log.jsonl").read_bytes())

    assert {"event": "said", "model": "m", "correlation_id": "one", "level": "info"} == {
        name: line[name] for name in ("event", "model", "correlation_id", "level")
    }


def test_a_full_disk_stops_nobody_who_logs():
    with open("/dev/full", "ab", buffering=0) as full:
        sink = logs._Sink(full)
        structlog.configure(
            processors=[structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event))],
            logger_factory=structlog.BytesLoggerFactory(sink),
        )
        structlog.get_logger().error("not kept")
