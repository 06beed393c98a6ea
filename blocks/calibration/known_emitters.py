"""Phase calibration of an array from emitters at known places, heard from known places under unknown headings."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from blocks.calibration.phase_manifold import calibrated_phase, plane_wave_phase
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
C128 = npt.NDArray[np.complex128]


class CalibrationPrior(NamedTuple):
    """Standard deviations of what is estimated, before any data. Zero: kept at its ideal value.

    Attributes:
        phase_rad: Multipath and noise of one element's phase in one group.
        offset_rad: Branch phases.
        scale: Electrical over drawn size, about 1.
        harmonic_rad: Each direction-dependent coefficient.
        stretch: Ratio of the map's true x to y scale, about 1, in logarithm.
        emitter_m: Each coordinate of where an emitter stands, about its place on the map (a tripod put on a mark).
    """

    phase_rad: float = 0.35
    offset_rad: float = 0.35
    scale: float = 0.1
    harmonic_rad: float = 0.35
    stretch: float = 0.2
    emitter_m: float = 0.3


class KnownEmitterFit(NamedTuple):
    """What :func:`calibrate_known_emitters` found.

    Attributes:
        offset_rad: Branch phases, ``[sensor]``, mean zero.
        scale: Electrical over drawn size of the array.
        harmonic_rad: ``c_2, c_3, ...`` of ``calibrated_phase``.
        stretch: True x scale of the map over its y scale.
        emitter_shift_m: Where each emitter stands minus its place on the map, ``[emitter, xy]``, labels sorted.
        heading_rad: Heading of the array at each place, clockwise from +y of the map, ``[place]``.
        azimuth_rad: Direction of each group's emitter in the array frame by this fit, ``[group]``.
        residual_rad: Phase left over, ``[group, sensor]``, common phase of each group taken out.
    """

    offset_rad: F64
    scale: float
    harmonic_rad: F64
    stretch: float
    emitter_shift_m: F64
    heading_rad: F64
    azimuth_rad: F64
    residual_rad: F64


def wrap(angle_rad: npt.ArrayLike) -> F64:
    """Return angles within -pi .. pi."""
    wrapped: F64 = np.angle(np.exp(1j * np.asarray(angle_rad, dtype=np.float64)))
    return wrapped


def calibrate_known_emitters(
    response: C128,
    emitter_from_receiver_m: F64,
    place: npt.ArrayLike,
    emitter: npt.ArrayLike,
    position_m: F64,
    wavelength_m: float,
    *,
    n_harmonics: int = 2,
    prior: CalibrationPrior | None = None,
) -> KnownEmitterFit:
    r"""Estimate branch phases, electrical size, coupling, and the map's stretch; headings are nuisances.

    Group ``g`` heard at place ``p(g)`` has phases :math:`\varphi_m(\beta_g - h_{p(g)})` of
    :func:`~blocks.calibration.phase_manifold.calibrated_phase` up to a common one, with the bearing on the map
    :math:`\beta = \mathrm{atan2}(s\,\Delta x, \Delta y)`. Robust (soft L1) least squares on wrapped phases, weighted by
    each element's modulus in ``response``, with Gaussian priors. Two emitters at a place fix its heading; the branch
    phases are told from the headings because elements are seen from several sides.

    Args:
        response: Responses of the array, one a group (``group_signature``), ``[group, sensor]``.
        emitter_from_receiver_m: Emitter minus receiver on the map, ``[group, xy]`` metres.
        place: At which place each group was heard, ``[group]``; any labels.
        emitter: Which emitter was heard, ``[group]``; any labels.
        position_m: Sensors as drawn, ``[sensor, xyz]``.
        wavelength_m: Carrier wavelength.
        n_harmonics: Direction-dependent coefficients, circular arrays only.
        prior: What is believed beforehand.

    Raises:
        EstimationError: Fewer groups than could fix the branch phases.
        ParamError: Shapes that do not belong together.
    """
    labels, index = np.unique(np.asarray(place), return_inverse=True)
    emitters, who = np.unique(np.asarray(emitter), return_inverse=True)
    n_groups, n_sensors = response.shape
    if (
        emitter_from_receiver_m.shape != (n_groups, 2)
        or len(index) != n_groups
        or len(who) != n_groups
        or len(position_m) != n_sensors
    ):
        raise ParamError(
            f"calibrate_known_emitters: {n_groups} groups of {n_sensors} sensors, but displacements "
            f"{list(emitter_from_receiver_m.shape)}, places {list(index.shape)}, emitters {list(who.shape)}, "
            f"positions {list(position_m.shape)}"
        )
    if n_groups < len(labels) + 2:
        raise EstimationError(
            f"calibrate_known_emitters: {n_groups} groups at {len(labels)} places cannot tell headings from phases: "
            f"hear at least two emitters at a place"
        )
    prior = prior or CalibrationPrior()
    modulus = np.abs(response) / np.maximum(np.abs(response).max(-1, keepdims=True), 1e-12)
    measured = np.angle(response)
    free = [prior.offset_rad > 0, prior.scale > 0, prior.harmonic_rad > 0 and n_harmonics > 0, prior.stretch > 0]
    n_harmonics = n_harmonics if free[2] else 0
    n_shifts = 2 * len(emitters) if prior.emitter_m > 0 else 0
    sizes = [n_sensors * free[0], int(free[1]), n_harmonics, int(free[3]), n_shifts, len(labels)]
    deviations = np.concatenate(
        [
            np.full(sizes[0], prior.offset_rad),
            np.full(sizes[1], prior.scale),
            np.full(sizes[2], prior.harmonic_rad),
            np.full(sizes[3], prior.stretch),
            np.full(sizes[4], prior.emitter_m),
            np.full(sizes[5], np.inf),
        ]
    )
    ends = np.cumsum(sizes)

    def unpack(x: F64) -> tuple[F64, float, F64, float, F64, F64]:
        offset, scale, harmonic, stretch, shift, heading = np.split(x, ends[:-1])
        offset = offset - offset.mean() if free[0] else np.zeros(n_sensors)
        return (
            offset,
            1.0 + float(scale[0]) if free[1] else 1.0,
            harmonic,
            float(np.exp(stretch[0])) if free[3] else 1.0,
            shift.reshape(-1, 2) if n_shifts else np.zeros((len(emitters), 2)),
            heading,
        )

    def predict(x: F64) -> tuple[F64, F64]:
        offset, scale, harmonic, stretch, shift, heading = unpack(x)
        displacement = emitter_from_receiver_m + shift[who]
        bearing = np.arctan2(stretch * displacement[:, 0], displacement[:, 1])
        azimuth = bearing - heading[index]
        phase = calibrated_phase(
            azimuth, position_m, wavelength_m, offset_rad=offset, scale=scale, harmonic_rad=harmonic
        )
        difference = np.exp(1j * (measured - phase))
        common = (modulus * difference).sum(-1, keepdims=True)
        residual: F64 = np.angle(difference * common.conj())
        return azimuth, residual

    def cost(x: F64) -> F64:
        residual = (modulus * predict(x)[1] / prior.phase_rad).ravel()
        return np.concatenate([residual, (x / deviations)[: ends[4]]])

    start = np.zeros(ends[-1])
    start[ends[4] :] = _headings(response, emitter_from_receiver_m, index, len(labels), position_m, wavelength_m)
    fit = least_squares(cost, start, loss="soft_l1", f_scale=1.0)
    offset, scale, harmonic, stretch, shift, heading = unpack(fit.x)
    azimuth, residual = predict(fit.x)
    return KnownEmitterFit(offset, scale, harmonic, stretch, shift, wrap(heading), wrap(azimuth), residual)


def _headings(
    response: C128, displacement_m: F64, index: I64, n_places: int, position_m: F64, wavelength_m: float
) -> F64:
    """First headings: at each place the one at which the ideal array explains all groups best."""
    heading = 2 * np.pi * np.arange(360) / 360
    bearing = np.arctan2(displacement_m[:, 0], displacement_m[:, 1])
    unit = np.exp(1j * np.angle(response))
    steering = np.exp(1j * plane_wave_phase(bearing[:, None] - heading, position_m, wavelength_m))
    explained = np.abs(np.einsum("gm,ghm->gh", unit.conj(), steering)) ** 2
    total = np.zeros((n_places, len(heading)))
    np.add.at(total, index, explained)
    best: F64 = heading[total.argmax(-1)]
    return best
