"""What Prometheus reads at /metrics. Labels are few and bounded: never a symbol, never a version."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import StorageError
from mlops.io.ledger import Ledger
from mlops.types import Priority

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meters:
    """The meters of one application, in a registry of their own."""

    def __init__(self, ledger: Ledger) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mlops_requests", "Requests answered.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "mlops_request_seconds", "Time to answer.", ("route",), registry=self._registry, buckets=BUCKETS
        )
        self._rows = Counter("mlops_rows", "Rows taken by the API.", ("kind", "became"), registry=self._registry)
        self._registry.register(Standing(ledger))

    def took(self, kind: str, stored: int, known: int, rejected: int) -> None:
        """Count a batch."""
        for became, n in (("stored", stored), ("known", known), ("rejected", rejected)):
            self._rows.labels(kind, became).inc(n)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the pattern, not the path: its values are bounded."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)


class Standing(Collector):
    """Read from the ledger when asked for; where it does not answer, only `mlops_ledger_up` 0 is said."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        """Gauges of what stands now."""
        try:
            gauges = list(self._gauges())
        except (StorageError, SQLAlchemyError):
            yield GaugeMetricFamily("mlops_ledger_up", "1 while the ledger answers.", value=0)
            return
        yield GaugeMetricFamily("mlops_ledger_up", "1 while the ledger answers.", value=1)
        yield from gauges

    def _gauges(self) -> Iterator[Metric]:
        ledger = self._ledger
        degraded = GaugeMetricFamily("mlops_ledger_degraded", "1 while the ledger's disk is full or low.")
        degraded.add_metric([], float(bool(ledger.degraded())))
        yield degraded
        count = Tally(alert.priority for alert in ledger.alerts.newest())
        alerts = GaugeMetricFamily("mlops_open_alerts", "Alerts that are open.", labels=["priority"])
        for priority in Priority:
            alerts.add_metric([priority.value], count[priority])
        yield alerts
        open_states = ("due", "running", "failed", "parked", "dead")
        jobs = Tally(run.state for run in ledger.job_runs.all(states=open_states))
        runs = GaugeMetricFamily("mlops_job_runs", "Runs of jobs that are not over.", labels=["state"])
        for state in open_states:
            runs.add_metric([state], jobs[state])
        yield runs
        hooks = GaugeMetricFamily(
            "mlops_hook_dispatches", "Outgoing hooks not delivered.", labels=["endpoint", "state"]
        )
        waiting = Tally((d.endpoint, d.state) for s in ("pending", "dead") for d in ledger.dispatches.all(state=s))
        for pair, n in waiting.items():
            hooks.add_metric(list(pair), n)
        yield hooks
