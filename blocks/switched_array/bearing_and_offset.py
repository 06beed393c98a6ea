"""Bearing and carrier offset of each packet, found together."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.switched_array.slot_timing import SlotTiming
from hil.errors import ParamError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

#: Phases of the elements for azimuths ``[...]`` rad: ``[..., sensor]`` rad. A calibrated or an ideal wavefront.
PhaseModel = Callable[[F64], F64]

_STEP_RAD = 1e-4  # of the numerical derivative of the phase model, far below any beamwidth
_REFINEMENTS = 4
_CELLS_AT_ONCE = 1_000_000  # of the grid, to bound memory


class PacketBearing(NamedTuple):
    """What one packet tells, each ``[packet]``.

    Attributes:
        azimuth_rad: Bearing in the array frame, -pi .. pi.
        azimuth_std_rad: Its standard deviation by the packet's own noise (Fisher information at the residual noise);
            multipath and calibration errors are not in it.
        offset_rad: Carrier offset, radians a slot.
        offset_std_rad: Its standard deviation, likewise.
        coherence: Power in the model over power of the samples, 0 .. 1.
    """

    azimuth_rad: F64
    azimuth_std_rad: F64
    offset_rad: F64
    offset_std_rad: F64
    coherence: F64


def search_bearing_and_offset(
    snapshots: C128,
    timing: SlotTiming,
    phase_model: PhaseModel,
    *,
    offset_grid_rad: F64,
    n_azimuth: int = 180,
    offset_mean_rad: npt.ArrayLike | None = None,
    offset_std_rad: npt.ArrayLike = np.inf,
) -> PacketBearing:
    r"""Maximum-likelihood bearing :math:`\theta` and carrier offset :math:`f` of each packet.

    Model: :math:`z_s = A e^{j(\phi_0 + f s + \varphi_{m(s)}(\theta))} + n_s`. The common amplitude and phase drop
    out, so that the likelihood is that of :math:`|\sum_s z_s e^{-j f s - j\varphi_{m(s)}(\theta)}|^2`; slots of one
    element alone cannot tell ``f`` from ``f`` plus one turn a round of the switch, all elements together can. The
    grid's maximum is refined off the grid by Gauss-Newton steps in (theta, f, phi_0).

    Args:
        snapshots: ``[packet, used slot]`` from ``slot_snapshots``.
        timing: As for the snapshots.
        phase_model: Phases of the elements for azimuths in the array frame.
        offset_grid_rad: Offsets to search, radians a slot; as fine as a tenth of a turn over the packet.
        n_azimuth: Number of azimuths to search over the full turn.
        offset_mean_rad: Prior mean of each packet's offset, ``[packet]``, from a tracker; NaN where there is none.
        offset_std_rad: Its standard deviation, ``[packet]`` or one for all.

    Returns:
        One entry a packet.

    Raises:
        ParamError: The snapshots do not have one column a used slot.
    """
    slots, element = timing.slots.astype(np.float64), timing.element_of_slot
    if snapshots.ndim != 2 or snapshots.shape[1] != len(slots):
        raise ParamError(f"search: expected snapshots [packet, slot={len(slots)}], got {list(snapshots.shape)}")
    n_packets = len(snapshots)
    no_prior = np.full(n_packets, np.nan)
    mean = no_prior if offset_mean_rad is None else np.broadcast_to(np.asarray(offset_mean_rad, float), n_packets)
    std = np.broadcast_to(np.asarray(offset_std_rad, dtype=np.float64), n_packets)
    precision = np.where(np.isfinite(mean), 1 / std**2, 0.0)
    mean = np.nan_to_num(mean)

    azimuth_grid = -np.pi + 2 * np.pi * np.arange(n_azimuth) / n_azimuth
    conjugate = np.exp(-1j * phase_model(azimuth_grid)).T  # [sensor, azimuth]
    pick = np.zeros((len(slots), timing.n_elements))
    pick[np.arange(len(slots)), element] = 1.0
    power = (np.abs(snapshots) ** 2).sum(-1)
    offsets = np.asarray(offset_grid_rad, dtype=np.float64)
    turn = np.exp(-1j * offsets[:, None] * slots)
    azimuth, offset = np.zeros(n_packets), np.zeros(n_packets)
    at_once = max(1, _CELLS_AT_ONCE // (len(offsets) * n_azimuth))
    for start in range(0, n_packets, at_once):
        part = slice(start, start + at_once)
        beam = np.abs(((snapshots[part, None] * turn) @ pick) @ conjugate) ** 2 / len(
            slots
        )  # [packet, offset, azimuth]
        # log likelihood with the noise power concentrated out, plus the prior
        explained, total = beam.max(-1), power[part, None]
        score = -len(slots) * np.log(np.maximum(total - explained, 1e-6 * total) / np.maximum(total, 1e-300))
        score -= 0.5 * precision[part, None] * (offsets - mean[part, None]) ** 2
        best = score.argmax(-1)
        offset[part] = offsets[best]
        azimuth[part] = azimuth_grid[beam[np.arange(len(best)), best].argmax(-1)]
    return _refine(snapshots, slots, element, phase_model, azimuth, offset, mean, precision)


def _refine(
    z: C128,
    slots: F64,
    element: npt.NDArray[np.int64],
    phase_model: PhaseModel,
    azimuth: F64,
    offset: F64,
    mean: F64,
    precision: F64,
) -> PacketBearing:
    """Gauss-Newton steps from the grid's maximum, and the Fisher information there."""
    weight = np.abs(z)
    n_slots = z.shape[1]
    centred = slots - slots.mean()  # keeps the normal equations well conditioned; phi_0 takes the difference
    power = np.maximum((weight**2).sum(-1), 1e-300)
    for step in range(_REFINEMENTS + 1):
        phase = phase_model(azimuth)[:, element]
        slope = (phase_model(azimuth + _STEP_RAD) - phase_model(azimuth - _STEP_RAD))[:, element] / (2 * _STEP_RAD)
        turned = z * np.exp(-1j * (phase + offset[:, None] * slots))
        total = turned.sum(-1)
        residual = turned * np.exp(-1j * np.angle(total))[:, None]
        amplitude = np.abs(total) / n_slots
        coherence = n_slots * amplitude**2 / power
        # across the signal only: samples of phase alone carry no noise along it; three parameters were fitted
        noise = np.maximum((residual.imag**2).sum(-1) / max(n_slots - 3, 1), 1e-9 * power / n_slots)
        jacobian = amplitude[:, None, None] * np.stack(
            [slope, np.broadcast_to(centred, z.shape), np.ones(z.shape)], axis=-1
        )
        information = np.einsum("psi,psj->pij", jacobian, jacobian) / noise[:, None, None]
        information[:, 1, 1] += precision
        information += 1e-9 * np.eye(3)
        covariance = np.linalg.inv(information)
        if step == _REFINEMENTS:
            break
        gradient = np.einsum("psi,ps->pi", jacobian, residual.imag) / noise[:, None]
        gradient[:, 1] += precision * (mean - offset)
        move = np.einsum("pij,pj->pi", covariance, gradient)
        azimuth = azimuth + np.clip(move[:, 0], -0.05, 0.05)  # a step stays within the grid's cell and its neighbours
        offset = offset + np.clip(move[:, 1], -0.02, 0.02)
    azimuth = np.angle(np.exp(1j * azimuth))
    std = np.sqrt(np.maximum(covariance[:, [0, 1], [0, 1]], 0.0))
    return PacketBearing(azimuth, std[:, 0], offset, std[:, 1], np.minimum(coherence, 1.0))
