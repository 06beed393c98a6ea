"""Curves of the figures, and pictures of spectra and beams: [NF] Figs. 4 to 12."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.nf_subspace.networks import choose
from blocks.subspace.beamforming import capon_spectrum
from hil.view.spectra import Spectrum, draw_spectra
from hil.wavefront import steering_vector_polar
from sim_device.near_field_places import NearFieldPlaces

F64 = npt.NDArray[np.float64]

#: Places of [NF] Figs. 9 to 12: azimuth in degrees, range in m, and SNR in dB.
TWO_SPECTRA = (((-35.0, 12.0), (25.0, 20.0)), 10.0)
TWO_BEAMS = (((-25.0, 15.0), (25.0, 35.0)), 10.0)
THREE_BEAMS = (((-25.0, 15.0), (25.0, 20.0), (-25.0, 40.0)), 0.0)

#: What the axes of the cases are called in full.
_AXES = {
    "dB": "SNR, dB",
    "T": "snapshots",
    "eta/wavelength": "largest position error of an element, wavelengths",
    "Fraunhofer x": "farthest sources, Fraunhofer distances",
}

Curve = tuple[list[float], list[float], list[tuple[float, float]]]


def draw_curves(path: Path, title: str, axis: str, label: str, curves: dict[str, Curve]) -> None:
    """One panel: a curve a method, with its 95 % intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for i, (name, (x, y, ci)) in enumerate(curves.items()):
        around = np.abs(np.array(ci).T - y)
        panel.errorbar(
            x, y, around, label=name, capsize=2, lw=1.2, marker="os^vDP*X"[i % 8], ms=4,
            ls="-" if i % 2 else "--", color=f"C{i % 10}" if i < 10 else ("black", "goldenrod", "navy")[i % 3],
        )  # fmt: skip
    panel.set(title=title, xlabel=_AXES[axis], ylabel=label, yscale="linear" if "share" in label else "log")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.savefig(path, dpi=110)


def scene(
    places: Sequence[tuple[float, float]], snr_db: float, *, coherent: bool, seed: int = 3
) -> tuple[npt.NDArray[np.complex64], F64, NearFieldPlaces]:
    """Samples ``[sensor, snapshot]`` of sources at given places, these as ``[source, 2]``, and data of such a kind."""
    n = len(places)
    data = NearFieldPlaces({"coherent": coherent, "n_sources": (n, n), "snr_db": (snr_db, snr_db)}, 0, "test")
    truth = np.array([(np.deg2rad(azimuth), r) for azimuth, r in places])
    steering = steering_vector_polar(
        data.array.channel_position_m, truth[:, 0], truth[:, 1], data.wavelength_m, amplitude=True
    )
    rng = np.random.default_rng(seed)
    t = data.params.n_snapshots
    waveform = (rng.normal(size=(n, t)) + 1j * rng.normal(size=(n, t))) * np.sqrt(0.5)
    if coherent:
        waveform = np.repeat(waveform[:1], n, axis=0)
    noise = (rng.normal(size=(len(steering[0]), t)) + 1j * rng.normal(size=(len(steering[0]), t))) * np.sqrt(0.5)
    return (10 ** (snr_db / 20) * steering.T @ waveform + noise).astype(np.complex64), truth, data


def draw_music(path: Path, *, coherent: bool) -> str | None:
    """Spectra on both covariances, [NF] Figs. 9 and 10; the name of the weights, None where there are none."""
    samples, truth, data = scene(*TWO_SPECTRA, coherent=coherent)
    return _draw(path, samples, truth, data, beams=False)


def draw_beams(path: Path, *, three: bool) -> str | None:
    """Power of minimum-variance beams on both, [NF] Figs. 11 and 12; the name of the weights or None."""
    samples, truth, data = scene(*(THREE_BEAMS if three else TWO_BEAMS), coherent=True)
    return _draw(path, samples, truth, data, beams=True)


def _draw(
    path: Path, samples: npt.NDArray[np.complex64], truth: F64, data: NearFieldPlaces, *, beams: bool
) -> str | None:
    chosen = choose("nf_subspacenet", data)
    if chosen is None:
        return None
    with torch.no_grad():
        surrogate = chosen.model(torch.from_numpy(samples[None]))[0].numpy()
    x = samples.astype(np.complex128)
    azimuth = np.linspace(-data.params.azimuth_limit_rad, data.params.azimuth_limit_rad, 241)
    ranges = np.linspace(float(data.range_m[0]), float(data.range_m[1]), 120)
    steering = steering_vector_polar(
        data.array.channel_position_m, azimuth[:, None], ranges, data.wavelength_m, amplitude=True
    )
    unit = steering / np.linalg.norm(steering, axis=-1, keepdims=True)
    shown = []
    for title, covariance in (("sample covariance", x @ x.conj().T / x.shape[1]), ("network's covariance", surrogate)):
        if beams:
            flat = np.ascontiguousarray(unit.conj().reshape(-1, unit.shape[-1]))
            level = capon_spectrum(covariance, flat).reshape(unit.shape[:2])
        else:
            signal = np.linalg.eigh(covariance)[1][:, ::-1][:, : len(truth)]
            level = 1 / np.maximum(1 - (np.abs(unit.conj() @ signal) ** 2).sum(-1), 1e-12)
        shown.append(Spectrum(title, 10 * np.log10(level), azimuth, ranges, truth))
    draw_spectra(path, shown)
    return chosen.name
