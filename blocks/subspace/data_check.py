"""Refusal of data that no estimate can come from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from blocks.subspace.array_kind import namespace
from hil.errors import EstimationError

Array = Any  # NumPy or torch


def require_finite(who: str, data: Array, what: str = "the data") -> None:
    """Refuse ``data`` with a value that is no number or infinite, in any frame."""
    xp = namespace(data)
    if not bool(xp.isfinite(xp.sum(data))):  # sums and differences of infinities are not finite either
        raise EstimationError(f"{who}: {what} are not finite; drop the frame, or find what wrote NaN or infinity")


def require_power(who: str, covariance: Array) -> None:
    """Refuse covariances ``[..., sensor, sensor]`` that are not finite or have no power."""
    xp = namespace(covariance)
    require_finite(who, covariance)
    power = xp.real(xp.sum(xp.linalg.diagonal(covariance), axis=-1))
    if not bool(xp.all(power > 0)):
        raise EstimationError(f"{who}: the data have power {float(xp.min(power))}; expected a finite positive one")


@contextmanager
def degenerate_as_estimation_error(who: str) -> Iterator[None]:
    """A singular matrix in the middle of an estimate is the data's fault: say so in the tree of errors."""
    try:
        yield
    except (np.linalg.LinAlgError, RuntimeError) as error:  # torch's LinAlgError is a RuntimeError
        if isinstance(error, np.linalg.LinAlgError) or type(error).__name__ == "_LinAlgError":
            raise EstimationError(f"{who}: the subspace is degenerate ({error})") from error
        raise
