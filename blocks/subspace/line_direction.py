"""Directions of plane waves on a uniform line from the phase step between neighbours."""

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from hil.errors import ParamError

Array = Any  # NumPy or torch

#: Largest spacing in wavelengths: 1 % above a half, so that a carrier a little above the one an array was cut for is
#: taken. Only directions whose sine is beyond 0.98 then repeat, where a line sees next to nothing.
MOST_SPACING = 0.505


class LinePhases(NamedTuple):
    r"""What root-MUSIC and ESPRIT find, ascending in phase.

    Attributes:
        phase_rad: Phase from one sensor to the next, ``2 pi spacing sin(azimuth) / lambda``, ``[..., source]``.
        radius: Modulus of the root or eigenvalue, ``[..., source]``: 1 for a plane wave without noise; far from 1
            where the subspace holds no such wave.
    """

    phase_rad: Array
    radius: Array


class LineDirections(NamedTuple):
    """Azimuths from broadside.

    Attributes:
        azimuth_rad: ``[..., source]``; endfire where not visible.
        visible: False where no direction gives this phase step: noise, or a wavefront that is not plane.
    """

    azimuth_rad: Array
    visible: Array


def sorted_phases(factors: Array) -> LinePhases:
    """Complex factors between neighbouring sensors ``[..., source]`` as ascending phases with moduli."""
    xp = array_namespace(factors)
    phase = xp.atan2(xp.imag(factors), xp.real(factors))
    order = xp.argsort(phase, axis=-1)
    return LinePhases(xp.take_along_axis(phase, order, axis=-1), xp.take_along_axis(xp.abs(factors), order, axis=-1))


def directions_of_phase(phase_rad: Array, spacing_m: float, wavelength_m: float) -> LineDirections:
    """Directions on a line of spacing up to half a wavelength, where they are unique. NumPy or torch.

    Args:
        phase_rad: ``[..., source]`` in (-pi, pi].
        spacing_m: Metres, at most :data:`MOST_SPACING` wavelengths.
        wavelength_m: Metres.
    """
    if not 0 < spacing_m <= MOST_SPACING * wavelength_m:
        raise ParamError(
            f"directions_of_phase: spacing {spacing_m:.4g} m is above half a wavelength ({wavelength_m / 2:.4g} m): "
            "directions repeat; use directions_near with coarse directions"
        )
    xp = array_namespace(phase_rad)
    sine = phase_rad * (wavelength_m / (2 * np.pi * spacing_m))
    return LineDirections(xp.asin(xp.clip(sine, -1.0, 1.0)), xp.abs(sine) <= 1)


def directions_near(phase_rad: Array, coarse_rad: Array, spacing_m: float, wavelength_m: float) -> LineDirections:
    """Of all directions that give a phase step, the one nearest in sine to a coarse one; for any spacing.

    [HI] Section IV-D2: the anti-diagonal array repeats in sin(azimuth) with period ``lambda / spacing``.

    Args:
        phase_rad: ``[..., source]``.
        coarse_rad: Coarse azimuth of each, same shape.
        spacing_m: Metres.
        wavelength_m: Metres.
    """
    xp = array_namespace(phase_rad)
    period = wavelength_m / spacing_m
    sine = phase_rad * (period / (2 * np.pi))
    sine = sine + period * xp.round((xp.sin(coarse_rad) - sine) / period)
    return LineDirections(xp.asin(xp.clip(sine, -1.0, 1.0)), xp.abs(sine) <= 1)
