r"""Joint maximum likelihood of places, gains and fault coefficients, [HI] Problem (P1) solved as a whole.

    min || z - diag(c) A(theta, r) B ||^2    over theta, 1/r, B and the coefficients of the elements marked faulty

``theta`` is the azimuth and, where the scene leaves it free (planar arrays), the elevation.

The coefficient of a faulty element touches its own row only, so it is eliminated there: rows of the residual and of
the Jacobian lose their part along ``j c_n m_n`` (a phase) or along ``m_n`` (a complex factor), ``m = A B``. What is
left is a Gauss-Newton step in four unknowns a source, five with elevation, however many elements are faulty.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.hi_aware.reduce import Reduced
from blocks.hi_aware.scene import C128, F64, Places, Scene
from hil.errors import EstimationError

I8 = npt.NDArray[np.int8]


class Kind(IntEnum):
    """What an element is: sound, turned in phase ([HI] Eq. (4)), or changed in amplitude too (dead: to nothing)."""

    INTACT = 0
    PHASE = 1
    COMPLEX = 2


class JointFit(NamedTuple):
    """Result of :func:`fit_jointly`.

    Attributes:
        places: Of the sources.
        gains: ``B [source, column]``.
        coefficient: ``c [sensor]``, 1 where intact.
        model: ``m = A B`` without faults, ``[sensor, column]``.
        residual: ``z - diag(c) m``.
        cost: Its weighted power.
        covariance: Of the scene's ``coordinates`` of each source, azimuth, inverse range and perhaps elevation,
            ``[source, coordinate, coordinate]``: the Cramer-Rao bound with unknown gains and fault coefficients at the
            estimate.
        converged: The last step was below ``tolerance``.
    """

    places: Places
    gains: C128
    coefficient: C128
    model: C128
    residual: C128
    cost: float
    covariance: F64
    converged: bool


def fit_jointly(
    data: Reduced,
    scene: Scene,
    places: Places,
    kind: I8,
    coefficient: C128,
    *,
    weight: F64 | None = None,
    max_iterations: int | None = None,
    tolerance: float = 0.02,
) -> JointFit:
    """Gauss-Newton with Marquardt damping from ``places``; it finds the minimum of the basin it starts in.

    Args:
        data: From :func:`~blocks.hi_aware.reduce.reduce_by_pilots` or :func:`~blocks.hi_aware.reduce.reduce_blind`.
        scene: The array.
        places: Start.
        kind: :class:`Kind` of each element, ``[sensor]``.
        coefficient: Start of faulty elements; held for intact ones (known calibration), ``[sensor]``.
        weight: Of each row, ``[sensor]``, 0 .. 1; absent: 1.
        max_iterations: Steps; absent: 12, or 60 where elevations are free, as directions and ranges may be coupled in
            a valley that bends (a ring of elements).
        tolerance: Stop with a step below this part of the estimate's standard deviation.

    Raises:
        EstimationError: Sources coincide.
    """
    root = np.ones(len(kind)) if weight is None else np.sqrt(weight)
    low, high = _limits(scene)
    state = _start(data, scene, places, kind, coefficient, root)
    damping, converged = 0.0, False
    most = max_iterations if max_iterations is not None else 60 if scene.elevation_free else 12
    for _ in range(most):
        step, size = _step(data, state, scene, kind, root, damping)
        moved = Places.of_stacked(np.clip(state.places.stacked() + step.coordinate, low, high))
        new = _evaluate(data, scene, moved, state.gains + step.gains, kind, state.coefficient, root)
        if new.cost <= state.cost * (1 + 1e-12):
            state, damping = new, damping * 0.1
            if size < tolerance:
                converged = True
                break
        elif size < tolerance or damping > 1e5:
            converged = size < tolerance
            break
        else:
            damping = max(10 * damping, 0.1)
    return JointFit(
        state.places, state.gains, state.coefficient, state.model, state.residual, state.cost,
        _covariance(data, scene, state, kind, root), converged,
    )  # fmt: skip


def fit_gains(data: Reduced, faulty_steering: C128, root: F64) -> C128:
    """Least-squares gains ``B [source, column]`` for ``diag(c) A [sensor, source]``, [HI] Eqs. (8) and (20)."""
    a = root[:, None] * faulty_steering
    gram, cross = a.conj().T @ a, a.conj().T @ (root[:, None] * data.z)
    try:
        if data.mixing is None:
            return np.linalg.solve(gram, cross).astype(np.complex128, copy=False)
        g = data.mixing
        beta = np.linalg.solve(gram * (g.conj() @ g.T), (g.conj() * cross).sum(axis=1))
    except np.linalg.LinAlgError as error:
        raise EstimationError("fit_gains: sources coincide; give distinct places") from error
    return beta[:, None] * g


class _State(NamedTuple):
    places: Places
    gains: C128
    coefficient: C128
    steering: C128  # A [sensor, source]
    derivative: C128  # of A, [sensor, coordinate, source]
    model: C128
    residual: C128
    cost: float


class _Step(NamedTuple):
    coordinate: F64  # [coordinate, source]
    gains: C128


def _limits(scene: Scene) -> tuple[F64, F64]:
    """Lowest and highest of each coordinate, ``[coordinate, 1]``."""
    side = {"azimuth": (-np.inf, np.inf), "elevation": (-np.pi / 2, np.pi / 2)}
    side["inverse_range"] = scene.inverse_range_limits_per_m
    limits = np.array([side[name] for name in scene.coordinates])
    return limits[:, :1], limits[:, 1:]


def _start(data: Reduced, scene: Scene, places: Places, kind: I8, coefficient: C128, root: F64) -> _State:
    a = scene.steering(*places).a.T
    gains = fit_gains(data, coefficient[:, None] * a, root)
    return _evaluate(data, scene, places, gains, kind, coefficient, root)


def _evaluate(
    data: Reduced, scene: Scene, places: Places, gains: C128, kind: I8, coefficient: C128, root: F64
) -> _State:
    s = scene.steering(*places)
    model = s.a.T @ gains
    c = profile_coefficients(data.z, model, kind, coefficient)
    residual = data.z - c[:, None] * model
    cost = float(np.sum((root[:, None] * np.abs(residual)) ** 2))
    derivative = np.stack([getattr(s, name).T for name in scene.coordinates], axis=1)
    return _State(places, gains, c, s.a.T, derivative, model, residual, cost)


def profile_coefficients(z: C128, model: C128, kind: I8, coefficient: C128) -> C128:
    """Best coefficient of each faulty element given the model; intact ones keep theirs, ``[sensor]``."""
    faulty = np.flatnonzero(kind)
    c = coefficient.copy()
    if len(faulty):
        m = model[faulty]
        cross = np.sum(m.conj() * z[faulty], axis=1)
        power = np.sum(np.abs(m) ** 2, axis=1)
        c[faulty] = np.where(
            kind[faulty] == Kind.PHASE, np.exp(1j * np.angle(cross)), cross / np.maximum(power, 1e-300)
        )
    return c


def _jacobian(data: Reduced, state: _State, kind: I8, root: F64) -> F64:
    """Derivatives of ``diag(c) A B``, faulty parts removed, as reals ``[2 sensor column, unknown]``.

    Unknowns: azimuths, inverse ranges, perhaps elevations, then real and imaginary parts of the gains.
    """
    n, n_columns = data.z.shape
    scaled = (root * state.coefficient)[:, None]
    parts = [
        scaled[:, :, None] * state.derivative[:, i, :, None] * state.gains for i in range(state.derivative.shape[1])
    ]
    a = scaled * state.steering
    if data.mixing is None:
        # d / d B_kl touches column l only
        gain = (a[:, :, None, None] * np.eye(n_columns)[None, None]).reshape(n, -1, n_columns)
    else:
        gain = a[:, :, None] * data.mixing
    j = np.concatenate([*parts, gain, 1j * gain], axis=1)  # (sensor, unknown, column)
    faulty = np.flatnonzero(kind)
    if len(faulty):
        j[faulty] = _without_coefficient(j[faulty], state, kind, faulty)
    flat = np.concatenate([j.real, j.imag], axis=2)
    return flat.transpose(0, 2, 1).reshape(2 * n * n_columns, -1)


def _without_coefficient(rows: C128, state: _State, kind: I8, faulty: npt.NDArray[np.intp]) -> C128:
    """Rows ``[faulty, any, column]`` less their part along what the element's own coefficient can change."""
    m = state.model[faulty]
    u = 1j * m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-300)
    u = np.where((kind[faulty] == Kind.PHASE)[:, None], u * state.coefficient[faulty][:, None], u)
    along = np.einsum("fc,fuc->fu", u.conj(), rows)
    along = np.where((kind[faulty] == Kind.PHASE)[:, None], along.real, along)
    return rows - along[:, :, None] * u[:, None, :]


def _step(data: Reduced, state: _State, scene: Scene, kind: I8, root: F64, damping: float) -> tuple[_Step, float]:
    jacobian = _jacobian(data, state, kind, root)
    weighted = root[:, None] * state.residual
    residual = np.concatenate([weighted.real, weighted.imag], axis=1).ravel()
    gradient, hessian = jacobian.T @ residual, jacobian.T @ jacobian
    here = state.places.stacked()
    low, high = _limits(scene)
    pull = gradient[: here.size].reshape(here.shape)
    held = np.flatnonzero(((here <= low) & (pull < 0)) | ((here >= high) & (pull > 0)) | (low == high))
    scale = np.sqrt(np.maximum(np.diagonal(hessian), 1e-300))
    scaled = hessian / np.outer(scale, scale) + (damping + 1e-12) * np.eye(len(scale))
    gradient = gradient / scale
    scaled[held, :] = scaled[:, held] = gradient[held] = 0.0
    scaled[held, held] = 1.0
    try:
        delta = np.linalg.solve(scaled, gradient)
    except np.linalg.LinAlgError as error:
        raise EstimationError("fit_jointly: sources coincide; give distinct places") from error
    # in the metric of the Hessian one standard deviation is sqrt(sigma^2 / 2)
    size = float(np.abs(delta[: here.size]).max() / np.sqrt(max(data.noise_power, 1e-300) / 2))
    delta = delta / scale
    linear = delta[here.size :].reshape(2, -1)
    gain_step = linear[0] + 1j * linear[1]
    gains = gain_step.reshape(here.shape[1], -1) if data.mixing is None else gain_step[:, None] * data.mixing
    return _Step(delta[: here.size].reshape(here.shape), gains), size


def _covariance(data: Reduced, scene: Scene, state: _State, kind: I8, root: F64) -> F64:
    jacobian = _jacobian(data, state, kind, root)
    information = jacobian.T @ jacobian
    n_coordinates, n_sources = state.places.stacked().shape
    scale = np.sqrt(np.maximum(np.diagonal(information), 1e-200))
    # the ridge bounds what is claimed of sources on one spot
    scaled = information / np.outer(scale, scale) + 1e-10 * np.eye(len(scale))
    bound = np.linalg.inv(scaled) / np.outer(scale, scale) * (data.noise_power / 2)
    rows = np.arange(n_coordinates * n_sources).reshape(n_coordinates, n_sources).T
    covariance = bound[rows[:, :, None], rows[:, None, :]]
    if scene.inverse_range_limits_per_m[0] == scene.inverse_range_limits_per_m[1]:
        covariance[:, 1, :] = covariance[:, :, 1] = 0.0
    return covariance
