"""Whether sensors are a uniform rectangle, and which."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]


class UniformRectangle(NamedTuple):
    """Rows along z, columns along x; sensor ``row * n_columns + column``, both ascending."""

    n_rows: int
    n_columns: int
    spacing_z_m: float
    spacing_x_m: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_rows, n_columns)``."""
        return self.n_rows, self.n_columns

    def positions_m(self, n_rows: int, n_columns: int) -> F64:
        """Sensors ``[sensor, xyz]`` of a rectangle of so many, about its centre, in metres."""
        z, x = np.meshgrid(
            (np.arange(n_rows) - (n_rows - 1) / 2) * self.spacing_z_m,
            (np.arange(n_columns) - (n_columns - 1) / 2) * self.spacing_x_m,
            indexing="ij",
        )
        return np.stack([x, np.zeros_like(x), z], axis=-1).reshape(-1, 3)


def uniform_rectangle(position_m: npt.NDArray[Any], tolerance: float = 1e-6) -> UniformRectangle:
    """Shape and spacings of sensors ``[sensor, xyz]``, metres, as :meth:`hil.array.ArrayGeometry.ura` orders them.

    Args:
        position_m: In the x-z plane, at least two rows and two columns.
        tolerance: How far a sensor may be from its place, in spacings.

    Raises:
        ParamError: Not such a rectangle.
    """
    n = len(position_m)
    away = np.abs(position_m[:, 2] - position_m[0, 2]) > 1e-3 * np.ptp(position_m[:, 2]) if n else np.zeros(0, bool)
    n_columns = int(away.argmax()) if away.any() else n
    if n_columns >= 2 and n % n_columns == 0 and n // n_columns >= 2:
        n_rows = n // n_columns
        spacing_x = float(position_m[n_columns - 1, 0] - position_m[0, 0]) / (n_columns - 1)
        spacing_z = float(position_m[-1, 2] - position_m[0, 2]) / (n_rows - 1)
        found = UniformRectangle(n_rows, n_columns, spacing_z, spacing_x)
        place = found.positions_m(n_rows, n_columns)
        off = float(np.abs(place - place[0] - (position_m - position_m[0])).max())
        if min(spacing_x, spacing_z) > 0 and off <= tolerance * min(spacing_x, spacing_z):
            return found
    raise ParamError(
        f"expected a uniform rectangle in the x-z plane, channels row by row, both ascending, got {n} sensors "
        "elsewhere; use an estimator for any array, or give the channel map of the rectangle"
    )
