"""A picture of a run: tracks on the plan, the last spectrum, errors over time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from hil.array import fraunhofer_distance, fresnel_distance
from hil.errors import RunError
from hil.view.history import History, Points
from hil.wavefront import wavelength_m

F64 = npt.NDArray[np.float64]

#: Colours of tracks: distinct for the colour-blind (Okabe and Ito), readable on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TRUTH = "#222222"
_FAINT = "#9aa0a6"
_DPI = 110
#: Side of the close-up, as a share of the plan.
_INSET = 0.24
_SUFFIXES = (".png", ".svg", ".pdf")


def check_can_draw(path: Path) -> None:
    """Say at once what would only come out after the run.

    Raises:
        RunError: matplotlib is missing, the suffix names no kind of picture, or the folder is not there.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise RunError("pictures need the package matplotlib: pip install 'hil-receiver[plot]'") from error
    if path.suffix not in _SUFFIXES:
        raise RunError(f"{path}: expected a picture's name, which ends in {', '.join(_SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise RunError(f"{path}: there is no folder {path.absolute().parent}")


def draw_picture(history: History, path: Path, title: str) -> None:
    """Draw ``history`` into ``path``; the suffix says how.

    Raises:
        RunError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 6.4), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.12, 1))
    colours = _track_colours(history.positions)
    _draw_plan(figure.add_subplot(grid[:, 0]), history, colours)
    _draw_spectrum(figure, figure.add_subplot(grid[0, 1]), history)
    _draw_errors(figure.add_subplot(grid[1, 1]), history)
    figure.suptitle(_heading(history, title), x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    try:
        figure.savefig(path)
    except OSError as error:
        raise RunError(f"cannot write the picture {path}: {error.strerror or error}") from error


def errors_over_time(points: Iterable[Points], truth: Iterable[Points]) -> tuple[F64, F64]:
    """Time since the first truth and root mean square distance of each frame that has the truth of the same time.

    Estimates and sources are paired for the least sum of squares; a frame without an estimate has no error here: what
    was missed is counted in the run's summary.

    Returns:
        Seconds ``[frame]`` (frame numbers, where frames carry no time) and metres ``[frame]``.
    """
    true = {t.key: t.position_m for t in truth}
    if not true:
        return np.empty(0), np.empty(0)
    start = min(key[1] for key in true)
    times, errors = [], []
    for point in points:
        if point.key in true and len(point.position_m) and len(true[point.key]):
            squared = ((point.position_m[:, None] - true[point.key][None]) ** 2).sum(-1)
            times.append(point.key[1] - start)
            errors.append(np.sqrt(squared[linear_sum_assignment(squared)].mean()))
    return np.array(times) / 1e9, np.array(errors)


def _heading(history: History, title: str) -> str:
    if history.array is None:
        return title
    words = [f"{history.array.n_elements} elements"]
    if history.frequency_hz is not None:
        words.append(f"{history.frequency_hz / 1e9:g} GHz")
    n_frames = len(history.positions) or len(history.estimates)
    return f"{title}: {', '.join([*words, f'{n_frames} frames'])}"


def _track_colours(positions: Iterable[Points]) -> dict[int, str]:
    ids = dict.fromkeys(int(i) for p in positions if p.id is not None for i in p.id)
    return {i: _COLOURS[n % len(_COLOURS)] for n, i in enumerate(ids)}


def _truth_so_far(history: History) -> list[Points]:
    """Truth up to the newest estimate: the device may be a few frames ahead of the receiver when a run ends."""
    newest = max((p.key for p in (*history.positions, *history.estimates)), default=None)
    return [t for t in history.truth if newest is None or t.key <= newest]


def _by_source(points: Iterable[Points]) -> dict[int, F64]:
    """The way of each source or track, ``[frame, xyz]``, by id."""
    ways: dict[int, list[F64]] = {}
    for p in points:
        if p.id is not None:
            for i, position in zip(p.id.tolist(), p.position_m, strict=True):
                ways.setdefault(i, []).append(position)
    return {i: np.array(way) for i, way in ways.items()}


def _draw_plan(axes: Any, history: History, colours: dict[int, str]) -> None:
    _draw_ways(axes, history, colours)
    if history.array is not None:
        element = history.array.to_world(history.array.position_m)
        how = {"lw": 4, "solid_capstyle": "butt"} if history.array.is_linear else {"ls": "", "marker": ".", "ms": 4}
        axes.plot(element[:, 0], element[:, 1], color=_TRUTH, zorder=6, label="array", **how)
    _frame_axes(axes, "Plan", "x / m", "y / m")
    axes.margins(0.09)
    axes.set_aspect("equal", adjustable="datalim")
    if history.array is not None:
        _draw_limits(axes, history)
    if axes.get_legend_handles_labels()[0]:
        _legend_below(axes, -0.09)
    _draw_close_up(axes, history, colours)


def _draw_ways(axes: Any, history: History, colours: dict[int, str]) -> None:
    found = [p.position_m for p in history.estimates if len(p.position_m)]
    if found:
        x, y, _ = np.concatenate(found).T
        axes.plot(x, y, ".", ms=3, color=_FAINT, alpha=0.6, mew=0, label="single frames", zorder=1, rasterized=True)
    for i, way in _by_source(history.positions).items():
        axes.plot(way[:, 0], way[:, 1], color=colours[i], lw=2, label=f"track {i}", zorder=3, solid_capstyle="round")
        axes.plot(*way[-1, :2], "o", ms=7, color=colours[i], mec="white", mew=1.2, zorder=5)
    for n, way in enumerate(_by_source(_truth_so_far(history)).values()):
        label = "truth" if n == 0 else None
        axes.plot(way[:, 0], way[:, 1], color=_TRUTH, lw=0.8, ls=(0, (4, 3)), label=label, zorder=4)
        axes.plot(*way[-1, :2], "o", ms=11, mfc="none", mec=_TRUTH, mew=0.8, zorder=6)  # also where it stood still


def _draw_close_up(axes: Any, history: History, colours: dict[int, str]) -> None:
    """The last steps of the farthest track, where errors can be seen at all."""
    ways = _by_source(history.positions)
    if not ways or history.array is None:
        return
    origin = history.array.origin_m
    way = max(ways.values(), key=lambda w: float(np.linalg.norm(w[-1] - origin)))
    centre, half_m = way[max(len(way) - 25, 0)], 2.0
    if np.ptp(np.concatenate(list(ways.values()))[:, :2]) < 8 * half_m:
        return  # the plan itself is a close-up
    inset = axes.inset_axes((*_emptiest_corner(axes, np.concatenate(list(ways.values()))), _INSET, _INSET))
    _draw_ways(inset, history, colours)
    inset.set_xlim(centre[0] - half_m, centre[0] + half_m)
    inset.set_ylim(centre[1] - half_m, centre[1] + half_m)
    inset.set_aspect("equal")
    inset.tick_params(labelsize=6.5, length=2, pad=1.5)
    for spine in inset.spines.values():
        spine.set_color(_FAINT)
    axes.indicate_inset_zoom(inset, edgecolor=_FAINT, alpha=0.6, lw=0.7)


def _emptiest_corner(axes: Any, position_m: F64) -> tuple[float, float]:
    """Where in the axes an inset hides the least."""
    axes.apply_aspect()
    seen = axes.transAxes.inverted().transform(axes.transData.transform(position_m[:, :2]))
    corners = [(x, y) for y in (0.03, 0.97 - _INSET) for x in (0.03, 0.97 - _INSET)]

    def hidden(corner: tuple[float, float]) -> int:
        inside = (seen > np.array(corner) - 0.05) & (seen < np.array(corner) + _INSET + 0.05)
        return int(inside.all(axis=-1).sum())

    return min(corners, key=hidden)


def _draw_limits(axes: Any, history: History) -> None:
    """Arcs at the edges of the near field, in front of an array that has one."""
    from matplotlib.lines import Line2D

    array = history.array
    assert array is not None
    if history.frequency_hz is None or array.aperture_m == 0:
        return
    wavelength = wavelength_m(history.frequency_hz)
    limits = (
        (fresnel_distance(array.aperture_m, wavelength), "Fresnel"),
        (fraunhofer_distance(array.aperture_m, wavelength) / 2, "half Fraunhofer"),
    )
    shown = [p.position_m for p in (*history.positions, *history.truth) if len(p.position_m)]
    reach_m = 1.2 * max((np.linalg.norm(p - array.origin_m, axis=-1).max() for p in shown), default=0.0)
    azimuth = np.radians(np.linspace(-90, 90, 361))
    for distance_m, name in limits:
        if distance_m > reach_m:
            continue
        own = distance_m * np.stack([np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)], axis=-1)
        arc = array.to_world(own)
        # As an artist, so that the ends of the arc do not widen the plan.
        axes.add_artist(Line2D(arc[:, 0], arc[:, 1], color=_FAINT, lw=0.8, ls=":", zorder=0))
        axes.update_datalim([arc[180, :2]])
        axes.annotate(
            f"{name} {distance_m:.3g} m",
            arc[180, :2],
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=_FAINT,
        )
    axes.autoscale_view()


def _draw_spectrum(figure: Any, axes: Any, history: History) -> None:
    if history.spectrum is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no spectrum in this run", ha="center", va="center", color=_FAINT, transform=axes.transAxes)
        return
    from matplotlib.colors import PowerNorm

    key, arrays = history.spectrum
    spectrum, azimuth, range_m = arrays["spectrum_db"], np.degrees(arrays["azimuth_rad"]), arrays["range_m"]
    spectrum = spectrum - spectrum.max()
    if len(range_m) == 1:
        axes.plot(azimuth, spectrum[:, 0], color=_COLOURS[0], lw=1.2)
        _frame_axes(axes, "Spectrum of the last frame", "azimuth / °", "dB")
        return
    finite = np.isfinite(range_m)
    inverse = np.where(finite, 1 / np.where(finite, range_m, 1.0), 0.0)
    order = np.argsort(inverse)
    inverse, spectrum = inverse[order], spectrum[:, order]
    # Most of a pseudo-spectrum lies near its floor: half of the colours go to the lowest quarter of the decibels.
    norm = PowerNorm(0.5, vmin=max(-40.0, float(spectrum.min())), vmax=0)
    mesh = axes.pcolormesh(azimuth, inverse, spectrum.T, cmap="magma", norm=norm, shading="nearest", rasterized=True)
    figure.colorbar(mesh, ax=axes, label="dB", pad=0.01, fraction=0.05)
    _label_inverse_range(axes, float(inverse.max()))
    truth = next((t.position_m for t in reversed(history.truth) if t.key == key), None)
    if truth is not None and history.array is not None:
        x, y, z = history.array.from_world(truth).T
        axes.plot(
            np.degrees(np.arctan2(x, y)), 1 / np.sqrt(x * x + y * y + z * z), "o", ms=13, mfc="none", mec="white",
            mew=1.3, label="truth",
        )  # fmt: skip
        axes.legend(loc="upper right", fontsize=8, framealpha=0.35, labelcolor="white", facecolor="black")
    _frame_axes(axes, "Spectrum of the last frame", "azimuth / °", "range / m", grid=False)


def _label_inverse_range(axes: Any, most: float) -> None:
    """Ranges at a scale that is even in inverse range, as the wavefront tells it."""
    nice = [r for r in (1, 2, 3, 5, 7, 10, 15, 20, 30, 60, 100, 200, 500, 1000) if 1 / r <= most]
    kept: list[float] = []
    for r in nice:
        if 1 / r > most / 12 and (not kept or 1 / kept[-1] - 1 / r > most / 12):
            kept.append(r)
    axes.set_yticks([*(1 / r for r in kept), 0.0], [*(f"{r:g}" for r in kept), "∞"])
    axes.set_ylim(0, most)


def _draw_errors(axes: Any, history: History) -> None:
    drawn = 0
    for points, label, style in (
        (history.estimates, "single frames", {"ls": "", "marker": ".", "ms": 2.5, "color": _FAINT, "alpha": 0.8}),
        (history.positions, "tracks", {"lw": 1.4, "color": _COLOURS[0]}),
    ):
        times, errors = errors_over_time(points, history.truth)
        if len(errors):
            # A recording of several pieces begins its time anew: no line leads from one to the next.
            cut = np.flatnonzero(np.diff(times) < 0) + 1
            times, drawn_errors = np.insert(times, cut, np.nan), np.insert(np.maximum(errors, 1e-6), cut, np.nan)
            axes.semilogy(times, drawn_errors, label=f"{label}, median {np.median(errors):.3f} m", **style)
            drawn += 1
    if not drawn:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no truth in this run", ha="center", va="center", color=_FAINT, transform=axes.transAxes)
        return
    _frame_axes(axes, "Position error", "time / s", "m")
    _legend_below(axes, -0.2)


def _legend_below(axes: Any, y: float) -> None:
    """A legend that hides nothing, its dots as large as one can see."""
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, y), ncols=6, fontsize=8.5, frameon=False, columnspacing=1.4
    )
    for handle in legend.legend_handles:
        handle.set_alpha(1)
        if handle.get_linestyle() == "None":
            handle.set_markersize(6)


def _frame_axes(axes: Any, title: str, xlabel: str, ylabel: str, *, grid: bool = True) -> None:
    axes.set_title(title, loc="left", fontsize=10.5)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(True, color="#e8eaed", lw=0.6)
        axes.set_axisbelow(True)
