"""What networks share that give places themselves, and no covariance: results, errors, limits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from blocks.neural.matching import best_permutation
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.wavefront import direction_vector

Tensor = torch.Tensor


class Places(NamedTuple):
    """``[batch, source]`` each."""

    azimuth_rad: Tensor
    range_m: Tensor


def searched_ranges(array: ArrayGeometry, wavelength_m: float) -> tuple[float, float]:
    """From the Fresnel to half the Fraunhofer distance, where [NF] Section IV-A1 draws sources from."""
    aperture = array.aperture_m
    return fresnel_distance(aperture, wavelength_m), fraunhofer_distance(aperture, wavelength_m) / 2


def matched_distance(found: Places, azimuth_rad: Tensor, range_m: Tensor) -> Tensor:
    """Distance of each true source to the estimate that belongs to it, ``[batch, source]`` m; best permutation.

    The gradient is finite where the distance is zero.
    """
    true = direction_vector(azimuth_rad) * range_m[..., None]
    at = direction_vector(found.azimuth_rad) * found.range_m[..., None]
    distance = torch.sqrt(((true[:, :, None] - at[:, None]) ** 2).sum(-1) + 1e-12)
    return distance.gather(2, best_permutation(distance**2)[..., None])[..., 0]


@torch.no_grad()
def places_error(model: Any, batch: dict[str, Any], cutoff_m: float) -> dict[str, float]:
    """Position errors on a batch, the number of sources given.

    Args:
        model: Called with samples and a number of sources, gives :class:`Places`.
        batch: ``samples``, ``azimuth_rad``, ``range_m`` (NaN where there is no source), ``n_sources`` as tensors.
        cutoff_m: The largest distance that a source may be off by.
    """
    errors = []
    for m in batch["n_sources"].unique().tolist():
        chosen = batch["n_sources"] == m
        truth = batch["azimuth_rad"][chosen][:, :m], batch["range_m"][chosen][:, :m]
        errors.append(matched_distance(model(batch["samples"][chosen], m), *truth).clamp(max=cutoff_m).mean(-1))
    error = torch.cat(errors).cpu().numpy()
    return {"error_mean_m": float(error.mean()), "error_median_m": float(np.median(error))}
