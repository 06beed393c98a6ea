"""The data of a likelihood: a sample covariance, or the samples that it comes from."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError

C128 = npt.NDArray[np.complex128]


class Moments(NamedTuple):
    """The sample covariance, as itself or as the samples it comes from, whichever is the cheaper to multiply with."""

    matrix: C128
    is_samples: bool
    n_sensors: int
    n_snapshots: float
    trace: float

    @classmethod
    def of_covariance(cls, covariance: C128, n_snapshots: float) -> Self:
        """From ``[sensor, sensor]`` complex128 of ``n_snapshots``."""
        return cls(covariance, False, len(covariance), float(n_snapshots), float(np.trace(covariance).real))

    @classmethod
    def of_samples(cls, x: C128) -> Self:
        """From ``[sensor, snapshot]`` complex128."""
        return cls(x, True, x.shape[0], float(x.shape[1]), float(np.vdot(x, x).real) / x.shape[1])

    def times(self, v: C128) -> C128:
        """``R v`` for ``v [sensor, n]``."""
        if self.is_samples:
            return self.matrix @ (self.matrix.conj().T @ v) / self.n_snapshots
        return self.matrix @ v


def require_moments(who: str, moments: Moments, cost: float) -> None:
    """Refuse moments without power, or that have made the cost of a fit no number."""
    if not (moments.trace > 0 and np.isfinite(cost)):
        raise EstimationError(
            f"{who}: the data have power {moments.trace}, of which a fit leaves {cost}; expected finite ones above zero"
        )
