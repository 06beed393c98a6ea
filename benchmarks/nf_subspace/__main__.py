"""NF-SubspaceNet, DCD-MUSIC, baselines and plain subspace methods on the same test data: [NF] Section IV.

``python -m benchmarks.nf_subspace [--quick] [--json] [--figure 4a ...] [--n N] [--plots DIR] [--keep DIR]``

Every test place is off any grid, from a split that no training has seen, and the number of sources is given but in
Figs. 5 and 6 and Table II (their point at 20 dB), where it is decided by each criterion as well. SNR is that of power.
"mean" is the mean over examples of the mean over sources of the distance, best permutation; "rms" the root of the mean
of the square of [NF] Eq. (23). Each source missed or too many costs the farthest range (49 m at N=15) or 90 degrees.
Methods without weights for a case are left out, which is said on stderr.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from benchmarks.nf_subspace import published
from benchmarks.nf_subspace.cases import Case, cases
from benchmarks.nf_subspace.kept import kept
from benchmarks.nf_subspace.methods import Test, greedy_with_order, key_of, run, weights_of
from benchmarks.nf_subspace.orders import CRITERIA, decided
from benchmarks.nf_subspace.plots import draw_beams, draw_curves, draw_music
from benchmarks.nf_subspace.score import Score, mean_ci95, over_bound, position_bounds, root_mean_square_ci95, score
from benchmarks.report import Report
from sim_device.near_field_places import NearFieldPlaces

SEED = 20


#: Most metres that the block may be off in the mean, see :func:`_targets`.
COHERENT_AT_MOST_M, MIXED_AT_MOST_M, MIXED_CORRECT = 1.5, 6.0, 0.75


class Result(NamedTuple):
    """Of one case: errors, weights and, where the order is decided too, its share that is right, by method."""

    case: Case
    scores: dict[str, Score]
    weights: dict[str, str]
    right: dict[str, np.ndarray]


def measure(case: Case, n: int, report: Report, keep: Path | None) -> Result:
    """Run all methods of a case on the same examples and tell what came out."""
    places = NearFieldPlaces(case.data, SEED, "test")
    test = Test(places, places.batch(0, n))
    result = Result(case, {}, {}, {})
    for name in case.methods:
        weights = weights_of(name, test)
        found = kept(keep, f"{case.label}; {n}; {key_of(name, test)}", partial(_scored, name, test, test.n_sources))
        if found is None:
            print(f"{case.label}: no weights for {name}", file=sys.stderr)
            continue
        result.scores[name], result.weights[name] = found, weights
        _tell(report, result, name)
    if case.measure == "order":
        _orders(report, result, test, keep)
    if case.figure == "4a":
        bounds = position_bounds(test)
        for name in ("2D MUSIC refined", "greedy likelihood", "NF-SubspaceNet block"):
            if name in result.scores:
                value, ci, told = over_bound(result.scores[name], bounds)
                limit = 1.1 if name.endswith("block") and case.x >= 10 else None
                metric = f"{name}: rms over CRB, where that is below 1 m"
                report.add(case.label, metric, value, "", n=told, ci95=ci, at_most=limit)
    return result


def _scored(name: str, test: Test, n_sources: npt.NDArray[np.int64]) -> Score | None:
    found = run(name, test, n_sources)
    return None if found is None else score(test, found[0])


def _tell(report: Report, result: Result, name: str) -> None:
    case, found = result.case, result.scores[name]
    music, n = result.scores["2D MUSIC"], len(found.mean_m)
    label = case.label + (f" [{result.weights[name]}]" if result.weights[name] else "")
    at_most, ratio_at_least = _targets(case, name)
    mean, ci = mean_ci95(found.mean_m)
    ratio = float(music.mean_m.mean()) / mean if mean else None
    against = None if name == "2D MUSIC" else f"2D MUSIC, {music.mean_m.mean():.3g} m"
    report.add(
        label, f"{name}: mean", mean, "m", n=n, ci95=ci, against=against, ratio=ratio if against else None,
        at_most=at_most, ratio_at_least=ratio_at_least,
    )  # fmt: skip
    rms, ci = root_mean_square_ci95(found.rms_m)
    report.add(label, f"{name}: rms", rms, "m", n=n, ci95=ci)
    if found.short.any():
        report.add(label, f"{name}: fewer found than there are", float(found.short.mean()), "", n=n)
    if case.measure == "angle" or case.figure in ("8", "8b"):
        angle, ci = mean_ci95(found.angle_rad)
        limit = 8e-3 if case.measure == "angle" and name == "DCD-MUSIC" else None
        report.add(label, f"{name}: angle RMSPE", angle, "rad", n=n, ci95=ci, at_most=limit)
    if case.figure in ("8", "8b"):
        away, ci = mean_ci95(found.range_m)
        report.add(label, f"{name}: range RMSPE", away, "m", n=n, ci95=ci)


def _targets(case: Case, name: str) -> tuple[float | None, float | None]:
    """Most metres, and least ratio to 2D MUSIC; None where there is no target."""
    if name != "NF-SubspaceNet block":
        return None, None
    if case.figure == "4a":
        return None, 1.0
    if case.figure == "4c":
        return None, 2.0
    if case.figure in ("8", "8b") and case.x >= 0.25:
        return None, 2.0
    if case.figure in ("4b", "4d") and case.x == 20:
        return COHERENT_AT_MOST_M, None
    if case.figure == "6" and case.x == 20:
        return MIXED_AT_MOST_M, None
    return None, None


def _orders(report: Report, result: Result, test: Test, keep: Path | None) -> None:
    """Share of the examples in which the number of sources is right, and the errors with the number decided."""
    case, n = result.case, len(test)
    for name in ("2D MUSIC", "NF-SubspaceNet"):
        for criterion in CRITERIA:
            order = decided(name, criterion, test)
            if order is None:
                continue
            right = order == test.n_sources
            result.right[f"{name}, {criterion}"] = right
            target = MIXED_CORRECT if case.figure == "6" and case.x == 20 and name != "2D MUSIC" else None
            share, ci = mean_ci95(right.astype(float))
            report.add(case.label, f"{name}, {criterion}: number right", share, "", n=n, ci95=ci, at_least=target)
            given = np.minimum(order, case.data["n_sources"][1])
            for method in (name, f"{name} block") if (name, criterion) == ("NF-SubspaceNet", "mdl") else (name,):
                told = kept(
                    keep,
                    f"{case.label}; {n}; {key_of(method, test)}; {criterion}",
                    partial(_scored, method, test, given),
                )
                if told is not None:
                    mean, ci = mean_ci95(told.mean_m)
                    report.add(case.label, f"{method}, {criterion}: mean, number decided", mean, "m", n=n, ci95=ci)
    if case.figure != "6":  # where eigenvalues tell
        return
    told = kept(keep, f"{case.label}; {n}; likelihood", lambda: score(test, greedy_with_order(test)))
    assert told is not None
    result.right["likelihood"] = ~told.short
    share, ci = mean_ci95(1.0 - told.short.astype(np.float64))
    target = MIXED_CORRECT if case.x == 20 else None
    report.add(case.label, "likelihood: number right", share, "", n=n, ci95=ci, at_least=target)
    mean, ci = mean_ci95(told.mean_m)
    report.add(case.label, "likelihood: mean, number decided", mean, "m", n=n, ci95=ci)


def side_by_side(report: Report, n: int) -> None:
    """The published choices where they are at home: on whole degrees and metres, two sources in phase at 20 dB."""
    if not published.WEIGHTS.exists():
        print("no weights of the published choices: python -m benchmarks.nf_subspace.published", file=sys.stderr)
        return
    whole = published.WholePlaces()
    places = NearFieldPlaces({"coherent": True, "snr_db": (20, 20)}, SEED, "test")
    test = Test(places, whole.draw(np.random.default_rng(SEED), n))
    case = Case("4d", "2 coherent in phase, on whole degrees and metres", 20.0, "dB", {}, ())
    result = Result(case, {}, {}, {})
    for name in ("2D MUSIC", "published choices", "NF-SubspaceNet", "NF-SubspaceNet block"):
        found = _scored(name, test, test.n_sources)
        if found is not None:
            result.scores[name], result.weights[name] = found, weights_of(name, test)
            _tell(report, result, name)


def table(results: list[Result]) -> str:
    """Mean ± half its interval (rms) of every method at every point of a figure, as Markdown."""
    names = list(dict.fromkeys(name for r in results for name in r.scores))
    angle = results[0].case.measure == "angle"
    head = "angle RMSPE, rad" if angle else "mean ± 95 % (rms), m"
    lines = [f"| {head} | " + " | ".join(str(n) for n in names) + " |", "|" + " --- |" * (1 + len(names))]
    for r in results:
        cells = []
        for name in names:
            if name not in r.scores:
                cells.append("")
                continue
            mean, (low, _) = mean_ci95(r.scores[name].angle_rad if angle else r.scores[name].mean_m)
            rms = "" if angle else f" ({root_mean_square_ci95(r.scores[name].rms_m)[0]:.3g})"
            cells.append(f"{mean:.3g} ± {mean - low:.2g}{rms}")
        lines.append(f"| {r.case.title}, {r.case.axis} {r.case.x:g} | " + " | ".join(cells) + " |")
    used = sorted({f"{name}: {word}" for r in results for name, word in r.weights.items() if word})
    told = [f"n = {len(next(iter(results[0].scores.values())).mean_m)} a point. Weights:", *used]
    if any(r.right for r in results):
        rules = list(results[0].right)
        lines += ["", "| number right | " + " | ".join(rules) + " |", "|" + " --- |" * (1 + len(rules))]
        for r in results:
            shares = " | ".join(f"{100 * r.right[k].mean():.1f} %" if k in r.right else "" for k in rules)
            lines.append(f"| {r.case.title}, {r.case.axis} {r.case.x:g} | {shares} |")
    return "\n".join([*lines, "", *told]) + "\n"


def draw(folder: Path, figure: str, results: list[Result]) -> None:
    """The table of a figure, and its curves where it has more than one point."""
    stem = f"nf_fig{figure}".replace("figIII", "table3")
    (folder / f"{stem}.md").write_text(table(results))
    if len(results) < 2:
        return
    angle = results[0].case.measure == "angle"
    curves = {}
    for name in dict.fromkeys(name for r in results for name in r.scores):
        there = [r for r in results if name in r.scores]
        figures = [mean_ci95(r.scores[name].angle_rad if angle else r.scores[name].mean_m) for r in there]
        curves[name] = ([r.case.x for r in there], [v for v, _ in figures], [ci for _, ci in figures])
    label = "angle RMSPE, rad" if angle else "mean error, m"
    draw_curves(folder / f"{stem}.png", results[-1].case.title, results[-1].case.axis, label, curves)


def draw_pictures(folder: Path) -> None:
    """Figs. 9 to 12."""
    for number, name in (
        ("9", draw_music(folder / "nf_fig9.png", coherent=False)),
        ("10", draw_music(folder / "nf_fig10.png", coherent=True)),
        ("11", draw_beams(folder / "nf_fig11.png", three=False)),
        ("12", draw_beams(folder / "nf_fig12.png", three=True)),
    ):
        print(f"Fig. {number}: {name or 'no weights for it'}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nf_subspace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = list(dict.fromkeys(case.figure for case in cases(quick=False)))
    parser.add_argument("--figure", nargs="+", choices=known, default=known, help="only these")
    parser.add_argument("--at", type=float, nargs="+", help="only these points of their axes")
    parser.add_argument("--n", type=int, default=1000, help="test examples a point (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few points, 40 examples")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--plots", type=Path, help="write tables and pictures into this folder")
    parser.add_argument("--keep", type=Path, help="keep errors here; what is there is not run again")
    options = parser.parse_args()
    n = 40 if options.quick else options.n
    report = Report("nf_subspace", as_json=options.json)
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        for figure in options.figure:
            points = [case for case in cases(quick=options.quick) if case.figure == figure]
            wanted = [case for case in points if options.at is None or case.x in options.at]
            results = [measure(case, n, report, options.keep) for case in wanted]
            if figure == "4d":
                side_by_side(report, n)
            if options.plots and results:
                draw(options.plots, figure, results)
        if options.plots:
            draw_pictures(options.plots)
    report.finish()


if __name__ == "__main__":
    main()
