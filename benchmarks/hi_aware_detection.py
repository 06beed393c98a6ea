"""How well can faults be told at all? The most any detector can reach, and ours frame by frame on a stream.

``python -m benchmarks.hi_aware_detection [--trials 200] [--draws 4000] [--small] [--quick] [--json]``

``--small`` asks instead how many frames of a stream it takes until a small fault is in the map, and out of it again.

Set-up of :mod:`benchmarks.hi_aware`. The limit is of a detector that knows everything but the faults: places, gains,
waveforms, noise and the probability of a fault. Its data are ``q_n = m_n^H z_n`` of each element, its rule compares the
posterior of a fault with one threshold; no other rule has a larger F1 on average over many arrays (Lipton, Elkan,
Naryanaswamy 2014: the threshold is half of the F1 reached). Here it is the best threshold on the draws themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.special import i0e
from threadpoolctl import threadpool_limits

from benchmarks.hi_aware import WAVELENGTH_M, Point, f1, f1_ci
from benchmarks.report import Report
from blocks.hi_aware.localizer import localize
from blocks.hi_aware.reduce import reduce_by_pilots
from blocks.hi_aware.scene import Scene
from blocks.subspace.dictionary import Dictionary, steering_dictionary
from hil.array import ArrayGeometry

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]
#: Snapshots of a frame.
N_SNAPSHOTS = 100


def limit_counts(point: Point, scene: Scene, n_frames: int, n_draws: int, rng: np.random.Generator) -> F64:
    """True, false and missed ``[draw, 3]`` at the threshold of the largest F1."""
    log_odds, faulty = [], []
    for _ in range(n_draws):
        mean, noise_power, c = _draw(point, scene, n_frames * N_SNAPSHOTS, rng)
        h = np.sum(np.abs(mean) ** 2, axis=1)
        w = (rng.standard_normal(len(h)) + 1j * rng.standard_normal(len(h))) / np.sqrt(2)
        log_odds.append(fault_log_odds(c * h + np.sqrt(h * noise_power) * w, noise_power, point.p_fault))
        faulty.append(c != 1)
    return counts_of_largest_f1(np.array(log_odds), np.array(faulty))


def fault_log_odds(cross: C128, noise_power: float, p_fault: float) -> F64:
    """Of a phase that is uniform, against none, given ``q [sensor]``."""
    x = 2 * np.abs(cross) / noise_power
    odds: F64 = np.log(i0e(x)) + x - 2 * cross.real / noise_power + np.log(p_fault / (1 - p_fault))
    return odds


def counts_of_largest_f1(score: F64, faulty: npt.NDArray[np.bool_]) -> F64:
    """True, false and missed ``[draw, 3]`` when all above the best threshold on ``score [draw, sensor]`` are named."""
    order = np.argsort(-score, axis=None)
    true = np.cumsum(faulty.ravel()[order])
    best = int((2 * true / (np.arange(1, len(true) + 1) + true[-1])).argmax())
    said = score >= score.ravel()[order[best]]
    return np.stack([(a & b).sum(axis=1) for a, b in ((said, faulty), (said, ~faulty), (~said, faulty))], axis=1) * 1.0


def stream_counts(point: Point, dictionary: Dictionary, n_frames: int, rng: np.random.Generator) -> F64:
    """True, false and missed ``[frame, 3]`` of the calibration state after each of ``n_frames``."""
    scene, last, counts = Scene.of(dictionary), None, []
    az, r, c = _scene(point, scene, rng)
    a = scene.vectors(az, 1 / r).T
    for _ in range(n_frames):
        s, noise_power = _waveforms(point, N_SNAPSHOTS, rng)
        noise = rng.standard_normal((point.n, N_SNAPSHOTS)) + 1j * rng.standard_normal((point.n, N_SNAPSHOTS))
        y = c[:, None] * (a @ s) + np.sqrt(noise_power / 2) * noise
        last = localize(reduce_by_pilots(y, s), dictionary, last, None if last is None else last.fit.places)
        said, true = last.state.kind != 0, c != 1
        counts.append([np.sum(said & true), np.sum(said & ~true), np.sum(~said & true)])
    return np.array(counts, dtype=np.float64)


def small_fault_delays(
    phase_rad: float, dictionary: Dictionary, rng: np.random.Generator, *, n_before: int = 60, n_faulty: int = 40
) -> tuple[list[int], list[int]]:
    """Frames until four elements turned by plus or minus ``phase_rad`` are in the map, and out of it again.

    15 dB, all others intact. As many frames more as are given for the healing; what takes longer counts as that.
    """
    point, scene = Point(n=len(dictionary.position_m), p_fault=0.0), Scene.of(dictionary)
    az, r, _ = _scene(point, scene, rng)
    a, last, elements = scene.vectors(az, 1 / r).T, None, [3, 23, 40, 57]
    maps = []
    for i in range(n_before + n_faulty + n_before):
        c = np.ones(point.n, np.complex128)
        if n_before <= i < n_before + n_faulty:
            c[elements] = np.exp(1j * phase_rad * np.array([1, -1, 1, -1]))
        s, noise_power = _waveforms(point, N_SNAPSHOTS, rng)
        noise = rng.standard_normal((point.n, N_SNAPSHOTS)) + 1j * rng.standard_normal((point.n, N_SNAPSHOTS))
        y = c[:, None] * (a @ s) + np.sqrt(noise_power / 2) * noise
        last = localize(reduce_by_pilots(y, s), dictionary, last, None if last is None else last.fit.places)
        maps.append(last.state.kind[elements] != 0)
    faulty, healed = np.array(maps[n_before : n_before + n_faulty]), ~np.array(maps[n_before + n_faulty :])
    return _first(faulty), _first(healed)


def _first(happened: npt.NDArray[np.bool_]) -> list[int]:
    """Frames ``[element]`` until it first happened, ``[frame, element]``."""
    return np.where(happened.any(axis=0), happened.argmax(axis=0) + 1, len(happened)).tolist()


def _report_small(report: Report, n_streams: int) -> None:
    dictionary = steering_dictionary(ArrayGeometry.ula(64, WAVELENGTH_M / 2), WAVELENGTH_M, amplitude=False)
    for phase_rad in (0.02, 0.03, 0.04, 0.05, 0.07, 0.1):
        rng = np.random.default_rng(0)
        delays = [small_fault_delays(phase_rad, dictionary, rng) for _ in range(n_streams)]
        for which, name in ((0, "until it is in the map"), (1, "until it is out of it")):
            frames = np.concatenate([d[which] for d in delays])
            case = f"N=64, 15 dB, a fault of {phase_rad:g} rad"
            report.add(case, f"frames {name}, median", float(np.median(frames)), "", n=len(frames))
            report.add(case, f"frames {name}, 90 %", float(np.percentile(frames, 90)), "", n=len(frames))


def _draw(point: Point, scene: Scene, n_snapshots: int, rng: np.random.Generator) -> tuple[C128, float, C128]:
    """Noiseless samples of the intact array, noise power, coefficients."""
    az, r, c = _scene(point, scene, rng)
    s, noise_power = _waveforms(point, n_snapshots, rng)
    return scene.vectors(az, 1 / r).T @ s, noise_power, c


def _scene(point: Point, scene: Scene, rng: np.random.Generator) -> tuple[F64, F64, C128]:
    k, n = len(point.targets[0]), point.n
    az = np.array(point.targets[0]) + rng.uniform(-0.01, 0.01, k)
    r = np.array(point.targets[1]) * (1 + rng.uniform(-0.02, 0.02, k))
    return az, r, np.where(rng.uniform(size=n) < point.p_fault, np.exp(2j * np.pi * rng.uniform(size=n)), 1)


def _waveforms(point: Point, n_snapshots: int, rng: np.random.Generator) -> tuple[C128, float]:
    k = len(point.targets[0])
    s = (rng.standard_normal((k, n_snapshots)) + 1j * rng.standard_normal((k, n_snapshots))) / np.sqrt(2)
    return s, k / 10 ** (point.snr_db / 10)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="streams")
    parser.add_argument("--draws", type=int, default=4000, help="arrays of the limit")
    parser.add_argument("--small", action="store_true", help="how soon small faults are in the map")
    parser.add_argument("--quick", action="store_true", help="10 streams, 200 arrays")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(None if arguments is None else list(arguments))
    n_trials, n_draws = (10, 200) if options.quick else (options.trials, options.draws)
    report = Report("benchmarks.hi_aware_detection", as_json=options.json)
    if options.small:
        with threadpool_limits(limits=1):
            _report_small(report, 1 if options.quick else 10)
        report.finish()
        return
    dictionary = steering_dictionary(ArrayGeometry.ula(256, WAVELENGTH_M / 2), WAVELENGTH_M, amplitude=False)
    scene = Scene.of(dictionary)
    frames = (1, 2, 4, 8)
    with threadpool_limits(limits=1):
        for point in (Point(snr_db=10.0, p_fault=0.02), Point(snr_db=10.0, p_fault=0.04)):
            rng = np.random.default_rng(0)
            streams = np.array([stream_counts(point, dictionary, max(frames), rng) for _ in range(n_trials)])
            for n in frames:
                case = f"{point.label}, {n} frame{'s' if n > 1 else ''}"
                limit = limit_counts(point, scene, n, n_draws, rng)
                report.add(case, "fault F1, the most there can be", f1(limit), "", n=n_draws, ci95=f1_ci(limit))
                ours = streams[:, n - 1]
                report.add(case, "fault F1, ours", f1(ours), "", n=n_trials, ci95=f1_ci(ours), at_least=0.99)
    report.finish()


if __name__ == "__main__":
    main()
