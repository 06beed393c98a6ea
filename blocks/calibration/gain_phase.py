"""Gain and phase of each branch from emitters at known directions, and how they are taken out."""

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


def estimate_gain_phase(covariance: C128, steering: C128) -> tuple[F64, F64]:
    r"""Branch gains from one emitter at a known place at a time.

    The first eigenvector of each covariance is :math:`c\,(g \circ a)`, ``g`` the branches, ``a`` the steering vector.
    The ratios :math:`v_m / a_m`, put to one common phase and norm, are averaged over emitters, each weighted by how far
    its first eigenvalue stands above the others. Relative to the array: the geometric-mean gain and the mean phase are
    not observable and are set to one and zero.

    Args:
        covariance: Sample covariance of each emitter, ``[emitter, sensor, sensor]``.
        steering: Steering vector of each emitter's true place, ``[emitter, sensor]``, no zeros.

    Returns:
        ``gain_db`` and ``offset_rad``, each ``[sensor]``.

    Raises:
        ParamError: Shapes that do not belong together.
        EstimationError: No emitter stands above the noise, or a branch is dead.
    """
    if covariance.ndim != 3 or steering.shape != covariance.shape[:2] or covariance.shape[1] != covariance.shape[2]:
        raise ParamError(
            f"estimate_gain_phase: expected covariance [emitter, sensor, sensor] and steering [emitter, sensor], "
            f"got {list(covariance.shape)} and {list(steering.shape)}"
        )
    values, vectors = np.linalg.eigh(covariance)
    weight = np.maximum(values[:, -1] / np.maximum(values[:, :-1].mean(-1), 1e-15 * values[:, -1] + 1e-300) - 1, 0.0)
    if not (weight > 1).any():
        raise EstimationError("estimate_gain_phase: no emitter stands above the noise: bring it closer or send louder")
    ratio = vectors[:, :, -1] / steering
    ratio /= np.sqrt((np.abs(ratio) ** 2).mean(-1, keepdims=True))
    aligned = ratio * np.exp(-1j * np.angle((ratio * ratio[:1].conj()).sum(-1, keepdims=True)))
    branch = (weight[:, None] * aligned).sum(0) / weight.sum()
    if np.abs(branch).min() < 1e-3 * np.abs(branch).max():
        raise EstimationError(f"estimate_gain_phase: branch {int(np.abs(branch).argmin())} hears nothing: it is dead")
    gain_db = 20 * np.log10(np.abs(branch))
    phase = np.angle(branch * np.conj(branch.sum()))
    return gain_db - gain_db.mean(), np.angle(np.exp(1j * (phase - phase.mean())))


def correction(gain_db: F64, offset_rad: F64) -> C128:
    """Factors ``[sensor]`` that undo branches of these gains and phases."""
    factors: C128 = 10 ** (-gain_db / 20) * np.exp(-1j * offset_rad)
    return factors
