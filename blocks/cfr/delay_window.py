"""Denoising of channel estimates: what lies in a window of delays is kept, without leaks at the band's edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal.windows import dpss

from hil.errors import ParamError

Complex = npt.NDArray[np.complexfloating[Any, Any]]
C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: Sequences beyond the dimension of the window, for what lies at its edges.
_BEYOND = 8
#: Ridge of the first fit relative to the prior: it only tells how strong the noise is.
_FIRST_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class DelayWindow:
    r"""All responses on ``n`` subcarriers whose delays lie in a window about 0, as seen on pilots.

    Discrete prolate spheroidal sequences B (Slepian 1978): the fewest functions that carry a band of delays on a
    limited band of frequencies. A window cut out of an inverse FFT does the same but for the band's edges, where the
    response does not go on periodically. Several responses may be seen at once, each turned by a phase that rises from
    pilot to pilot (the cyclic shifts of a terminal's ports): they are told apart together, at the edges too.

    With prior variances :math:`\Lambda` of the coefficients, and the pilots' rows turned and set side by side as A, the
    eigenvectors of :math:`\Lambda^{1/2} A^H A \Lambda^{1/2} = V D V^H` make the estimate for any noise a diagonal one.

    Attributes:
        pilot: Subcarriers that are measured.
        analysis: :math:`A \Lambda^{1/2} V`, ``[pilot, function]``.
        synthesis: :math:`B \Lambda^{1/2} V` of each response, ``[response, subcarrier, function]``.
        gain: D, ``[function]``.
    """

    pilot: I64
    analysis: C128
    synthesis: C128
    gain: F64


@lru_cache(maxsize=16)
def delay_window(
    n: int, comb: int, first: int, spacing_hz: float, width_s: float, shifts: tuple[float, ...] = (0.0,)
) -> DelayWindow:
    """Build the window; takes about a second for 3264 subcarriers, and is kept.

    Args:
        n: Subcarriers of the band.
        comb: One of so many is measured.
        first: The first of them.
        spacing_hz: From subcarrier to subcarrier.
        width_s: Of the window: with all its shifts less than ``1 / (comb spacing_hz)``, beyond which delays repeat.
        shifts: Turns from pilot to pilot of each response that is seen.
    """
    widest_s = 1 / (comb * spacing_hz * len(shifts))
    if not 0 < width_s < widest_s:
        raise ParamError(
            f"delay_window: expected a width in 0 .. {widest_s:.3g} s, beyond which delays on 1 of {comb} subcarriers "
            f"of {len(shifts)} ports cannot be told apart; got {width_s:.3g} s"
        )
    half = n * spacing_hz * width_s / 2  # time-bandwidth product
    n_functions = min(n // (comb * len(shifts)), int(np.ceil(2 * half)) + _BEYOND)
    sequences, ratio = dpss(n, half, n_functions, return_ratios=True)
    # of a response of unit power, its delays uniform in the window
    root = np.sqrt(np.maximum(ratio, 1e-9) / (spacing_hz * width_s))
    weighted: F64 = sequences.T * root
    pilot = np.arange(first, n, comb)
    turns = np.exp(2j * np.pi * np.outer(np.arange(len(pilot)), shifts))
    seen = np.concatenate([weighted[pilot] * turns[:, q, None] for q in range(len(shifts))], axis=1)
    gain, vectors = np.linalg.eigh(seen.conj().T @ seen)
    parts = vectors.reshape(len(shifts), n_functions, -1)
    return DelayWindow(pilot, seen @ vectors, weighted @ parts, np.maximum(gain, 0.0))


class Denoised(NamedTuple):
    """``cfr`` of each response on all subcarriers ``[response, ..., subcarrier]``; noise power of a pilot ``[...]``."""

    cfr: C128
    noise_power: F64


def denoise(measured: Complex, window: DelayWindow, spacing_hz: float, centre_s: float = 0.0) -> Denoised:
    r"""Wiener estimate of the responses on all subcarriers of the band, from noisy values on the pilots.

    :math:`\hat h = B \Lambda^{1/2} V (D + \sigma^2 / P)^{-1} (A \Lambda^{1/2} V)^H h_p`, with power P and noise
    :math:`\sigma^2` from the values themselves: the noise is what no response within the window explains.

    Args:
        measured: ``[..., pilot]``.
        window: From :func:`delay_window`.
        spacing_hz: From subcarrier to subcarrier.
        centre_s: Delay at the window's middle.
    """
    n_responses, n, _ = window.synthesis.shape
    n_pilots = len(window.pilot)
    turn = np.exp(2j * np.pi * spacing_hz * centre_s * np.arange(n))
    h = (np.asarray(measured, np.complex128) * turn[window.pilot]).reshape(-1, n_pilots).T  # (pilot, value)
    projected = window.analysis.conj().T @ h
    # how much of the values is noise: what a fit with nearly no ridge leaves
    first = window.gain / (window.gain + _FIRST_RIDGE)
    fit = projected / (window.gain + _FIRST_RIDGE)[:, None]
    left = np.sum(np.abs(h - window.analysis @ fit) ** 2, axis=0)
    noise_power = left / max(n_pilots - float(first.sum()), 1.0)
    power = np.maximum(np.mean(np.abs(h) ** 2, axis=0) - noise_power, 1e-3 * noise_power) / n_responses
    # one ridge for all: antennas of one array see like noise
    ridge = float(np.mean(noise_power)) / max(float(np.mean(power)), np.finfo(float).tiny)
    fit = projected / (window.gain + ridge + 1e-9)[:, None]
    cfr = np.moveaxis(window.synthesis @ fit, -1, 1) * np.conj(turn)  # (response, value, subcarrier)
    shape = measured.shape[:-1]
    return Denoised(cfr.reshape(n_responses, *shape, n), noise_power.reshape(shape))


def strongest_delay_s(measured: Complex, spacing_hz: float, *, oversampling: int = 8) -> float:
    """Delay at which the responses ``[..., pilot]`` are strongest together, in half of ``1 / spacing_hz`` either way.

    The peak of the power over delay, summed over all but the last axis, refined by a parabola.
    """
    n = 1 << int(np.ceil(np.log2(oversampling * measured.shape[-1])))
    delay = np.abs(np.fft.ifft(measured, n, axis=-1)) ** 2
    power = delay.reshape(-1, n).sum(axis=0)
    peak = int(np.argmax(power))
    below, at, above = power[peak - 1], power[peak], power[(peak + 1) % n]
    curve = below - 2 * at + above
    fraction = 0.5 * float((below - above) / curve) if curve < 0 else 0.0
    return float((peak + fraction + n / 2) % n - n / 2) / (n * spacing_hz)
