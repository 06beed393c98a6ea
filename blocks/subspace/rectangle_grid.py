"""Search grid of plane waves on uniform rectangles, by FFT: no dictionary in memory."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.line_direction import MOST_SPACING
from blocks.subspace.null_descent import Box, Model
from blocks.subspace.planar_grid import free_coordinates, inside_circle, search_box
from blocks.subspace.steering_rows import Coordinate
from blocks.subspace.uniform_projection import fft_sines, rectangle_projection
from blocks.subspace.uniform_rectangle import uniform_rectangle
from hil.array import ArrayGeometry
from hil.errors import ParamError

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RectangleGrid:
    """A :class:`PlanarSearch` of plane waves on a uniform rectangle: one FFT a source, no dictionary in memory.

    Attributes:
        model: Array and wavefront.
        u: ``[u]``.
        v: ``[v]``.
        shape: ``(n_rows, n_columns)`` of sensors.
        visible: ``[v, u]``, inside the unit circle.
    """

    model: Model
    u: F64
    v: F64
    shape: tuple[int, int]
    visible: npt.NDArray[np.bool_]

    @property
    def inverse_range_per_m(self) -> F64:
        return np.zeros(1)

    @property
    def box(self) -> Box:
        return search_box(self)

    @property
    def free(self) -> tuple[Coordinate, ...]:
        return free_coordinates(self)

    def projection(self, signal: Array) -> Array:
        """See :class:`PlanarSearch`; in complex64."""
        xp = namespace(signal)
        values = rectangle_projection(
            xp.astype(signal, xp.complex64, copy=False), self.shape, (len(self.v), len(self.u))
        )  # fmt: skip
        return (values * constant(self.visible.astype(np.float32), signal))[..., None]


def rectangle_grid(array: ArrayGeometry, wavelength_m: float) -> RectangleGrid:
    """Half a beam in each sine, or a power of two of them next below it; the last 8 are kept.

    Args:
        array: A uniform rectangle in the x-z plane, spacings up to half a wavelength.
        wavelength_m: Metres.

    Raises:
        ParamError: No such rectangle.
    """
    return _rectangle_grid(array, float(wavelength_m))


@lru_cache(maxsize=8)
def _rectangle_grid(array: ArrayGeometry, wavelength_m: float) -> RectangleGrid:
    found = uniform_rectangle(array.channel_position_m)
    spacings = found.spacing_z_m, found.spacing_x_m
    if max(spacings) > MOST_SPACING * wavelength_m:
        raise ParamError(f"rectangle_grid: spacings {spacings} m are above half a wavelength: directions repeat")
    v, u = (
        fft_sines(max(8, 2 ** int(np.ceil(np.log2(wavelength_m * n / spacing) - 1e-9))), spacing, wavelength_m)
        for n, spacing in zip(found.shape, spacings, strict=True)
    )
    model = Model(array.channel_position_m, wavelength_m, False)
    return RectangleGrid(model=model, u=u, v=v, shape=found.shape, visible=inside_circle(u, v))
