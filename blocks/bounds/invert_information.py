"""The inverse of a Fisher information whose unknowns have units of different size."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from hil.errors import ParamError

Array = Any  # NumPy or torch


def invert_information(information: Array, who: str, fix: str, *, smallest: float = 1e-13) -> Array:
    """Inverse of ``information [unknown, unknown]``, scaled to a diagonal of ones first.

    Args:
        information: Symmetric; radians and metres may differ by orders of magnitude.
        who: Named in the error.
        fix: What to do about a singular one, for the error.
        smallest: Eigenvalue of the scaled information below which it counts as singular.

    Raises:
        ParamError: The information is singular.
    """
    xp = array_namespace(information)
    scale = xp.sqrt(xp.clip(xp.linalg.diagonal(information), min=1e-300))
    sizes = scale[:, None] * scale[None, :]
    scaled = information / sizes
    least = float(xp.min(xp.linalg.eigvalsh(scaled)))
    if not least > smallest:
        raise ParamError(f"{who}: the information is singular (smallest scaled eigenvalue {least:.1e}); {fix}")
    return xp.linalg.inv(scaled) / sizes
