"""The block coordinate descent that [HI] compares with (its Section III-B, after its reference [18]). Known pilots."""

import numpy as np

from blocks.hi_aware.joint_fit import fit_gains
from blocks.hi_aware.reduce import Reduced, unmixed
from blocks.hi_aware.scene import C128, F64, Places, Scene
from blocks.hi_aware.shrinkage import ista, penalty

#: Points of a line search over the whole axis.
_N_ANGLES, _N_RANGES = 1024, 128


def block_descent(data: Reduced, scene: Scene, *, max_rounds: int = 20) -> tuple[Places, C128]:
    """Alternate masks (P3), gains (Eq. 8), angles (P5) and ranges (P6) until nothing moves.

    It starts where [HI] says nothing: no faults, the middle of the inverse ranges, all angles searched. It stays where
    angle and range hold one another; that is the point of the comparison.

    Returns:
        Places, and coefficients ``c [sensor]``.
    """
    assert data.mixing is not None
    alone = unmixed(data)
    low, high = scene.inverse_range_limits_per_m
    k = np.full(data.n_sources, (low + high) / 2)
    c = np.ones(len(data.z), np.complex128)
    azimuth = np.array(
        [_line(scene, np.arcsin(np.linspace(-1, 1, _N_ANGLES)), k[i : i + 1], alone[:, i]) for i in range(len(k))]
    )
    span, range_span = 4 / _N_ANGLES, (high - low) / 2
    for _ in range(max_rounds):
        before = np.concatenate([azimuth, k])
        a = scene.vectors(azimuth, k).T
        gains = fit_gains(data, c[:, None] * a, np.ones(len(c)))
        model = a @ gains
        cross, power = np.sum(model.conj() * data.z, axis=1), np.sum(np.abs(model) ** 2, axis=1)
        c = 1 + ista(cross, power, penalty(cross, power, data.noise_power)).z
        for i in range(len(k)):
            target = c.conj() * alone[:, i]
            near = np.arcsin(np.clip(np.sin(azimuth[i]) + np.linspace(-span, span, 101), -1, 1))
            azimuth[i] = _line(scene, near, k[i : i + 1], target)
            ranges = np.clip(k[i] + np.linspace(-range_span, range_span, _N_RANGES + 1), low, high)
            k[i] = _line(scene, azimuth[i : i + 1], ranges, target)
        span, range_span = max(span / 2, 1e-6), max(range_span / 2, 1e-6)
        if np.abs(np.concatenate([azimuth, k]) - before).max() < 1e-6:
            break
    return Places(azimuth, k), c


def _line(scene: Scene, azimuth_rad: F64, inverse_range_per_m: F64, target: C128) -> float:
    """The point of the longer axis at which ``target [sensor]`` responds most."""
    azimuth, k = np.broadcast_arrays(azimuth_rad, inverse_range_per_m)
    a = scene.vectors(azimuth, k)
    best = int((np.abs(a.conj() @ target) / np.linalg.norm(a, axis=1)).argmax())
    return float(azimuth[best] if len(azimuth_rad) > 1 else k[best])
