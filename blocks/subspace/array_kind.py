"""One arithmetic for NumPy and torch where calls are so short that the compatibility layer would be felt."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

Array = Any  # NumPy or torch


def namespace(x: Array) -> Any:
    """NumPy itself for its arrays, else the namespace of ``x``."""
    return np if isinstance(x, np.ndarray) else array_namespace(x)


def constant(values: Any, like: Array) -> Array:
    """``values`` (NumPy) in the kind and on the device of ``like``, in their own dtype."""
    if isinstance(like, np.ndarray):
        return values
    # a copy: torch shares memory with NumPy and warns where that is read-only
    return array_namespace(like).asarray(np.array(values), device=device_of(like))


def at_least(x: Array, least: float) -> Array:
    """Elementwise maximum with a number."""
    return np.maximum(x, least) if isinstance(x, np.ndarray) else array_namespace(x).clip(x, min=least)


def real_view(x: Array) -> Array:
    """Complex ``[..., n]`` contiguous as real ``[..., 2 n]``."""
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x).view(x.real.dtype)
    xp = array_namespace(x)
    return xp.reshape(xp.stack([xp.real(x), xp.imag(x)], axis=-1), (*x.shape[:-1], 2 * x.shape[-1]))


def real_gram(v: Array) -> Array:
    """``Re(v v^H)`` of each complex ``[..., row, column]``, by one real product of twice the columns."""
    flat = real_view(v)
    return flat @ flat.mT
