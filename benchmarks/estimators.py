"""How fast the estimators are, against pyroomacoustics, plain NumPy and the matrix products that they cannot avoid.

``python -m benchmarks.estimators [--quick] [--json]``. One thread, one run: what is compared takes turns, and every
result is checked before it is timed. Times are medians over rounds. pyroomacoustics is the extra ``peers``; where it is
absent its rows are left out, which the command says.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.report import Report, median_ci95
from blocks.bounds.cramer_rao import stochastic_crb
from blocks.subspace.dictionary import Dictionary, Grid, Search, steering_dictionary
from blocks.subspace.esprit import esprit
from blocks.subspace.fresnel_grid import FresnelGrid, fresnel_grid
from blocks.subspace.line_dictionary import line_dictionary
from blocks.subspace.line_music import line_grid, line_music
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.near_field_batch import near_field_music_batch
from blocks.subspace.near_field_line import near_field_line
from blocks.subspace.near_field_music import near_field_music_samples
from blocks.subspace.planar_grid import planar_grid
from blocks.subspace.planar_music import planar_music
from blocks.subspace.refine_music import Nulls
from blocks.subspace.root_music import root_music
from blocks.subspace.search_nulls import search_nulls
from blocks.subspace.signal_subspace import signal_subspace, signal_subspace_from_samples
from blocks.subspace.track_subspace import SubspaceTracker
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from hil.wavefront import steering_vector_polar

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]

LAMBDA = 0.06
SNR_DB = 10.0
SEED = 11


class Wrong(RuntimeError):
    """A result that is not right is not timed."""


def check(right: Any, what: str) -> None:
    if not right:
        raise Wrong(f"estimators: {what}")


def take_turns(calls: Mapping[str, Callable[[], Any]], n_rounds: int, slot_s: float = 2e-3) -> dict[str, F64]:
    """Seconds a call of each, ``[round]``: every round runs each for about ``slot_s``, one after the other."""
    repeat = {}
    for name, call in calls.items():
        call()
        began = time.perf_counter()
        call()
        repeat[name] = max(1, int(slot_s / max(time.perf_counter() - began, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeat[name]):
                call()
            times[name].append((time.perf_counter() - began) / repeat[name])
    return {name: np.array(values) for name, values in times.items()}


def add(
    report: Report, case: str, name: str, times: F64, against: str = "", other: F64 | None = None, **goal: Any
) -> None:
    """A row in milliseconds; the ratio is the median over rounds of theirs to ours."""
    value, interval = median_ci95(1e3 * times)
    ratio = None if other is None else float(np.median(other / times))
    told = f"{against}, {1e3 * float(np.median(other)):.3g} ms" if other is not None else None
    report.add(case, name, value, "ms", n=len(times), ci95=interval, against=told, ratio=ratio, **goal)


class Scene(NamedTuple):
    x: C64
    azimuth_rad: F64
    inverse_range_per_m: F64


def scene(
    array: ArrayGeometry, azimuth_rad: F64, inverse_range: F64, n_snapshots: int, rng: np.random.Generator
) -> Scene:
    """Uncorrelated Gaussian sources in unit noise, exact spherical wavefront; ``[sensor, snapshot]`` complex64."""
    with np.errstate(divide="ignore"):
        range_m = 1 / inverse_range
    a = steering_vector_polar(array.position_m, azimuth_rad, range_m, LAMBDA, amplitude=True).T
    s = _noise(rng, len(azimuth_rad), n_snapshots) * 10 ** (SNR_DB / 20)
    return Scene((a @ s + _noise(rng, len(a), n_snapshots)).astype(np.complex64), azimuth_rad, inverse_range)


def _noise(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.complex128]:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)


def in_bounds(array: ArrayGeometry, truth: Scene, azimuth_rad: F64, sigmas: float = 5.0) -> bool:
    """All azimuths within ``sigmas`` root-CRB of the true ones, in any order."""
    m = len(truth.azimuth_rad)
    if len(azimuth_rad) != m:
        return False
    far = np.maximum(truth.inverse_range_per_m, 1e-9)
    bound = stochastic_crb(
        array.position_m, truth.azimuth_rad, np.zeros(m), 1 / far, LAMBDA, 10 ** (SNR_DB / 10) * np.eye(m), 1.0,
        truth.x.shape[1], parameters=("azimuth", "inverse_range"),
    )  # fmt: skip
    sigma = np.sqrt([bound[i, 0, i, 0] for i in range(m)])
    order = np.argsort(truth.azimuth_rad)
    return bool((np.abs(np.sort(azimuth_rad) - truth.azimuth_rad[order]) < sigmas * sigma[order]).all())


def far_field(report: Report, n_rounds: int) -> None:
    """16-element line, 256 snapshots, 361 angles, covariance included."""
    n, t, m, n_angles = 16, 256, 2, 361
    array, case = ArrayGeometry.ula(n, LAMBDA / 2), "line 16, T=256, 361 angles"
    truth = scene(array, np.array([-0.413, 0.2071]), np.zeros(2), t, np.random.default_rng(SEED))
    grid = line_grid(n, LAMBDA / 2, LAMBDA, n_angles)
    steering = np.exp(2j * np.pi / LAMBDA * array.position_m[:, :1] * np.sin(grid.azimuth_rad)).astype(np.complex64)
    conjugate = np.ascontiguousarray(steering.conj().T)
    x = truth.x

    def plain() -> tuple[Any, Any]:
        covariance = x @ x.conj().T / t
        signal = np.linalg.eigh(covariance)[1][:, -m:]
        spectrum = 1 / (n - (np.abs(conjugate @ signal) ** 2).sum(axis=1))
        peak = np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:])) + 1
        return spectrum, grid.azimuth_rad[peak[np.argsort(spectrum[peak])[-m:]]]

    signal_rows = np.ascontiguousarray(signal_subspace(x @ x.conj().T / t, m).T)

    def products() -> None:
        x @ x.conj().T
        signal_rows @ steering

    spectrum, peaks = plain()
    ours, refined = line_music(x, grid, m, refine=False), line_music(x, grid, m)
    check(np.allclose(ours.spectrum, n * spectrum, rtol=1e-2), "the spectrum is not plain NumPy's")
    check(np.array_equal(np.sort(ours.azimuth_rad), np.sort(peaks)), "the peaks are not plain NumPy's")
    check(in_bounds(array, truth, refined.azimuth_rad), f"refined azimuths {refined.azimuth_rad} are off")
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: line_music(x, grid, m, refine=False),
        "refined": lambda: line_music(x, grid, m),
        "plain": plain,
        "products": products,
    }
    peer = _pyroomacoustics(array, grid.azimuth_rad, m)
    if peer is not None:
        check(np.allclose(np.sort(peer(x)), np.sort(peaks), atol=1e-6), f"pyroomacoustics found {peer(x)}, not {peaks}")
        calls["peer"] = lambda: peer(x)
    signal = signal_rows.T.astype(np.complex128)
    for name, found in (("root-MUSIC", root_music(signal)), ("ESPRIT", esprit(signal))):
        check(in_bounds(array, truth, np.arcsin(found.phase_rad / np.pi), 8.0), f"{name} is off")
    calls["root"], calls["esprit"] = lambda: root_music(signal), lambda: esprit(signal)
    took = take_turns(calls, n_rounds)
    add(report, case, "MUSIC", took["ours"], "plain NumPy", took["plain"], ratio_at_least=1.0)
    if peer is not None:
        add(report, case, "MUSIC", took["ours"], "pyroomacoustics", took["peer"], ratio_at_least=6.0)
    add(report, case, "MUSIC", took["ours"], "its two matrix products", took["products"])
    add(report, case, "MUSIC, off the grid", took["refined"], "plain NumPy", took["plain"], ratio_at_least=1 / 1.5)
    add(report, case, "root-MUSIC from the subspace", took["root"])
    add(report, case, "ESPRIT (TLS) from the subspace", took["esprit"])


def _pyroomacoustics(array: ArrayGeometry, azimuth_rad: F64, n_sources: int) -> Callable[[C64], F64] | None:
    try:
        doa = importlib.import_module("pyroomacoustics").doa
    except ImportError:
        print(
            "pyroomacoustics is not installed (pip install 'hil-receiver[peers]'): its row is left out", file=sys.stderr
        )
        return None
    # bin 1 of 4 at fs = 4 c / lambda is the carrier; its azimuth counts from +x
    c = 343.0
    line = np.ascontiguousarray(array.position_m[:, :2].T)
    music = doa.MUSIC(line, 4 * c / LAMBDA, 4, c=c, num_src=n_sources, azimuth=np.pi / 2 - azimuth_rad[::-1])

    def locate(x: C64) -> F64:
        spectra = np.zeros((len(x), 3, x.shape[1]), dtype=np.complex64)
        spectra[:, 1] = x
        music.locate_sources(spectra, freq_bins=[1])
        return np.pi / 2 - np.asarray(music.azimuth_recon)

    return locate


def near_field(report: Report, n_rounds: int, n_frames: int) -> None:
    """N=15, M=2, T=100 of [NF], everything included, one and 64 at a time; on 241 x 85 points the dense form."""
    n, t, m = 15, 100, 2
    array, case = ArrayGeometry.ula(n, LAMBDA / 2), "near field 15, M=2, T=100"
    rng = np.random.default_rng(SEED)
    dictionary = steering_dictionary(array, LAMBDA)
    nearest, far = dictionary.grid.range_min_m, dictionary.fraunhofer_m
    frames = []
    for _ in range(n_frames):
        azimuth = np.arcsin(np.array([-0.4, 0.4]) + rng.uniform(-0.3, 0.3, 2))
        frames.append(scene(array, azimuth, rng.uniform(1 / far, 1 / nearest, 2), t, rng))
    dense_grid = Grid(
        azimuth_min_rad=-np.pi / 2, azimuth_max_rad=np.pi / 2, n_azimuth=241, spacing="angle", range_min_m=nearest,
        range_max_m=far, n_range=85,
    )  # fmt: skip
    dense = steering_dictionary(array, LAMBDA, dense_grid)
    batch = np.stack([frame.x for frame in frames])
    together = near_field_music_batch(batch, dictionary, m)
    alone = [near_field_music_samples(frame.x, dictionary, m, polish=False) for frame in frames]
    positions = [_positions(frame.x, dictionary, m) for frame in frames]
    fitted = [near_field_music_samples(frame.x, dictionary, m) for frame in frames]
    on_grid = [
        _dense_noise(frame.x, dense.conjugate, m, (241, 85), dense.azimuth_rad, dense.inverse_range_per_m)
        for frame in frames
    ]
    truth = np.stack([frame.azimuth_rad for frame in frames])
    errors = {
        "64 at a time": _rms(together.azimuth_rad, truth),
        "positions alone": _rms(np.stack([e.azimuth_rad for e in positions]), truth),
        "one at a time": _rms(np.stack([e.azimuth_rad for e in alone]), truth),
        "with likelihood fit": _rms(np.stack([e.azimuth_rad for e in fitted]), truth),
        "dense grid": _rms(np.stack([e[0] for e in on_grid]), truth),
    }
    check(together.resolved.all() and all(e.complete for e in alone), "a source was not resolved")
    check(all(errors[name] <= errors["dense grid"] for name in errors), f"worse than the dense grid: {errors}")
    check(sum(in_bounds(array, f, e.azimuth_rad) for f, e in zip(frames, alone, strict=True)) >= 0.99 * n_frames, "off")
    x, some = frames[0].x, batch[:64]
    signal_rows = np.ascontiguousarray(signal_subspace_from_samples(x, m).T)
    dense_columns = np.ascontiguousarray(dense.conjugate.T)

    def products() -> None:
        x @ x.conj().T
        signal_rows @ dense_columns

    shape = (241, 85)
    took = take_turns(
        {
            "positions": lambda: _positions(x, dictionary, m),
            "one": lambda: near_field_music_samples(x, dictionary, m, polish=False),
            "fit": lambda: near_field_music_samples(x, dictionary, m),
            "noise": lambda: _dense_noise(x, dense.conjugate, m, shape, dense.azimuth_rad, dense.inverse_range_per_m),
            "signal": lambda: near_field_music_samples(x, dense, m, polish=False),
            "products": products,
            "batch": lambda: near_field_music_batch(some, dictionary, m),
        },
        n_rounds,
    )
    noise = "plain NumPy, noise subspace on 241 x 85"
    add(report, case, "2D MUSIC off the grid", took["positions"], noise, took["noise"], at_most=0.7)
    add(report, case, "2D MUSIC off the grid", took["positions"], "the products of 241 x 85", took["products"])
    add(report, case, "the same, with powers and errors", took["one"], noise, took["noise"])
    add(report, case, "the same, with powers, errors and likelihood fit", took["fit"], noise, took["noise"])
    add(report, case, "the same with powers, searched on 241 x 85", took["signal"], noise, took["noise"])
    rate = len(some) / took["batch"]
    value, interval = median_ci95(rate)
    against, ratio = "one at a time", float(np.median(rate * took["positions"]))
    report.add(
        case, "64 at a time", value, "1/s", n=n_rounds, ci95=interval, against=against, ratio=ratio, at_least=3000
    )
    for name, error in errors.items():
        report.add(case, f"azimuth RMSE, {name}", error, "rad", n=2 * n_frames)


def _positions(x: C64, dictionary: Dictionary, m: int) -> Nulls:
    """Samples to azimuths and ranges, without powers and errors."""
    return search_nulls(signal_subspace_from_samples(x, m).astype(np.complex128), dictionary, tolerance=1e-2)


def _rms(found: F64, truth: F64) -> float:
    return float(np.sqrt(np.mean((np.sort(found, axis=-1) - np.sort(truth, axis=-1)) ** 2)))


def _dense_noise(
    x: C64, conjugate: C64, m: int, shape: tuple[int, int], azimuth_rad: F64, inverse_range: F64, chunk: int = 1 << 15
) -> tuple[F64, F64]:
    """Noise-subspace MUSIC on the whole grid, the ``m`` highest local maxima: what one writes down first."""
    noise = np.linalg.eigh(x @ x.conj().T / x.shape[1])[1][:, :-m]
    cost = np.concatenate(
        [(np.abs(conjugate[i : i + chunk] @ noise) ** 2).sum(axis=1) for i in range(0, len(conjugate), chunk)]
    ).reshape(shape)
    padded = np.pad(cost, 1, constant_values=np.inf)
    around = [padded[1 + i : 1 + i + shape[0], 1 + j : 1 + j + shape[1]] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    low = np.flatnonzero(cost <= np.minimum.reduce(around))
    best = low[np.argsort(cost.ravel()[low])[:m]]
    return azimuth_rad[best // shape[1]], inverse_range[best % shape[1]]


def large(report: Report, n_rounds: int) -> None:
    """N=256, M=4, T=100: the 512 x 256 grid, the coarse one, and a stream with the subspace kept warm."""
    n, t, m, shape = 256, 100, 4, (512, 256)
    array, case, rng = ArrayGeometry.ula(n, LAMBDA / 2), "near field 256, M=4, T=100", np.random.default_rng(SEED)
    coarse, fine = fresnel_grid(array, LAMBDA), fresnel_grid(array, LAMBDA, n_azimuth=shape[0], n_range=shape[1])
    azimuth = np.arcsin(np.array([-0.6, -0.2, 0.15, 0.5]))
    truth = scene(array, azimuth, np.array([0.1, 0.3, 0.5, 0.7]) / coarse.range_min_m, t, rng)
    x = truth.x

    def search(grid: FresnelGrid) -> F64:
        return near_field_line(signal_subspace_from_samples(x, m), grid).azimuth_rad

    exact = Grid(
        azimuth_min_rad=-np.pi / 2, azimuth_max_rad=np.pi / 2, n_azimuth=shape[0], spacing="sine",
        range_min_m=coarse.range_min_m, n_range=shape[1],
    )  # fmt: skip
    dense = steering_dictionary(array, LAMBDA, exact)
    for grid in (coarse, fine):
        check(in_bounds(array, truth, search(grid)), f"azimuths {search(grid)} are off")
    on_grid = _dense_noise(x, dense.conjugate, m, shape, dense.azimuth_rad, dense.inverse_range_per_m)[0]
    beam = 2 / n
    check(np.abs(np.sin(np.sort(on_grid)) - np.sin(azimuth)).max() < beam, "the dense form is off")
    check((len(fine.sine), len(fine.curvature_per_m)) == shape, "grid sizes")
    signal_rows = np.ascontiguousarray(signal_subspace_from_samples(x, m).T)
    columns = dense.conjugate.T
    took = take_turns(
        {
            "fine": lambda: search(fine),
            "coarse": lambda: search(coarse),
            "product": lambda: signal_rows @ columns,
            "eigh": lambda: np.linalg.eigh(x @ x.conj().T / t),
            "subspace": lambda: signal_subspace_from_samples(x, m),
        },
        n_rounds,
    )
    slow = take_turns(
        {
            "fine": lambda: search(fine),
            "noise": lambda: _dense_noise(x, dense.conjugate, m, shape, dense.azimuth_rad, dense.inverse_range_per_m),
        },
        3,
    )
    against = "plain NumPy, noise subspace"
    add(report, case, "512 x 256 by FFT, off the grid", slow["fine"], against, slow["noise"], at_most=15.0)
    product = "the product of signal subspace and dictionary"
    add(report, case, "512 x 256 by FFT, off the grid", took["fine"], product, took["product"], at_most=15.0)
    add(report, case, "coarse grid by FFT, off the grid", took["coarse"], product, took["product"], at_most=15.0)
    add(report, case, "signal subspace from samples", took["subspace"], "covariance and eigh", took["eigh"])
    _stream(report, array, coarse, n_rounds)
    _whole_estimates(report, array, truth, exact, n_rounds)


def _whole_estimates(report: Report, array: ArrayGeometry, truth: Scene, fine: Grid, n_rounds: int) -> None:
    """What the block NearFieldMusic does a frame: powers, errors and likelihood fit included, by FFT and dictionary."""
    m, case = len(truth.azimuth_rad), "near field 256, M=4, T=100, with likelihood fit"
    rows: dict[str, Search] = {}
    for name, grid, size in (("512 x 256", fine, (512, 256)), ("coarse", Grid.coarse(array, LAMBDA), (None, None))):
        rows[f"{name}, FFT"] = line_dictionary(array, LAMBDA, grid, n_azimuth=size[0], n_range=size[1])
        rows[f"{name}, dictionary"] = steering_dictionary(array, LAMBDA, grid)
    found = {name: near_field_music_samples(truth.x, search, m) for name, search in rows.items()}
    azimuth = {name: np.sort(estimate.azimuth_rad) for name, estimate in found.items()}
    for name in rows:
        check(in_bounds(array, truth, azimuth[name]), f"{name} is off")
        check(np.abs(azimuth[name] - azimuth["512 x 256, dictionary"]).max() < 1e-6, f"{name} is not the dictionary's")

    def call(search: Search) -> Callable[[], Any]:
        return lambda: near_field_music_samples(truth.x, search, m)

    took = take_turns({name: call(search) for name, search in rows.items()}, max(7, n_rounds // 4))
    for name in ("512 x 256", "coarse"):
        add(report, case, f"{name} by FFT", took[f"{name}, FFT"], "by dictionary", took[f"{name}, dictionary"])
    header = Header("x", 0, frequency_hz=299792458.0 / LAMBDA)
    for track in (False, True):
        block = NearFieldMusic("music", n_sources=m, track=track)
        block.feed("iq", descriptor_frame(header, array))
        frame = Frame.of(header, iq=(truth.x, "sensor snapshot", "FS"))
        (out,) = (given for port, given in block.feed("iq", frame) if port == "estimates")
        check(in_bounds(array, truth, out["azimuth_rad"]), "the block is off")
        times = take_turns({"block": functools.partial(block.feed, "iq", frame)}, n_rounds)["block"]
        add(report, case, f"block NearFieldMusic, a frame{', tracked' if track else ''}", times)


def _stream(report: Report, array: ArrayGeometry, grid: FresnelGrid, n_rounds: int) -> None:
    m, rng = 4, np.random.default_rng(SEED)
    base, k = np.array([-0.6, -0.2, 0.15, 0.5]), np.array([0.1, 0.3, 0.5, 0.7]) / grid.range_min_m
    frames = [scene(array, np.arcsin(base + 2e-5 * i), k, 100, rng) for i in range(max(30, n_rounds))]
    tracker, times, cold_times = SubspaceTracker(m), [], []
    start: F64 | None = None
    for i, frame in enumerate(frames):
        began = time.perf_counter()
        found = near_field_line(tracker.update(frame.x), grid, start=start)
        start = found.point
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        cold = near_field_line(signal_subspace_from_samples(frame.x, m), grid)
        cold_times.append(time.perf_counter() - began)
        check(in_bounds(array, frame, found.azimuth_rad), f"stream frame {i} is off")
        check(in_bounds(array, frame, cold.azimuth_rad), f"stream frame {i} is off from scratch")
    check(tracker.n_cold <= 1 + len(frames) // 20, f"{tracker.n_cold} of {len(frames)} frames started anew")
    case = "stream 256, M=4, T=100"
    add(
        report,
        case,
        "frame, subspace and nulls warm",
        np.array(times[1:]),
        "from scratch",
        np.array(cold_times[1:]),
        at_most=3.0,
    )
    report.add(case, "frames that started anew", tracker.n_cold, "", n=len(frames))


def planar(report: Report, n_rounds: int) -> None:
    """16 x 16 rectangle, azimuth, elevation and range."""
    array, rng = ArrayGeometry.ura(16, 16, LAMBDA / 2), np.random.default_rng(SEED)
    grid = planar_grid(array, LAMBDA)
    az, el = np.array([-0.5, 0.1, 0.6]), np.array([0.3, -0.4, 0.2])
    r = np.array([0.2, 0.3, 0.15]) * 2 * array.aperture_m**2 / LAMBDA
    a = steering_vector_polar(array.position_m, az, r, LAMBDA, elevation_rad=el).T
    x = (a @ _noise(rng, 3, 100) * 10 ** (SNR_DB / 20) + _noise(rng, 256, 100)).astype(np.complex64)

    def estimate() -> Any:
        return planar_music(signal_subspace_from_samples(x, 3), grid)

    found = estimate()
    order = np.argsort(found.azimuth_rad)
    check(found.resolved.all(), "planar: not resolved")
    check(np.abs(found.azimuth_rad[order] - az).max() < 2e-3, "planar: azimuths are off")
    check(np.abs(found.inverse_range_per_m[order] * r - 1).max() < 0.1, "planar: ranges are off")
    took = take_turns({"planar": estimate}, n_rounds)
    n_points = len(grid.conjugate)
    add(report, "rectangle 16 x 16, M=3, T=100", f"azimuth, elevation, range, {n_points} points", took["planar"])


def growth(report: Report, n_rounds: int, sizes: tuple[int, ...], sources: tuple[int, ...]) -> None:
    """Cost from samples (T=100) against N and M: search by FFT, off the grid; time, and peak memory beyond the grid."""
    table: dict[tuple[int, int], tuple[float, float]] = {}
    for n in sizes:
        array = ArrayGeometry.ula(n, LAMBDA / 2)
        grid = fresnel_grid(array, LAMBDA)
        for m in sources:
            if 4 * m > n:
                continue
            sines = np.linspace(-0.8, 0.8, m) if m > 1 else np.array([0.3])
            k = np.linspace(0.05, 0.3, m) / grid.range_min_m
            truth = scene(array, np.arcsin(sines), k, 100, np.random.default_rng(SEED))

            def estimate(x: C64 = truth.x, m: int = m, grid: FresnelGrid = grid) -> F64:
                return near_field_line(signal_subspace_from_samples(x, m), grid).azimuth_rad

            check(len(estimate()) == m, f"N={n}, M={m}: {len(estimate())} found")
            seconds = take_turns({"one": estimate}, n_rounds)["one"]
            tracemalloc.start()
            estimate()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            table[n, m] = float(np.median(seconds)), float(peak)
            case = f"growth, N={n}, M={m}"
            add(report, case, f"{len(grid.sine)} x {len(grid.curvature_per_m)} grid", seconds)
            report.add(case, "peak memory", peak / 2**20, "MiB", n=1)
    most, largest = max(sources), max(sizes)
    for label, pairs in (
        (f"N at M={min(4, most)}", [(n, table[n, min(4, most)]) for n in sizes if n >= 256]),
        (f"M at N={largest}", [(m, table[largest, m]) for m in sources]),
    ):
        if len(pairs) > 1:
            log_size = np.log([size for size, _ in pairs])
            for column, what in ((0, "time"), (1, "memory")):
                slope = np.polyfit(log_size, np.log([cost[column] for _, cost in pairs]), 1)[0]
                report.add("growth", f"exponent of {what} in {label}", float(slope), "", n=len(pairs))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small sizes")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args()
    report = Report("estimators", as_json=options.json)
    n_rounds = 7 if options.quick else 61
    with threadpool_limits(1):
        far_field(report, n_rounds)
        near_field(report, n_rounds, 64 if options.quick else 500)
        if not options.quick:
            large(report, n_rounds)
        planar(report, n_rounds)
        sizes = (64, 256) if options.quick else (16, 64, 256, 1024, 4096)
        growth(report, 3 if options.quick else 11, sizes, (1, 4) if options.quick else (1, 2, 4, 8, 16))
    report.finish()


if __name__ == "__main__":
    main()
