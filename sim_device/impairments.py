"""What is wrong with the elements: gain and phase mismatch, phase faults, dead elements, alone and in clusters.

An impairment is one complex factor an element, on the signal and not on the receiver's noise: [HI] Eq. (5),
``y = diag(c) A s + n``. It is static until a fault is injected or cleared.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.params import Count, Params
from sim_device.draws import Draw, generator

C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

FaultKind = Literal["phase", "dead", "gain"]


class Mismatch(Params, frozen=True):
    """Normal, independent gain and phase errors of all elements."""

    gain_std_db: Annotated[float, Meta(ge=0, le=40, extra_json_schema={"unit": "dB"})] = 0.0
    phase_std_rad: Annotated[float, Meta(ge=0, le=100, extra_json_schema={"unit": "rad"})] = 0.0


class Faults(Params, frozen=True):
    """Faults drawn at the start.

    With ``cluster_size`` 1 each element fails by itself with ``probability`` ([HI] Section II-B, Bernoulli). Above 1
    elements fail in neighbourhoods: an element is drawn and takes its ``cluster_size`` nearest with it (itself among
    them), again and again until ``probability`` of all elements, rounded, have failed.
    """

    kind: Annotated[FaultKind, Meta(description="phase: uniform in 0..2 pi, [HI] Eq. (4); dead: no signal; gain")]
    probability: Annotated[float, Meta(ge=0, le=1)]
    cluster_size: Count = 1
    gain_db: Annotated[
        float, Meta(ge=-200, le=40, description="of kind gain", extra_json_schema={"unit": "dB"})
    ] = -10.0


def mismatch_response(mismatch: Mismatch, n_elements: int, seed: int) -> C128:
    """Complex factor of each element, ``[element]``: ``10^(g/20) exp(j phi)``, g and phi normal about 0."""
    normal = generator(seed, Draw.MISMATCH).standard_normal((2, n_elements))
    return np.power(10.0, mismatch.gain_std_db * normal[0] / 20) * np.exp(1j * mismatch.phase_std_rad * normal[1])


def fault_response(faults: tuple[Faults, ...], element_m: F64, seed: int) -> C128:
    """Complex factor of each element, ``[element]``: 1 where it is whole. Several draws multiply.

    Args:
        faults: What to draw; the place in the tuple is part of the seed.
        element_m: ``[element, xyz]`` metres, which says what neighbours are.
        seed: Seed of the device.
    """
    response = np.ones(len(element_m), np.complex128)
    for place, fault in enumerate(faults):
        rng = generator(seed, Draw.FAULTS, place)
        faulty = faulty_elements(fault, element_m, rng)
        response *= np.where(
            faulty, _fault_factor(fault.kind, rng.uniform(0, 2 * np.pi, len(faulty)), fault.gain_db), 1
        )
    return response


def faulty_elements(fault: Faults, element_m: F64, rng: np.random.Generator) -> Bool:
    """Which elements fail, ``[element]``, as :class:`Faults` says."""
    n = len(element_m)
    if fault.cluster_size == 1:
        return rng.uniform(size=n) < fault.probability
    faulty, wanted = np.zeros(n, np.bool_), round(fault.probability * n)
    for centre in rng.permutation(n):
        left = wanted - int(faulty.sum())
        if left <= 0:
            break
        if not faulty[centre]:
            nearest = np.argsort(np.linalg.norm(element_m - element_m[centre], axis=-1), kind="stable")
            faulty[nearest[: fault.cluster_size][~faulty[nearest[: fault.cluster_size]]][:left]] = True
    return faulty


def injected_factor(kind: FaultKind, element: int, phase_rad: float | None, gain_db: float, seed: int) -> complex:
    """Factor of a fault injected by hand; a phase that is not given is drawn, the same for one element and seed."""
    if phase_rad is None:
        phase_rad = float(generator(seed, Draw.INJECTED_FAULT, element).uniform(0, 2 * np.pi))
    return complex(_fault_factor(kind, np.array(phase_rad), gain_db))


def _fault_factor(kind: FaultKind, phase_rad: F64, gain_db: float) -> C128:
    if kind == "phase":
        return np.exp(1j * phase_rad)
    return np.full(phase_rad.shape, 0.0 if kind == "dead" else 10 ** (gain_db / 20), np.complex128)
