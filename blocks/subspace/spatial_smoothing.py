"""Spatial smoothing of a covariance matrix over shifted subarrays, on lines and rectangles."""

from typing import Any

from array_api_compat import array_namespace

from blocks.subspace.forward_backward import forward_backward
from hil.errors import ParamError

Array = Any  # NumPy or torch


def smooth_line(covariance: Array, n_sub: int, *, backward: bool = False) -> Array:
    r"""Mean of the covariances of all subarrays of ``n_sub`` neighbours, Shan, Wax and Kailath 1985.

    With ``L = N - n_sub + 1`` subarrays it restores the rank of up to ``L`` coherent **plane** waves (``2 L`` with
    ``backward``, Pillai and Kwon 1989) on a uniform line, at the price of aperture. Near-field wavefronts are not
    shift-invariant: their curvature smears over the subarrays, and smoothing does harm.

    Args:
        covariance: ``[..., sensor, sensor]``, sensors in the order of a uniform line.
        n_sub: Sensors of a subarray, 1 .. N; more than the number of sources.
        backward: Average with the mirrored conjugate too.

    Returns:
        ``[..., n_sub, n_sub]``.
    """
    n = covariance.shape[-1]
    if not 1 <= n_sub <= n:
        raise ParamError(f"smooth_line: expected 1 <= n_sub <= {n} sensors, got {n_sub}")
    shifts = n - n_sub + 1
    total = covariance[..., :n_sub, :n_sub]
    for first in range(1, shifts):
        total = total + covariance[..., first : first + n_sub, first : first + n_sub]
    return forward_backward(total / shifts) if backward else total / shifts


def smooth_rectangle(
    covariance: Array, shape: tuple[int, int], sub_shape: tuple[int, int], *, backward: bool = False
) -> Array:
    """As :func:`smooth_line` over all rectangular subarrays of a uniform rectangle, [IRS] 2D smoothing.

    Args:
        covariance: ``[..., sensor, sensor]``, sensor ``i_row * n_columns + i_column`` as in
            :meth:`hil.array.ArrayGeometry.ura` (rows along z, columns along x).
        shape: ``(n_rows, n_columns)``.
        sub_shape: The same of a subarray.
        backward: Average with the mirrored conjugate too.

    Returns:
        ``[..., sub, sub]`` with ``sub = sub_rows * sub_columns``, sensors in the same order.
    """
    (rows, columns), (sub_rows, sub_columns) = shape, sub_shape
    if rows * columns != covariance.shape[-1]:
        raise ParamError(f"smooth_rectangle: {rows} x {columns} elements, covariance of {covariance.shape[-1]} sensors")
    if not (1 <= sub_rows <= rows and 1 <= sub_columns <= columns):
        raise ParamError(f"smooth_rectangle: expected a subarray within {shape}, got {sub_shape}")
    xp = array_namespace(covariance)
    batch = tuple(covariance.shape[:-2])
    grid = xp.reshape(covariance, (*batch, rows, columns, rows, columns))
    total: Array = 0
    count = 0
    for r in range(rows - sub_rows + 1):
        for c in range(columns - sub_columns + 1):
            part = grid[..., r : r + sub_rows, c : c + sub_columns, r : r + sub_rows, c : c + sub_columns]
            total, count = total + part, count + 1
    size = sub_rows * sub_columns
    mean = xp.reshape(total / count, (*batch, size, size))
    return forward_backward(mean) if backward else mean
