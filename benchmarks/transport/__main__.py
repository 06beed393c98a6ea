"""What each edge carries, beside what is bare and what others do.

``python -m benchmarks.transport [--quick] [--json]``. All carriers are there at once, each with a producer and a
consumer process, and take turns in short rounds, so that what else the machine does falls on all of them; a ratio is
the median of the ratios of neighbouring rounds. Every frame is checked. Throughput: frames are made before a round and
sent as fast as they are taken; views are read for the check only. Latency: 200 frames a second, from before the frame
is sent until the consumer has its view.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.report import Report, median_ci95
from benchmarks.transport import gnuradio_lane, graph_case
from benchmarks.transport.lane import Lane
from hil.runtime.shm_edge import supported

SIZES = {"512 KiB": 512 * 1024, "2 MiB": 2 * 1024 * 1024}
RATE_HZ = 200.0
#: What is compared with what, and the least ratio of bytes a second.
PAIRS = {"edge-shm": ("ring", 0.8), "edge-tcp": ("bare-tcp", 0.9), "edge-ipc": ("bare-ipc", None)}
#: Most that the median latency over tcp may be, in bare ones.
LATENCY_RATIO = 1.25
NAMES = {
    "edge-shm": "shared-memory edge",
    "edge-tcp": "tcp edge",
    "edge-ipc": "ipc edge",
    "ring": "plain shared-memory ring",
    "bare-tcp": "bare pyzmq tcp",
    "bare-ipc": "bare pyzmq ipc",
    "kept-tcp": "bare pyzmq tcp that keeps freed memory",
}
_COPY_BYTES = 256_000_000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs, not how fast it is")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args(argv)
    report = Report("transport", as_json=options.json)
    ours: dict[str, list[float]] = {}
    for label, n_bytes in SIZES.items():
        ours |= measure(report, label, n_bytes, options.quick)
    measure_gnuradio(report, ours, options.quick)
    report.finish()
    return 0


def measure(report: Report, label: str, n_bytes: int, quick: bool) -> dict[str, list[float]]:
    """Measure all carriers with frames of one size; return bytes a second by case."""
    kinds = [k for pair, (bare, _) in PAIRS.items() for k in (bare, pair)] + ["kept-tcp"]
    if not supported():
        kinds = [k for k in kinds if k not in ("ring", "edge-shm")]
    n_rounds, n_latency_rounds, volume = (3, 2, 32e6) if quick else (41, 10, 128e6)
    n_frames = int(volume / n_bytes)
    speed: dict[str, list[float]] = {kind: [] for kind in kinds}
    latency: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    ceiling: list[float] = []
    with contextlib.ExitStack() as stack:
        lanes = {kind: stack.enter_context(Lane(kind, n_bytes)) for kind in kinds}
        for lane in lanes.values():
            lane.throughput(n_frames)  # maps memory, finds the other side
        for _ in range(n_rounds):
            for kind, lane in lanes.items():
                speed[kind].append(lane.throughput(n_frames))
            ceiling.append(copy_bandwidth())
        for _ in range(n_latency_rounds):
            for kind, lane in lanes.items():
                latency[kind].append(lane.latency(20 if quick else 100, RATE_HZ))
    median, ci95 = median_ci95(ceiling)
    report.add(f"memcpy of 256 MB, beside {label}", "throughput", median / 1e9, "GB/s", n=n_rounds, ci95=_scaled(ci95))
    for kind in kinds:
        bare, least = PAIRS.get(kind, ("bare-tcp", None) if kind == "kept-tcp" else (None, None))
        median, ci95 = median_ci95(speed[kind])
        ratio = None if bare is None else float(np.median(np.divide(speed[kind], speed[bare])))
        report.add(
            f"{NAMES[kind]}, {label}", "throughput", median / 1e9, "GB/s", n=n_rounds, ci95=_scaled(ci95),
            against=NAMES.get(bare or ""), ratio=ratio, ratio_at_least=least,
        )  # fmt: skip
        if kind == "edge-shm":
            report.add(
                f"{NAMES[kind]}, {label}", "throughput by views", median / 1e9, "GB/s", n=n_rounds,
                ci95=_scaled(ci95), against="memcpy of 256 MB",
                ratio=float(np.median(np.divide(speed[kind], ceiling))), ratio_at_least=1.0,
            )  # fmt: skip
        for name, q in (("latency p50", 50), ("latency p99", 99)):
            values = [float(np.percentile(r, q)) for r in latency[kind]]
            median, ci95 = median_ci95(values)
            theirs = None if bare is None else [float(np.percentile(r, q)) for r in latency[bare]]
            report.add(
                f"{NAMES[kind]}, {label}", name, median * 1e6, "us", n=sum(map(len, latency[kind])),
                ci95=None if ci95 is None else (ci95[0] * 1e6, ci95[1] * 1e6), against=NAMES.get(bare or ""),
                ratio=None if theirs is None else float(np.median(np.divide(theirs, values))),
                ratio_at_least=1 / LATENCY_RATIO if kind == "edge-tcp" and q == 50 else None,
            )  # fmt: skip
    result = {f"{kind} {label}": speed[kind] for kind in kinds}
    for edge in ("shm", "tcp") if supported() else ("tcp",):
        n = 2 if quick else 7
        values = [graph_case.throughput(edge, n_bytes, n_frames * (1 if quick else 4)) for _ in range(n)]
        median, ci95 = median_ci95(values)
        report.add(
            f"whole graph over {edge}, {label}", "throughput", median / 1e9, "GB/s", n=n, ci95=_scaled(ci95),
            against=NAMES[f"edge-{edge}"], ratio=median / float(np.median(speed[f"edge-{edge}"])),
        )  # fmt: skip
    return result


def measure_gnuradio(report: Report, ours: dict[str, list[float]], quick: bool) -> None:
    """Flood GNU Radio's two patterns and compare with the edges at 512 KiB, where these are slowest."""
    missing = gnuradio_lane.missing()
    if missing is not None:
        print(f"skipped: {missing}", file=sys.stderr)
        return
    n, seconds = (1, 0.5) if quick else (5, 2.0)
    for pattern, transport, name, targets in (
        ("PUB", "tcp", "GNU Radio PUB/SUB tcp", {"edge-shm": 10.0, "edge-tcp": 3.0}),
        ("PUSH", "ipc", "GNU Radio PUSH/PULL ipc", {"edge-shm": 8.0}),
    ):
        values = [gnuradio_lane.throughput(pattern, transport, seconds) for _ in range(n)]
        median, ci95 = median_ci95(values)
        report.add(name, "throughput", median / 1e9, "GB/s", n=n, ci95=_scaled(ci95))
        for case, speeds in ours.items():
            kind, _, label = case.partition(" ")
            if kind in targets:
                mine = float(np.median(speeds))
                report.add(
                    f"{NAMES[kind]}, {label}", "throughput", mine / 1e9, "GB/s", n=len(speeds), against=name,
                    ratio=mine / median, ratio_at_least=targets[kind],
                )  # fmt: skip


def copy_bandwidth() -> float:
    """Bytes a second of one copy of 256 MB, which no cache holds."""
    start = time.perf_counter()
    np.copyto(_TARGET, _SOURCE)
    return _COPY_BYTES / (time.perf_counter() - start)


def _scaled(ci95: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ci95 is None else (ci95[0] / 1e9, ci95[1] / 1e9)


_SOURCE = np.ones(_COPY_BYTES, np.uint8)
_TARGET = np.ones(_COPY_BYTES, np.uint8)

if __name__ == "__main__":
    sys.exit(main())
