"""All packets of one emitter, received at one place, to one bearing."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.switched_array.bearing_and_offset import PhaseModel
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

_ROUNDS = 8


class Signature(NamedTuple):
    """What the array hears of one emitter.

    Attributes:
        response: ``[sensor]`` complex128, unit norm, its common phase arbitrary.
        coherence: Share of the believed packets' power along ``response``, 0 .. 1.
        weight: How much each packet was believed, ``[packet]``, 0 .. 1.
    """

    response: C128
    coherence: float
    weight: F64


def group_signature(samples: C128, inlier: float = 0.6) -> Signature:
    r"""Robust principal direction of many packets' array snapshots.

    Each packet has a phase of its own, so packets are averaged as :math:`\sum_p w_p y_p y_p^H`, whose first eigenvector
    is the common response; weights fall from 1 to 0 as a packet's share along it,
    :math:`|v^H y_p|^2 / |y_p|^2`, falls from 1 to ``inlier``, and the two are found in turn. Elements whose phase
    scatters from packet to packet get a small modulus, and count less in what follows.

    Args:
        samples: ``[packet, sensor]`` complex128, carrier offset taken out.
        inlier: Share along the response at and below which a packet is an outlier.

    Raises:
        EstimationError: No packet, or all packets are zero.
    """
    norm = np.linalg.norm(samples, axis=-1, keepdims=True)
    y = samples / np.where(norm > 0, norm, 1.0)
    weight = (norm[:, 0] > 0).astype(np.float64)
    if weight.sum() == 0:
        raise EstimationError(f"group_signature: no packet to average, got samples {list(samples.shape)}")
    for _ in range(_ROUNDS):
        covariance = np.einsum("p,pi,pj->ij", weight, y, y.conj()) / weight.sum()
        values, vectors = np.linalg.eigh(covariance)
        response = vectors[:, -1]
        share = np.abs(y @ response.conj()) ** 2
        updated = np.clip((share - inlier) / (1 - inlier), 0.0, 1.0) ** 2 * (norm[:, 0] > 0)
        if updated.sum() < 1e-3 * len(y):  # packets agree on nothing: keep the plain average
            break
        weight = updated
    return Signature(response, float(values[-1]), weight)


def signature_bearing(response: C128, phase_model: PhaseModel, n_azimuth: int = 360) -> tuple[float, float]:
    r"""Bearing at which the model explains the response best: :math:`\max_\theta |v^H a(\theta)|^2`, off the grid.

    Args:
        response: ``[sensor]`` complex128.
        phase_model: Phases of the elements for azimuths in the array frame.
        n_azimuth: Number of azimuths searched before the refinement by parabolas.

    Returns:
        Azimuth in the array frame, -pi .. pi, and the share of power that is explained, 0 .. 1.
    """
    grid = -np.pi + 2 * np.pi * np.arange(n_azimuth) / n_azimuth
    scale = len(response) * float(np.vdot(response, response).real)

    def explained(azimuth: F64) -> F64:
        return np.abs(np.exp(-1j * phase_model(azimuth)) @ response) ** 2 / scale

    power = explained(grid)
    best, step = float(grid[power.argmax()]), 2 * np.pi / n_azimuth
    for _ in range(3):
        left, centre, right = explained(best + step * np.array([-1.0, 0.0, 1.0])).tolist()
        bend = left - 2 * centre + right
        if bend < 0:
            best += float(np.clip(0.5 * step * (left - right) / bend, -step, step))
        step /= 8
    return float(np.angle(np.exp(1j * best))), float(explained(np.array([best]))[0])
