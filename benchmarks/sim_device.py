"""How many frames a second does the simulated array give, on one core?

``python -m benchmarks.sim_device [--quick] [--json]``. Alone (the device's frames, no sockets): frames without a gap,
and 10 ms from frame to frame, where more is computed than is given; and served (a process of its own, frames taken by
a client over tcp). Samples are checked before they are timed: the closed form, and the same samples in other chunks.
"""

from __future__ import annotations

import argparse
import cmath
import json
import math
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.report import Report, median_ci95
from hil.runtime.control import ControlClient
from hil.runtime.frame_client import FrameClient
from hil.wavefront import wavelength_m
from sim_device.device import XlArrayDevice

TARGET_FRAMES_PER_S = 100


def parameters(n_elements: int, n_snapshots: int, frame_period_s: float = 0.0) -> dict[str, Any]:
    """Two sources that move, with faults and mismatch: nothing that could be computed once."""
    wander = {"kind": "wander", "centre_m": [0, 12, 0], "extent_m": [4, 4, 0], "speed_m_per_s": 1.5}
    turn = {"kind": "bearing", "azimuth_rad": -0.3, "range_m": 9.0, "azimuth_rate_rad_per_s": 0.05}
    return {
        "array": {"kind": "ula", "n": n_elements},
        "frequency_hz": 5e9,
        "n_snapshots": n_snapshots,
        "frame_period_s": frame_period_s,
        "sources": [{"id": 1, "motion": wander}, {"id": 2, "motion": turn, "waveform": {"kind": "qpsk"}}],
        "mismatch": {"gain_std_db": 0.5, "phase_std_rad": 0.1},
        "faults": [{"kind": "phase", "probability": 0.05}],
        "real_time": False,
    }


def check_samples() -> None:
    """A noiseless tone against the standard library, and a run against the same ticks in other chunks."""
    stand = {"kind": "stand", "position_m": [1.0, 2.0, 0.5]}
    tone = {
        "array": {"kind": "ula", "n": 16, "spacing_m": 0.03},
        "noise_power_db": -200,
        "sources": [{"id": 1, "motion": stand, "power_db": 0, "waveform": {"kind": "tone"}}],
        "clip": False,
        "real_time": False,
    }
    got, r = XlArrayDevice(**tone).samples(0, 3), math.dist((1.0, 2.0, 0.5), (0, 0, 0))
    for m in range(16):
        r_m = math.dist((1.0, 2.0, 0.5), ((m - 7.5) * 0.03, 0, 0))
        expected = r / r_m * cmath.exp(-2j * math.pi * (r_m - r) / wavelength_m(5e9))
        if abs(got[m] - expected).max() > 1e-6:
            raise AssertionError(f"element {m}: expected {expected}, got {got[m]}")
    device = XlArrayDevice(**parameters(64, 100))
    frames = [f for _ in range(7) for f in device.step() if f.header.stream == "iq"]
    whole = XlArrayDevice(**parameters(64, 100)).samples(0, 700)
    if not np.array_equal(np.concatenate([f["iq"] for f in frames], axis=1), whole):
        raise AssertionError("frames differ from the same ticks asked for at once")


def alone(n_elements: int, n_snapshots: int, frame_period_s: float, rounds: int, frames: int) -> list[float]:
    """Frames a second of the device without sockets, a value a round."""
    device = XlArrayDevice(**parameters(n_elements, n_snapshots, frame_period_s))
    device.step()
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(frames):
            device.step()
        rates.append(frames / (time.perf_counter() - start))
    return rates


def served(n_elements: int, n_snapshots: int, rounds: int, frames: int, core: int) -> list[float]:
    """Frames a second that a client takes from the device's process, which runs on ``core`` alone."""
    settings = [f"{k}={json.dumps(v)}" for k, v in parameters(n_elements, n_snapshots).items()]
    command = [sys.executable, "-m", "sim_device.serve", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        os.sched_setaffinity(child.pid, {core})
        client = FrameClient(told["endpoint"], streams=["iq"])
        rates, expected = [], 0
        try:
            with ControlClient(told["control"]) as control:
                control.request("start")
                for _ in range(rounds):
                    start, last = time.perf_counter(), expected + frames
                    while expected < last:
                        frame = client.receive(10.0)
                        if frame is None or (frame.header.kind == "data" and frame.header.seq != expected):
                            raise AssertionError(f"expected frame #{expected}, got {frame}")
                        expected += frame.header.kind == "data"
                    rates.append(frames / (time.perf_counter() - start))
        finally:
            client.close()
            child.terminate()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sim_device", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    rounds, frames = (7, 60) if options.quick else (25, 200)
    check_samples()
    report = Report("sim_device", as_json=options.json)
    cores = sorted(os.sched_getaffinity(0))
    for n_elements in (64, 256):
        case = f"{n_elements} elements x 100 snapshots"
        os.sched_setaffinity(0, {cores[0]})
        for frame_period_s, how in ((0.0, "without a gap"), (0.01, "every 10 ms")):
            rate, ci95 = median_ci95(alone(n_elements, 100, frame_period_s, rounds, frames))
            report.add(
                case, f"alone, one core, {how}", rate, "frames/s", n=rounds * frames, ci95=ci95,
                at_least=TARGET_FRAMES_PER_S,
            )  # fmt: skip
        os.sched_setaffinity(0, set(cores[1:]) or set(cores))
        rate, ci95 = median_ci95(served(n_elements, 100, rounds, frames, cores[0]))
        report.add(
            case, "served over tcp, one core", rate, "frames/s", n=rounds * frames, ci95=ci95,
            at_least=TARGET_FRAMES_PER_S,
        )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    main()
