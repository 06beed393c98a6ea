"""How near the flowgraph ``near_field_music`` comes to the Cramer-Rao bound, single frames and tracks.

``python -m benchmarks.near_field_music [--frames N] [--quick] [--json]``. The bound is the stochastic one (Gaussian
waveforms, unknown) of the exact spherical wavefront with amplitude, at the true positions of every frame. Estimates
and sources are paired for the least sum of squared distances, without a gate: gross errors count.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from benchmarks.report import Report
from blocks.bounds.cramer_rao import stochastic_crb
from flowgraphs.near_field_music import Settings, build
from hil.array import ArrayGeometry
from hil.cli.settings import build_settings
from hil.frame import Frame
from hil.wavefront import wavelength_m

F64 = npt.NDArray[np.float64]

#: Power of the sources and of the noise at 10 dB, as the flowgraph sets them.
_SOURCE_POWER, _NOISE_POWER = 1e-2, 1e-3
#: Single-frame RMSE over the bound, at most.
TARGET = 1.3
#: One standing source at broadside: range, and the bound that was asked for, metres.
_BROADSIDE = ((10.0, 0.020), (30.0, 0.175), (60.0, 0.70))
_SEED = 7


class Pairs(NamedTuple):
    """Errors of matched pairs and their bounds, each ``[pair]``, with the frame of each pair."""

    frame: npt.NDArray[np.int64]
    range_error_m: F64
    angle_error_rad: F64
    distance_m: F64
    range_crb_m2: F64
    angle_crb_rad2: F64
    n_sources: int

    @property
    def n_missed(self) -> int:
        return self.n_sources - len(self.frame)


def run_case(assignments: list[str], n_frames: int) -> tuple[Pairs, Pairs, dict[str, Any]]:
    """Run the flowgraph; return pairs of single frames and of tracks, and the run's summary."""
    settings = build_settings(
        Settings,
        ["device.real_time=false", f"device.seed={_SEED}", "music.spectrum_every=0", *assignments],
        "benchmark",
    )
    graph = build(settings)
    truth: dict[int, F64] = {}
    single: dict[int, F64] = {}
    tracks: dict[int, F64] = {}
    taps = {"sim.truth": _keep(truth), "cartesian.positions": _keep(single), "tracker.tracks": _keep(tracks)}
    summary = graph.run(frames=n_frames, on_frame=taps)
    wavelength = wavelength_m(settings.device.frequency_hz)
    array = ArrayGeometry.ula(settings.device.n_elements, wavelength / 2)
    n_snapshots = settings.device.n_snapshots
    bound = {seq: _bound(array, wavelength, n_snapshots, position) for seq, position in truth.items()}
    return _pairs(single, truth, bound), _pairs(tracks, truth, bound), summary


def bootstrap_ratio(
    pairs: Pairs, squared: F64, crb: F64, rng: np.random.Generator
) -> tuple[float, tuple[float, float]]:
    """Root of mean squared error over mean bound, and its 95 % interval by resampling frames."""
    frames, place = np.unique(pairs.frame, return_inverse=True)
    error, bound = np.bincount(place, squared), np.bincount(place, crb)
    picks = rng.integers(0, len(frames), (2000, len(frames)))
    ratios = np.sqrt(error[picks].sum(1) / bound[picks].sum(1))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.sqrt(error.sum() / bound.sum())), (float(low), float(high))


def _keep(into: dict[int, F64]) -> Callable[[Frame], None]:
    def keep(frame: Frame) -> None:
        if frame.header.kind == "data":
            into[frame.header.seq] = np.array(frame["position_m"])

    return keep


def _bound(array: ArrayGeometry, wavelength: float, n_snapshots: int, position_m: F64) -> F64:
    """Variances of azimuth and range, ``[source, 2]``."""
    x, y, _ = position_m.T
    n = len(position_m)
    crb = stochastic_crb(
        array.channel_position_m,
        np.arctan2(x, y),
        np.zeros(n),
        np.linalg.norm(position_m, axis=-1),
        wavelength,
        _SOURCE_POWER * np.eye(n),
        _NOISE_POWER,
        n_snapshots,
    )
    return np.array([np.diag(crb[i, :, i, :]) for i in range(n)])


def _pairs(found: dict[int, F64], truth: dict[int, F64], bound: dict[int, F64]) -> Pairs:
    rows: list[tuple[float, ...]] = []
    seqs = sorted(set(found) & set(truth))
    for seq in seqs:
        estimate, true = found[seq], truth[seq]
        squared = ((estimate[:, None] - true[None]) ** 2).sum(-1)
        for e, t in zip(*linear_sum_assignment(squared), strict=True):
            range_error = np.linalg.norm(estimate[e]) - np.linalg.norm(true[t])
            angle_error = np.arctan2(estimate[e, 0], estimate[e, 1]) - np.arctan2(true[t, 0], true[t, 1])
            row = (seq, range_error, angle_error, np.sqrt(squared[e, t]), bound[seq][t, 1], bound[seq][t, 0])
            rows.append(tuple(float(value) for value in row))
    columns = np.array(rows).T
    return Pairs(
        columns[0].astype(np.int64), columns[1], columns[2], columns[3], columns[4], columns[5],
        n_sources=sum(len(truth[s]) for s in seqs),
    )  # fmt: skip


def _rms(values: F64) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _report(report: Report, case: str, single: Pairs, tracks: Pairs, summary: dict[str, Any], *, target: bool) -> None:
    rng = np.random.default_rng(1)
    n = len(single.frame)
    for name, error, crb, unit in (
        ("range", single.range_error_m, single.range_crb_m2, "m"),
        ("angle", single.angle_error_rad, single.angle_crb_rad2, "rad"),
    ):
        ratio, interval = bootstrap_ratio(single, error**2, crb, rng)
        bound = float(np.sqrt(crb.mean()))
        report.add(
            case,
            f"{name} RMSE, single frames",
            _rms(error),
            unit,
            n=n,
            against=f"CRB {bound:.3g} {unit}",
            ratio=1 / ratio,
        )
        report.add(case, f"{name} RMSE over CRB", ratio, "", n=n, ci95=interval, at_most=TARGET if target else None)
    report.add(case, "missed, single frames", single.n_missed, "", n=single.n_sources)
    gain = _rms(single.distance_m) / _rms(tracks.distance_m)
    report.add(
        case, "position RMSE, tracks", _rms(tracks.distance_m), "m", n=len(tracks.frame),
        against=f"single frames {_rms(single.distance_m):.3g} m", ratio=gain, ratio_at_least=1.0,
    )  # fmt: skip
    report.add(case, "missed, tracks", tracks.n_missed, "", n=tracks.n_sources)
    switches = summary["nodes"]["tracked"]["stats"]["id_switches"]
    report.add(case, "identities switched", switches, "", n=len(tracks.frame), at_most=0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_field_music", description=__doc__)
    parser.add_argument("--frames", type=int, default=1500, help="frames of each case (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="100 frames, one case of each kind")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args()
    n_frames = 100 if options.quick else options.frames
    report = Report("near_field_music", as_json=options.json)
    for motion, words in (("apart", "two moving"), ("crossing", "two moving, crossing in azimuth")):
        if options.quick and motion == "crossing":
            continue
        single, tracks, summary = run_case([f"device.motion={motion}"], n_frames)
        _report(report, words, single, tracks, summary, target=motion == "apart")
    for range_m, named_m in _BROADSIDE[:1] if options.quick else _BROADSIDE:
        source = f'[{{"id": 1, "motion": {{"kind": "stand", "position_m": [0, {range_m}, 0]}}, "power_db": -20}}]'
        single, tracks, summary = run_case([f"device.sources={source}", "music.n_sources=1"], n_frames)
        case = f"one at broadside, {range_m:g} m"
        report.add(
            case, "CRB of range", float(np.sqrt(single.range_crb_m2[0])), "m", n=1, against=f"asked for {named_m} m"
        )
        _report(report, case, single, tracks, summary, target=True)
    report.finish()


if __name__ == "__main__":
    main()
