"""Spectra over azimuth and range side by side, with the true places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

_DPI = 110


class Spectrum(NamedTuple):
    """One spectrum.

    Attributes:
        title: What it is of.
        spectrum_db: ``[azimuth, range]``.
        azimuth_rad: ``[azimuth]``.
        range_m: ``[range]``, finite.
        truth: Azimuth in rad and range in m of each source, ``[source, 2]``.
    """

    title: str
    spectrum_db: F64
    azimuth_rad: F64
    range_m: F64
    truth: F64


def draw_spectra(path: Path, spectra: Sequence[Spectrum]) -> None:
    """Write a picture; its suffix says of which kind (see :func:`hil.view.picture.check_can_draw`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(spectra), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(spectra), squeeze=False, sharey=True)[0]
    for axis, s in zip(axes, spectra, strict=True):
        shown = s.spectrum_db - s.spectrum_db.max()
        mesh = axis.pcolormesh(
            np.rad2deg(s.azimuth_rad), s.range_m, shown.T, cmap="viridis", vmin=max(shown.min(), -40), shading="nearest"
        )
        axis.plot(np.rad2deg(s.truth[:, 0]), s.truth[:, 1], "x", color="#D55E00", markersize=9, mew=2, label="truth")
        axis.set(title=s.title, xlabel="azimuth, degrees")
        figure.colorbar(mesh, ax=axis, label="dB")
    axes[0].set_ylabel("range, m")
    axes[0].legend(loc="upper right")
    figure.savefig(path, dpi=_DPI)
