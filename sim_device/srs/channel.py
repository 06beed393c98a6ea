"""Frequency response from a terminal to each antenna: exact spherical wavefront and delay over the whole band."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hil.wavefront import SPEED_OF_LIGHT_M_S, steering_vector_wideband

C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]

#: A step of the timing advance, 16 * 64 T_c / 2^mu (TS 38.213 section 4.2), at 15 kHz.
_TA_STEP_15_KHZ_S = 16 * 64 / (480e3 * 4096)


def frequency_response(
    element_m: F64, path_m: F64, weight: C128, frequency_hz: float, offset_hz: F64, advance_s: float = 0.0
) -> C128:
    r"""Sum over paths, phase and power of each referred to the array's centre at the centre frequency.

    .. math:: H_{mk} = \sum_p w_p \frac{r_p}{r_{mp}} e^{-j 2\pi (f_c + f_k)(r_{mp} - r_p)/c}
              e^{-j 2\pi f_k (r_p/c - t_a)}

    [BS] Eq. (3) read as distances, with the delay to the centre kept at baseband only: the carrier's phase there is
    ``weight``, as in :func:`sim_device.propagation.channel_matrix`, which is this at ``f_k = 0``.

    Args:
        element_m: ``[sensor, xyz]`` metres, array frame.
        path_m: Where each path comes from (a source or its image), ``[path, xyz]`` metres, array frame.
        weight: Amplitude and phase of each path at the centre, ``[path]``.
        frequency_hz: Centre frequency f_c.
        offset_hz: ``[subcarrier]`` Hz from the centre.
        advance_s: Timing advance t_a: how much earlier the terminal sends.

    Returns:
        ``[sensor, subcarrier]`` complex128.
    """
    steering: C128 = steering_vector_wideband(element_m, path_m, frequency_hz + offset_hz, amplitude=True)
    delay_s = np.linalg.norm(path_m, axis=-1) / SPEED_OF_LIGHT_M_S - advance_s
    common = weight[:, None] * np.exp(-2j * np.pi * delay_s[:, None] * offset_hz)  # (path, subcarrier)
    response: C128 = np.einsum("psk,pk->sk", steering, common)
    return response


def timing_advance_s(distance_m: Sequence[float], scs_khz: int) -> float:
    """The advance that brings the nearest path next to 0, in the steps that a base station commands."""
    step_s = _TA_STEP_15_KHZ_S * 15 / scs_khz
    return math.floor(min(distance_m) / SPEED_OF_LIGHT_M_S / step_s + 0.5) * step_s
