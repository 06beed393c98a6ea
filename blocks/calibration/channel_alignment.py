"""Delay, phase and gain of each channel from one signal that all of them hear: a noise source, or one emitter."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import fft, ifft, next_fast_len

from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

#: A delay that is known no better than this is not known.
_WORST_DELAY_STD = 0.5
_NEWTON_STEPS = 8


class ChannelAlignment(NamedTuple):
    """What each channel does to the common signal, relative to the reference channel.

    Attributes:
        delay_samples: How much later it comes, ``[sensor]`` samples; 0 at the reference.
        phase_rad: Phase that the channel adds at the centre frequency, ``[sensor]``; 0 at the reference.
        gain_db: Gain that it adds, ``[sensor]``; mean 0.
        coherence: Of channel and reference once aligned, ``[sensor]``, 0..1.
        delay_std_samples: Standard deviation of the delay, ``[sensor]``.
        phase_std_rad: ... of the phase, ``[sensor]``.
    """

    delay_samples: F64
    phase_rad: F64
    gain_db: F64
    coherence: F64
    delay_std_samples: F64
    phase_std_rad: F64


def measure_alignment(
    samples: npt.NDArray[np.complexfloating], *, reference: int = 0, max_delay_samples: int = 0
) -> ChannelAlignment:
    r"""Align channels by cross-correlation with one of them.

    Model: :math:`x_m(t) = g_m e^{j\varphi_m} s(t - \tau_m) + n_m(t)`, one signal ``s`` and noise of equal power. The
    whole part of :math:`\tau_m` is the highest peak of :math:`|\sum_t x_m(t+\tau) x_0^*(t)|` within
    ``max_delay_samples``; what all channels have in common is cut out, and its fraction maximizes
    :math:`|\sum_k X_m X_0^* e^{j\omega_k\tau}|` (the maximum-likelihood delay for a flat spectrum, Knapp and Carter,
    IEEE Trans. ASSP 24(4), 1976) by Newton's method. Gains and phases are the first eigenvector of the covariance of
    the aligned channels. Deviations are those of Carter, Proc. IEEE 75(2), 1987, Eq. (24), from the coherence.

    Args:
        samples: ``[sensor, snapshot]``, contiguous in time.
        reference: Channel that the others are compared with.
        max_delay_samples: Delays are looked for up to this; 0: there are none, which needs no bandwidth.

    Raises:
        ParamError: Shapes, or fewer than four times ``max_delay_samples`` snapshots.
        EstimationError: A silent channel, or a signal too narrow or too weak to tell delays.
    """
    n_sensors, n = samples.shape
    if not 0 <= reference < n_sensors or n < max(8, 4 * max_delay_samples):
        raise ParamError(
            f"measure_alignment: expected reference below {n_sensors} and at least "
            f"{max(8, 4 * max_delay_samples)} snapshots, got {reference} and {n}"
        )
    x = np.asarray(samples, np.complex128)
    energy = (np.abs(x) ** 2).sum(-1)
    if not (np.isfinite(energy).all() and energy.min() > 0):
        raise EstimationError(f"measure_alignment: channel {int(np.argmin(energy))} is silent: it is dead, or not on")
    delay = np.zeros(n_sensors)
    if max_delay_samples:
        whole = _whole_delays(x, reference, max_delay_samples)
        first, last = -int(whole.min()), n - int(whole.max())
        x = np.stack([row[first + d : last + d] for row, d in zip(x, whole, strict=True)])
        spectrum = fft(x * np.hanning(x.shape[-1]), axis=-1)
        omega: F64 = 2 * np.pi * np.fft.fftfreq(x.shape[-1]).astype(np.float64)
        fraction = _fractions(spectrum * spectrum[reference].conj(), omega)
        spectrum *= np.exp(1j * omega * fraction[:, None])
        delay = whole + fraction
    else:
        spectrum = fft(x, axis=-1)
        omega = 2 * np.pi * np.fft.fftfreq(n).astype(np.float64)
    branch = _first_eigenvector(spectrum)
    if np.abs(branch).min() < 1e-3 * np.abs(branch).max():
        raise EstimationError(
            f"measure_alignment: channel {int(np.abs(branch).argmin())} does not hear the common signal: see to its "
            "cable, or bring the source closer"
        )
    level_db = 20 * np.log10(np.abs(branch))
    phase = np.angle(branch * branch[reference].conj())
    delay[reference] = phase[reference] = 0.0  # but for rounding they are
    coherence, delay_std, phase_std = _deviations(spectrum, phase, omega, reference)
    if not max_delay_samples:
        delay_std = np.zeros(n_sensors)
    if delay_std.max() > _WORST_DELAY_STD:
        raise EstimationError(
            f"measure_alignment: the delay of channel {int(delay_std.argmax())} is known to {delay_std.max():.1f} "
            f"samples only: the common signal is too narrow or too weak; send a wider one, take more snapshots, or set "
            "max_delay_samples to 0 where the channels share one clock"
        )
    return ChannelAlignment(delay, phase, level_db - level_db.mean(), coherence, delay_std, phase_std)


def _whole_delays(x: C128, reference: int, max_delay: int) -> npt.NDArray[np.int64]:
    """Lag of the highest peak of each channel's correlation with the reference, ``[sensor]``."""
    length = next_fast_len(x.shape[-1] + max_delay)
    spectrum = fft(x, length, axis=-1)
    correlation = np.abs(ifft(spectrum * spectrum[reference].conj(), axis=-1))
    lags = np.arange(-max_delay, max_delay + 1)
    delays: npt.NDArray[np.int64] = lags[correlation[:, lags].argmax(-1)]
    return delays


def _fractions(cross: C128, omega: F64) -> F64:
    """Where ``|sum_k C_k exp(j omega_k tau)|`` is highest near 0, ``[sensor]``, within one sample."""
    tau = np.zeros(len(cross))
    for _ in range(_NEWTON_STEPS):
        turned = cross * np.exp(1j * omega * tau[:, None])
        a, a1, a2 = turned.sum(-1), (1j * omega * turned).sum(-1), (-(omega**2) * turned).sum(-1)
        slope = (a.conj() * a1).real
        curvature = np.abs(a1) ** 2 + (a.conj() * a2).real
        step = np.where(curvature < 0, -slope / np.where(curvature < 0, curvature, -1.0), 0.3 * np.sign(slope))
        tau = np.clip(tau + np.clip(step, -0.3, 0.3), -1.0, 1.0)
    return tau


def _first_eigenvector(spectrum: C128) -> C128:
    covariance = spectrum @ spectrum.conj().T
    vector: C128 = np.linalg.eigh(covariance)[1][:, -1]
    return vector


def _deviations(spectrum: C128, phase: F64, omega: F64, reference: int) -> tuple[F64, F64, F64]:
    """Coherence with the reference, and what it means for delay (samples) and phase (rad), each ``[sensor]``."""
    cross = spectrum * spectrum[reference].conj() * np.exp(-1j * phase)[:, None]
    energy = (np.abs(spectrum) ** 2).sum(-1)
    coherence = np.clip(np.abs(cross.sum(-1)) / np.sqrt(energy * energy[reference]), 1e-12, 1.0)
    # noise is not coherent from channel to channel and cancels here, so this is the spectrum of the signal alone
    density = np.delete(cross.real, reference, axis=0).sum(0) if len(cross) > 1 else cross[0].real
    density = density / density.sum()
    centre = density @ omega
    square_bandwidth = max(float(density @ (omega - centre) ** 2), 1e-12)
    n_independent = min(len(omega), 2 / float(density @ density))
    unlike = (1 - coherence**2) / (2 * n_independent * coherence**2)
    return coherence, np.sqrt(unlike / square_bandwidth), np.sqrt(unlike)
