"""From the simulated device to positions: what is left beside the kernels' own time.

``python -m benchmarks.end_to_end [--quick] [--json]``. The flowgraph near_field_music with 64 and 256 elements, in real
time, well below full load, so that frames do not wait for one another. The time runs from when this host has a frame
of the device until its positions are there; kernels are all blocks on that way (their service times, median); one
transport hop is the median over a shared-memory edge of frames of the same size at the same rate, measured right after.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.nodes import Ages
from benchmarks.report import Report, median_ci95
from benchmarks.transport.lane import Lane
from flowgraphs.near_field_music import Device, Settings, build
from hil.runtime.shm_edge import supported

#: Elements, frames a second, seconds, and seconds before: the dictionary is made while the first frames wait.
CASES = ((64, 20.0, 30.0, 3.0), (256, 5.0, 60.0, 10.0))
#: After the first position, until those that waited for it have been worked on.
_WARM_S = 2.0
_N_SNAPSHOTS = 100
_KERNELS = ("music", "cartesian")
_P50_TARGET, _P99_TARGET = 1.3, 3.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args(argv)
    report = Report("end_to_end", as_json=options.json)
    for n_elements, rate_hz, seconds, before_s in CASES:
        measure(report, n_elements, rate_hz, 3.0 if options.quick else seconds, before_s)
    report.finish()
    return 0


def measure(report: Report, n_elements: int, rate_hz: float, seconds: float, before_s: float) -> None:
    """Run the flowgraph and add its rows."""
    summary = run(n_elements, rate_hz, seconds, before_s)
    ages_ms = np.array(summary["nodes"]["ages"]["stats"]["ages_ns"]) / 1e6
    if ages_ms.size < 5:
        raise ValueError(f"{ages_ms.size} positions came in {seconds} s")
    kernels_ms = sum(summary["latency"][name]["service"]["p50_ms"] for name in _KERNELS)
    hop_ms = hop_latency_ms(n_elements, rate_hz)
    p50, ci95 = median_ci95(ages_ms)
    p99 = float(np.percentile(ages_ms, 99))
    case, n = f"{n_elements} elements, {rate_hz:g} frames/s", int(ages_ms.size)
    report.add(case, "kernels, median", kernels_ms, "ms", n=n)
    report.add(case, "one transport hop, median", hop_ms, "ms", n=n)
    least = kernels_ms + hop_ms
    report.add(
        case, "device to position p50", p50, "ms", n=n, ci95=ci95, against="kernels and one hop", ratio=least / p50,
        ratio_at_least=1 / _P50_TARGET,
    )  # fmt: skip
    report.add(
        case, "device to position p99", p99, "ms", n=n, against="its p50", ratio=p50 / p99,
        ratio_at_least=1 / _P99_TARGET,
    )  # fmt: skip
    lost = sum(summary["drops"].values())
    report.add(case, "frames dropped", lost, "frames", n=n, at_most=0)


def run(n_elements: int, rate_hz: float, seconds: float, before_s: float) -> dict[str, Any]:
    """Run the flowgraph with a look at how old positions are; return its summary."""
    graph = build(Settings(device=Device(n_elements=n_elements, frame_rate_hz=rate_hz, n_snapshots=_N_SNAPSHOTS)))
    ages = graph.add(Ages("ages", warm_s=_WARM_S))
    graph.connect("cartesian.positions", ages)
    graph.connections.insert(0, graph.connections.pop())  # before the tracker, which is not on the way
    return graph.run(seconds=seconds + _WARM_S + before_s)


def hop_latency_ms(n_elements: int, rate_hz: float) -> float:
    """Median latency of one edge for a frame of the device."""
    kind: Literal["edge-shm", "edge-ipc"] = "edge-shm" if supported() else "edge-ipc"
    with Lane(kind, n_elements * _N_SNAPSHOTS * 8) as lane:
        lane.latency(20, 100.0)
        return float(np.median(lane.latency(60, min(rate_hz, 20.0)))) * 1e3


if __name__ == "__main__":
    sys.exit(main())
