"""The receivers: noise, gain, full scale."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim_device.draws import TICK_BLOCK, Draw, generator

C64 = npt.NDArray[np.complex64]
I64 = npt.NDArray[np.int64]


def noise_block(n_channels: int, block: int, seed: int) -> C64:
    """Circular complex Gaussian noise of unit power, ``[channel, TICK_BLOCK]``, of one block of ticks."""
    pairs = generator(seed, Draw.NOISE, block).standard_normal((n_channels, TICK_BLOCK, 2), np.float32)
    pairs *= np.float32(math.sqrt(0.5))
    return pairs.view(np.complex64)[..., 0]


def front_end(signal: C64, noise: C64, *, noise_power_db: float, gain_db: float, clip: bool) -> tuple[C64, I64]:
    r"""``y = g (x + sigma n)``, then in-phase and quadrature limited to full scale, 1.

    The SNR of a source is ``power_db - noise_power_db``: power over power at an ideal element at the array's centre.
    (At element ``m`` it is higher by ``20 log10 (r / r_m)`` and by the element's own gain; the receiver's gain changes
    nothing but what clips.)

    Args:
        signal: ``[channel, snapshot]``.
        noise: Unit power, like ``signal``.
        noise_power_db: Noise power before the gain, dBFS.
        gain_db: Power gain.
        clip: Whether there is a full scale.

    Returns:
        Samples like ``signal``, and how many of them were clipped at each snapshot, ``[snapshot]``.
    """
    gain = 10 ** (gain_db / 20)
    samples = signal * np.float32(gain)
    samples += noise * np.float32(gain * 10 ** (noise_power_db / 20))
    clipped = np.zeros(samples.shape[1], np.int64)
    parts = samples.view(np.float32)
    if clip and max(float(parts.max()), -float(parts.min())) > 1.0:
        beyond = (np.abs(samples.real) > 1.0) | (np.abs(samples.imag) > 1.0)
        clipped += beyond.sum(axis=0)
        np.clip(parts, -1.0, 1.0, out=parts)
    return samples, clipped
