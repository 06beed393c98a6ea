"""Localization with faulty elements: Figures 6 to 10 of [HI] again, and where the bound is.

``python -m benchmarks.hi_aware [--figures 6 7 8 9 10] [--trials 500] [--quick] [--json] [--plots DIR]``,
``python -m benchmarks.hi_aware --targets --trials 1000`` for ours against the bound with small intervals,
``--keep DIR`` to stop a long run and go on where it was,
``python -m benchmarks.hi_aware --stream`` for frames a second and how soon a fault is in the map.

Set-up of [HI] Section VI-A: line of N = 256 elements half a wavelength apart, 30 GHz, three targets, 100 snapshots, SNR
over all targets, exact wavefront of Eq. (1). In every trial the targets move by up to 0.01 rad and 2 % of their range,
so that none is on a grid, and faults, gains, waveforms and noise are drawn anew. Every method sees the same samples;
ours and [HI] get the pilots, ``blind`` gets none. Intervals are 95 %, bootstrap over trials. ``informed`` is the
maximum likelihood that is told the pilots and the faults; ``controlled`` ratios have the luck of the draws taken out
(:mod:`benchmarks.first_order`).
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmarks.first_order import controlled_ratio, first_order_errors
from benchmarks.hi_aware_stream import draw_recovery, measure_stream
from benchmarks.kept_trials import Tables, kept_trials
from benchmarks.report import Report
from blocks.bounds.impaired import impaired_crb
from blocks.bounds.misspecified import misspecified_bound, near_field_mean
from blocks.hi_aware.block_descent import block_descent
from blocks.hi_aware.estimate import estimate_with_faults
from blocks.hi_aware.fault_test import fault_test
from blocks.hi_aware.joint_fit import fit_jointly
from blocks.hi_aware.reduce import Reduced, reduce_blind, reduce_by_pilots
from blocks.hi_aware.scene import Places, Scene
from blocks.hi_aware.three_phases import three_phases
from blocks.subspace.dictionary import steering_dictionary
from hil.array import ArrayGeometry
from hil.errors import EstimationError
from hil.wavefront import wavelength_m

F64 = npt.NDArray[np.float64]

WAVELENGTH_M = wavelength_m(30e9)
TARGETS = (np.array([np.pi / 12, -np.pi / 12, -np.pi / 6]), np.array([10.0, 18.0, 8.0]))
METHODS = ("ours", "blind", "HI", "coarse", "BCD")
SHOWN = (*METHODS, "informed", "CRB", "blind CRB", "LB")
#: How each looks in a picture: bounds are lines, estimates have markers, so that an estimate on its bound is seen.
LOOKS: dict[str, dict[str, Any]] = {
    "BCD": {"color": "C4", "marker": "."},
    "HI": {"color": "C2", "marker": "."},
    "coarse": {"color": "C3", "marker": "."},
    "LB": {"color": "0.6"},
    "CRB": {"color": "k", "linewidth": 1},
    "ours": {"color": "C0", "marker": "o", "markersize": 8, "linewidth": 0.8},
    "blind": {"color": "C1", "marker": "x", "markersize": 5, "linewidth": 0.8},
}
#: Trials whose LB is computed: it needs second derivatives and hardly differs between trials.
N_LB_TRIALS = 20
#: Trials in which the block coordinate descent runs: it takes more time than all others together and is off by metres.
N_BCD_TRIALS = 50


class Point(NamedTuple):
    """One point of a figure."""

    n: int = 256
    snr_db: float = 15.0
    p_fault: float = 0.02
    targets: tuple[tuple[float, ...], tuple[float, ...]] = (tuple(TARGETS[0]), tuple(TARGETS[1]))

    @property
    def label(self) -> str:
        where = "" if len(self.targets[0]) > 1 else f", {self.targets[1][0]:g} m"
        return f"N={self.n}, {self.snr_db:g} dB, {100 * self.p_fault:g} %{where}"


class Result(NamedTuple):
    """Squared errors by method ``[trial]``, NaN where it gave up; bounds ``[trial]``; counts."""

    azimuth2: dict[str, F64]
    range2: dict[str, F64]
    xy2: dict[str, F64]
    nmse: dict[str, F64]
    counts: dict[str, F64]  # [trial, (true, false, missed)]


def run_point(point: Point, n_trials: int, *, published: bool = True, keep: Path | None = None) -> Result:
    """All methods on the same draws, or ours alone; the seed follows from the point."""

    def run(first: int, end: int) -> Tables:
        dictionary = steering_dictionary(ArrayGeometry.ula(point.n, WAVELENGTH_M / 2), WAVELENGTH_M, amplitude=False)
        rows = [trial(point, dictionary, i, published=published) for i in range(first, end)]
        return [_gather(rows, i) for i in range(5)]

    return Result(*kept_trials(keep, f"{point!r} {published}", n_trials, run))


def _gather(rows: list[tuple[dict[str, Any], ...]], key: int) -> dict[str, F64]:
    names = {name for row in rows for name in row[key]}
    width = next(len(np.atleast_1d(v)) for row in rows for v in row[key].values())
    nothing = np.full(width, np.nan)
    table = {m: np.array([np.atleast_1d(row[key].get(m, nothing)) for row in rows]) for m in names}
    return table if width > 1 else {m: v[:, 0] for m, v in table.items()}


def trial(point: Point, dictionary: Any, index: int, *, published: bool) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng([zlib.crc32(repr(point).encode()), index])
    scene, k, n, t = Scene.of(dictionary), len(point.targets[0]), point.n, 100
    az = np.array(point.targets[0]) + rng.uniform(-0.01, 0.01, k)
    r = np.array(point.targets[1]) * (1 + rng.uniform(-0.02, 0.02, k))
    c = np.where(rng.uniform(size=n) < point.p_fault, np.exp(2j * np.pi * rng.uniform(size=n)), 1)
    s = (rng.standard_normal((k, t)) + 1j * rng.standard_normal((k, t))) / np.sqrt(2)
    beta = np.exp(2j * np.pi * rng.uniform(size=k))
    noise_power = k / 10 ** (point.snr_db / 10)
    noise = rng.standard_normal((n, t)) + 1j * rng.standard_normal((n, t))
    a = scene.vectors(az, 1 / r).T
    y = c[:, None] * (a @ (beta[:, None] * s)) + np.sqrt(noise_power / 2) * noise

    found: dict[str, tuple[Places, Any]] = {}
    pilots, blind = reduce_by_pilots(y, s), reduce_blind(y, k)
    for name, data in (("ours", pilots), ("blind", blind)):
        try:
            estimate = estimate_with_faults(data, dictionary)
            found[name] = estimate.places, estimate.coefficient
        except EstimationError:
            continue
    informed = fit_jointly(pilots, scene, Places(az, 1 / r), np.zeros(n, np.int8), c)
    found["informed"] = informed.places, None
    if published:
        _published(found, y, s, pilots, scene, with_bcd=index < N_BCD_TRIALS)

    errors: tuple[dict[str, Any], ...] = ({}, {}, {}, {}, {})
    for name, (places, coefficient) in found.items():
        order = np.argsort(places.azimuth_rad)[np.argsort(np.argsort(az))]  # as paired as [HI] pairs, ascending
        got_az, got_r = places.azimuth_rad[order], places.range_m[order]
        errors[0][name] = np.mean((got_az - az) ** 2)
        errors[1][name] = np.mean((np.minimum(got_r, 1e3) - r) ** 2)
        errors[2][name] = np.mean(np.abs(np.minimum(got_r, 1e3) * np.exp(1j * got_az) - r * np.exp(1j * az)) ** 2)
        if coefficient is not None:
            errors[3][name] = np.sum(np.abs(coefficient - c) ** 2) / np.sum(np.abs(c) ** 2)
            errors[4][name] = _counts(coefficient != 1, c != 1)
    oracle = fault_test(pilots.z, a @ (beta[:, None] * pilots.mixing), noise_power, point.p_fault or 1 / n)
    errors[4]["oracle"] = _counts(oracle.kind != 0, c != 1)
    _bounds(errors, scene, az, r, beta[:, None] * s, c, noise_power)
    for table, first_order in zip(errors, first_order_errors(pilots, scene, az, r, beta, c), strict=False):
        table["first order"] = np.mean(first_order**2)
    if published and index < N_LB_TRIALS:
        _lower_bound(errors, scene, az, r, beta, pilots, c, noise_power)
    return errors


def _published(
    found: dict[str, tuple[Places, Any]], y: Any, s: Any, pilots: Reduced, scene: Scene, *, with_bcd: bool
) -> None:
    try:
        phases = three_phases(y, s, scene)
        found["HI"], found["coarse"] = (phases.fine, phases.coefficient), (phases.coarse, None)
    except EstimationError:  # counted: a trial without an entry is one that gave up
        pass
    if with_bcd:
        found["BCD"] = block_descent(pilots, scene)


def _counts(said: Any, true: Any) -> F64:
    return np.array([np.sum(said & true), np.sum(said & ~true), np.sum(~said & true)], dtype=np.float64)


def _bounds(errors: Any, scene: Scene, az: F64, r: F64, s: Any, c: Any, noise_power: float) -> None:
    for name, known in (("CRB", True), ("blind CRB", False)):
        bound = impaired_crb(
            scene.position_m, az, np.zeros(len(az)), r, WAVELENGTH_M, s, c, noise_power,
            known_waveforms=known, amplitude=False,
        )  # fmt: skip
        of_az, of_r = np.einsum("kaka->ak", bound)
        errors[0][name], errors[1][name] = of_az.mean(), of_r.mean()
        errors[2][name] = np.mean(of_r + r**2 * of_az)


def _lower_bound(errors: Any, scene: Scene, az: F64, r: F64, beta: Any, pilots: Any, c: Any, noise: float) -> None:
    k = len(az)
    mean = near_field_mean(scene.position_m, WAVELENGTH_M, pilots.mixing)
    truth = np.concatenate([beta.real, beta.imag, az, r])
    faulty = c[:, None] * (scene.vectors(az, 1 / r).T @ (beta[:, None] * pilots.mixing))
    try:
        diagonal = np.diagonal(misspecified_bound(mean, faulty, truth, noise).lower_bound)
    except EstimationError:
        return
    errors[0]["LB"], errors[1]["LB"] = diagonal[2 * k : 3 * k].mean(), diagonal[3 * k :].mean()
    errors[2]["LB"] = np.mean(diagonal[3 * k :] + r**2 * diagonal[2 * k : 3 * k])


def rms(squared: F64) -> float:
    return float(np.sqrt(np.nanmean(squared)))


def ratio_ci(ours: F64, bound: F64, n_resamples: int = 1000) -> tuple[float, tuple[float, float]]:
    """RMSE to root bound, and its 95 % bootstrap interval over trials."""
    kept = np.isfinite(ours) & np.isfinite(bound)
    a, b = ours[kept], bound[kept]
    draws = np.random.default_rng(0).integers(len(a), size=(n_resamples, len(a)))
    ratios = np.sqrt(a[draws].mean(axis=1) / b[draws].mean(axis=1))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.sqrt(a.mean() / b.mean())), (float(low), float(high))


def f1(counts: F64) -> float:
    true, false, missed = np.nansum(counts, axis=0)
    return float(2 * true / max(2 * true + false + missed, 1))


def f1_ci(counts: F64, other: F64 | None = None, n_resamples: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval over trials of F1, or of how much that of ``other`` on the same trials is above it."""
    draws = np.random.default_rng(0).integers(len(counts), size=(n_resamples, len(counts)))
    values = [f1(counts[d]) if other is None else f1(other[d]) - f1(counts[d]) for d in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def report_point(report: Report, point: Point, result: Result) -> None:
    n = len(result.azimuth2["ours"])
    _report_ratios(report, point, result)
    if "HI" in result.azimuth2:
        for quantity, table in (("angle", result.azimuth2), ("range", result.range2)):
            report.add(point.label, f"{quantity} RMSE, HI's to ours", rms(table["HI"]) / rms(table["ours"]), "", n=n)
    for method in ("ours", "blind"):
        lost = int(np.isnan(result.azimuth2[method]).sum())
        if lost:
            report.add(point.label, f"frames given up, {method}", lost, "", n=n)
    if point.p_fault:
        for method in ("ours", "blind", "HI", "oracle"):
            if method not in result.counts:
                continue
            target = 0.99 if method == "ours" and point.snr_db == 10 else None
            counts = result.counts[method]
            report.add(
                point.label, f"fault F1, {method}", f1(counts), "", n=n, ci95=f1_ci(counts), at_least=target
            )  # fmt: skip
        ours, oracle = result.counts["ours"], result.counts["oracle"]
        report.add(
            point.label, "fault F1, the oracle's above ours", f1(oracle) - f1(ours), "", n=n, ci95=f1_ci(ours, oracle)
        )
        if "HI" in result.nmse:
            below = to_db(result.nmse["HI"]) - to_db(result.nmse["ours"])
            target = 5.0 if point.snr_db == 20 else None
            report.add(point.label, "NMSE of coefficients below HI's", below, "dB", n=n, at_least=target)


def _report_ratios(report: Report, point: Point, result: Result) -> None:
    """Ours and blind against their bounds: as drawn, with the draws taken out, and against knowing the faults."""
    n = len(result.azimuth2["ours"])
    for quantity, table in (("angle", result.azimuth2), ("range", result.range2)):
        for method, bound in (("ours", "CRB"), ("blind", "blind CRB"), ("informed", "CRB")):
            limit, case = _limit(method, point), (point.label, f"{quantity} RMSE to root-CRB")
            value, ci = ratio_ci(table[method], table[bound])
            report.add(case[0], f"{case[1]}, {method}", value, "", n=n, ci95=ci, at_most=limit)
            value, ci = controlled_ratio(table[method], table[bound], table["first order"], table["CRB"])
            report.add(case[0], f"{case[1]}, controlled, {method}", value, "", n=n, ci95=ci, at_most=limit)
        for method in ("ours", "blind"):
            value, ci = ratio_ci(table[method], table["informed"])
            report.add(point.label, f"{quantity} RMSE to that of informed, {method}", value, "", n=n, ci95=ci)


def to_db(values: F64) -> float:
    return float(10 * np.log10(np.nanmean(values) + 1e-30))


def figure_table(points: list[Point], results: dict[Point, Result]) -> str:
    """RMSE and NMSE of every method at every point of a figure, as Markdown; in brackets how many trials gave up."""
    lines = []
    for name, title in (("azimuth2", "angle RMSE, rad"), ("range2", "range RMSE, m"), ("nmse", "NMSE, dB")):
        columns = [m for m in SHOWN if any(m in getattr(results[p], name) for p in points)]
        lines += ["", f"| {title} | " + " | ".join(columns) + " |", "|" + " --- |" * (1 + len(columns))]
        for p in points:
            cells = []
            for m in columns:
                v = getattr(results[p], name).get(m)
                lost = 0 if v is None or m == "LB" else int(np.isnan(v[:N_BCD_TRIALS] if m == "BCD" else v).sum())
                text = "" if v is None else f"{to_db(v):.1f}" if name == "nmse" else f"{rms(v):.3g}"
                cells.append(text + (f" ({lost})" if lost else ""))
            lines.append(f"| {p.label} | " + " | ".join(cells) + " |")
    return "\n".join(lines[1:]) + "\n"


def ratio_table(results: dict[Point, Result]) -> str:
    """RMSE to the root bound at every point, as drawn and controlled, against [HI], and faults found, as Markdown."""
    columns = [
        f"{q}, {m}{how}" for m in ("pilots", "blind") for how in ("", ", controlled") for q in ("angle", "range")
    ]
    published = any("HI" in result.azimuth2 for result in results.values())
    rest = ["F1", "F1 of the oracle", *(["[HI]'s errors to ours, angle, range", "NMSE below [HI]'s, dB"] * published)]
    columns = ["case", *columns, *rest, "trials"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for point, result in results.items():
        cells = [point.label]
        for method, bound in (("ours", "CRB"), ("blind", "blind CRB")):
            tables = (result.azimuth2, result.range2)
            values = [ratio_ci(t[method], t[bound]) for t in tables]
            values += [controlled_ratio(t[method], t[bound], t["first order"], t["CRB"]) for t in tables]
            cells += [f"{value:.3f} ({low:.3f} .. {high:.3f})" for value, (low, high) in values]
        cells += [f"{f1(result.counts[m]):.3f}" for m in ("ours", "oracle")] if point.p_fault else ["", ""]
        if published:
            times = [rms(t["HI"]) / rms(t["ours"]) for t in (result.azimuth2, result.range2)]
            below = to_db(result.nmse["HI"]) - to_db(result.nmse["ours"])
            cells += [", ".join(f"{v:.3g}" for v in times), f"{below:.1f}"]
        lines.append("| " + " | ".join([*cells, str(len(result.azimuth2["ours"]))]) + " |")
    return "\n".join(lines) + "\n"


def report_targets(report: Report, n_trials: int, keep: Path | None) -> dict[Point, Result]:
    """Ours alone, many trials, where targets are set."""
    points = [Point(snr_db=v, p_fault=p) for p in (0.02, 0.04) for v in (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)]
    results: dict[Point, Result] = {}
    for point in (*points, Point(snr_db=30.0, p_fault=0.14)):
        results[point] = run_point(point, n_trials, published=False, keep=keep)
        report_point(report, point, results[point])
    return results


def _limit(method: str, point: Point) -> float | None:
    if method == "ours" and point.snr_db >= 0 and point.p_fault in (0.02, 0.04):
        return 1.05
    if method == "ours" and point.snr_db == 30 and point.p_fault == 0.14:
        return 1.2
    if method == "blind" and point.snr_db >= 10:
        return 1.2
    return None


def figures(quick: bool) -> dict[int, list[Point]]:
    """Points of each figure."""
    snr = (0.0, 10.0) if quick else tuple(float(v) for v in range(-10, 31, 5))
    one = (float(np.pi / 12),)
    sizes = (64, 128) if quick else (64, 128, 192, 256, 384)
    ranges = (10.0,) if quick else (8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
    shares = (0.14,) if quick else (0.02, 0.04, 0.06, 0.08, 0.10, 0.12, 0.14)
    return {
        6: [Point(snr_db=v) for v in snr],
        7: [Point(n=n, p_fault=p) for p in (0.01, 0.02) for n in sizes],
        8: [Point(targets=(one, (r,))) for r in ranges],
        9: [Point(snr_db=v, p_fault=p) for v in (15.0, 30.0) for p in shares],
        10: [Point(snr_db=v, p_fault=p) for p in (0.01, 0.02, 0.04) for v in snr],
    }


def plot(number: int, points: list[Point], results: dict[Point, Result], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x_of = {6: "snr_db", 7: "n", 8: "range", 9: "p_fault", 10: "snr_db"}[number]
    x_label = {
        "snr_db": "SNR over all targets, dB", "n": "elements", "range": "range, m", "p_fault": "fault probability",
    }[x_of]  # fmt: skip
    tables = {
        6: [("azimuth2", "angle RMSE, rad"), ("range2", "range RMSE, m")],
        7: [("azimuth2", "angle RMSE, rad"), ("range2", "range RMSE, m")],
        8: [("xy2", "position RMSE, m")],
        9: [("xy2", "position RMSE, m")],
        10: [("nmse", "NMSE of the coefficients, dB")],
    }[number]
    groups: dict[tuple[float, float], list[Point]] = {}
    for p in points:
        key = (p.p_fault if x_of != "p_fault" else -1.0, p.snr_db if x_of != "snr_db" else -1.0)
        groups.setdefault(key, []).append(p)
    figure, axes = plt.subplots(1, len(tables), figsize=(6.4 * len(tables), 4.6), squeeze=False)
    lines = ("-", "--", ":")
    for ax, (name, label) in zip(axes[0], tables, strict=True):
        for style, ((share, snr_db), group) in zip(lines, groups.items(), strict=False):
            tag = "" if len(groups) == 1 else f", {100 * share:g} %" if share >= 0 else f", {snr_db:g} dB"
            for method, look in LOOKS.items():
                with_it = [p for p in group if method in getattr(results[p], name)]
                if not with_it or (name == "nmse" and method == "coarse"):
                    continue
                values = [getattr(results[p], name)[method] for p in with_it]
                y = [10 * np.log10(np.nanmean(v) + 1e-30) if name == "nmse" else rms(v) for v in values]
                x = [p.targets[1][0] if x_of == "range" else getattr(p, x_of) for p in with_it]
                ax.plot(x, y, style, label=method + tag, fillstyle="none", **look)
        if name != "nmse":
            ax.set_yscale("log")
        ax.set_xlabel(x_label)
        ax.set_ylabel(label)
        ax.grid(True, which="both", alpha=0.3)
    axes[0][-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), title="bounds have no markers")
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"hi_aware_fig{number}.png", dpi=110)
    plt.close(figure)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=int, nargs="+", default=[6, 7, 8, 9, 10], choices=[6, 7, 8, 9, 10])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="few points, 20 trials")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--targets", action="store_true", help="ours against the bound alone: takes many trials")
    parser.add_argument("--stream", action="store_true", help="the live stream instead of the figures")
    parser.add_argument("--plots", type=Path, help="write pictures and tables into this folder")
    parser.add_argument("--keep", type=Path, help="keep trials here; what is there is not run again")
    options = parser.parse_args(None if arguments is None else list(arguments))
    report = Report("benchmarks.hi_aware", as_json=options.json)
    if options.stream:
        measure_stream(report, n_changes=3 if options.quick else 10)
        if options.plots:
            draw_recovery(options.plots)
        report.finish()
        return
    n_trials = 20 if options.quick else options.trials
    if options.targets:
        with threadpool_limits(limits=1):
            results = report_targets(report, n_trials, options.keep)
        if options.plots:
            options.plots.mkdir(parents=True, exist_ok=True)
            (options.plots / "hi_aware_targets.md").write_text(ratio_table(results))
        report.finish()
        return
    results = {}
    with threadpool_limits(limits=1):
        for number in options.figures:
            points = figures(options.quick)[number]
            for point in points:
                if point not in results:
                    results[point] = run_point(point, n_trials, keep=options.keep)
                    report_point(report, point, results[point])
            if options.plots:
                plot(number, points, results, options.plots)
                (options.plots / f"hi_aware_fig{number}.md").write_text(figure_table(points, results))
    if options.plots:
        (options.plots / "hi_aware_points.md").write_text(ratio_table(results))
    report.finish()


if __name__ == "__main__":
    main()
