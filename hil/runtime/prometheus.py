"""The scrape endpoint: the totals of a running graph in Prometheus' text format."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from hil.errors import RunError
from hil.runtime.summary import Totals

log = logging.getLogger(__name__)


@contextlib.contextmanager
def serve_metrics(port: int, totals: Callable[[], Totals]) -> Iterator[int]:
    """Serve metrics on ``127.0.0.1:port`` (0: any free one) while the context lasts; yields the port.

    Raises:
        RunError: The library is missing, or the port is taken.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise RunError("metrics need the package prometheus-client: pip install 'hil-receiver[metrics]'") from error
    registry = CollectorRegistry()
    registry.register(_Collector(totals))
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise RunError(f"cannot serve metrics on port {port}: {error}; choose another port") from error
    log.warning("metrics on http://127.0.0.1:%d/metrics", server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """Reads the totals anew at each scrape."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

        totals = self._totals()
        for key, text in (
            ("frames_in", "Data frames taken by a node"),
            ("frames_out", "Data frames given by a node"),
            ("bytes_in", "Bytes taken by a node"),
            ("skipped", "Frames that nothing could be estimated from"),
            ("unmatched", "Frames that found no partner of their time"),
        ):
            family = CounterMetricFamily(f"hil_node_{key}", text, labels=["graph", "node"])
            for name, node in totals.nodes.items():
                family.add_metric([totals.graph, name], node[key])
            yield family
        for key, text in (
            ("frames", "Data frames offered to an edge"),
            ("bytes", "Bytes offered to an edge"),
            ("dropped", "Frames dropped by an edge's policy"),
            ("lost_in_flight", "Frames lost with a worker that died"),
        ):
            family = CounterMetricFamily(f"hil_edge_{key}", text, labels=["graph", "edge"])
            for label, edge in totals.edges.items():
                family.add_metric([totals.graph, label], edge[key])
            yield family
        depth = GaugeMetricFamily("hil_edge_depth", "Frames that wait in an edge", labels=["graph", "edge"])
        for label, edge in totals.edges.items():
            depth.add_metric([totals.graph, label], edge["depth"])
        yield depth
        for what, histograms in (("service", totals.service), ("age", totals.age)):
            seconds = SummaryMetricFamily(f"hil_node_{what}_seconds", f"Node {what}", labels=["graph", "node"])
            quantiles = GaugeMetricFamily(
                f"hil_node_{what}_quantile_seconds", f"Node {what}, p50 and p99", labels=["graph", "node", "quantile"]
            )
            for name, histogram in histograms.items():
                seconds.add_metric([totals.graph, name], histogram.count, histogram.total / 1e9)
                for q in (0.5, 0.99):
                    value = histogram.quantile_ns(q)
                    if value is not None:
                        quantiles.add_metric([totals.graph, name, str(q)], value / 1e9)
            yield seconds
            yield quantiles
