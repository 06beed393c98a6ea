"""Phases of an array's elements by direction: the plane wave, and what calibration adds to it."""

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def plane_wave_phase(azimuth_rad: npt.ArrayLike, position_m: F64, wavelength_m: float) -> F64:
    r"""Phase of a plane wave from ``azimuth``, elevation 0: :math:`2\pi u(\theta)\cdot p_m / \lambda`.

    Args:
        azimuth_rad: From +y towards +x, ``[...]``.
        position_m: ``[sensor, xyz]`` in the array frame.
        wavelength_m: Carrier wavelength.

    Returns:
        ``[..., sensor]`` radians.
    """
    azimuth = np.asarray(azimuth_rad, dtype=np.float64)[..., None]
    phase: F64 = 2 * np.pi / wavelength_m * (np.sin(azimuth) * position_m[:, 0] + np.cos(azimuth) * position_m[:, 1])
    return phase


def calibrated_phase(
    azimuth_rad: npt.ArrayLike,
    position_m: F64,
    wavelength_m: float,
    *,
    offset_rad: npt.ArrayLike = 0.0,
    scale: float = 1.0,
    harmonic_rad: npt.ArrayLike = (),
) -> F64:
    r"""Phases of a real array.

    .. math:: \varphi_m(\theta) = \kappa \frac{2\pi}{\lambda} u(\theta)\cdot p_m + o_m
              + \sum_{n\ge 2} c_n \cos n(\theta - \theta_m)

    ``o_m`` are the branches' phases, ``kappa`` the ratio of electrical to drawn size. The harmonics are what mutual
    coupling and the elements' own patterns do to a *circular* array of like elements: by symmetry the same function of
    the angle from the element's own azimuth :math:`\theta_m`, and an even one. Other arrays: give none.

    Args:
        azimuth_rad: ``[...]``.
        position_m: ``[sensor, xyz]``.
        wavelength_m: Carrier wavelength.
        offset_rad: ``[sensor]`` or 0.
        scale: ``kappa``.
        harmonic_rad: ``c_2, c_3, ...``.

    Returns:
        ``[..., sensor]`` radians.
    """
    phase = scale * plane_wave_phase(azimuth_rad, position_m, wavelength_m) + np.asarray(offset_rad, dtype=np.float64)
    harmonics = np.asarray(harmonic_rad, dtype=np.float64)
    if len(harmonics):
        own = np.arctan2(position_m[:, 0], position_m[:, 1])
        angle = np.asarray(azimuth_rad, dtype=np.float64)[..., None] - own
        for n, coefficient in enumerate(harmonics, start=2):
            phase = phase + coefficient * np.cos(n * angle)
    return phase
