"""DCD-MUSIC: a network that makes waves plane for ESPRIT, one that makes a covariance for ranges along them.

[NF] Section III-B. Angles by ESPRIT on the first surrogate; for each of them the range by one-dimensional MUSIC on the
second. Trained in three stages: angles, ranges (at first along the true angles), positions.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from msgspec import Meta
from torch import nn

from blocks.neural.learned_positions import LearnedPositions
from blocks.neural.losses import order_loss
from blocks.neural.maskpeak import maskpeak
from blocks.neural.matching import best_permutation, periodic_difference, root_mean_square
from blocks.neural.subspace_split import subspace_split
from blocks.neural.surrogate_network import SurrogateConfig, SurrogateNetwork
from blocks.subspace.esprit import esprit
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.errors import ParamError
from hil.params import Count, Params
from hil.wavefront import direction_vector, steering_vector_polar

Tensor = torch.Tensor
Batch = dict[str, Any]

Stage = Literal["angle", "range", "position"]

#: Sines beyond this have no finite gradient of the angle.
_MOST_SINE = 1 - 1e-6


class DcdMusicConfig(Params, frozen=True):
    angle: SurrogateConfig = SurrogateConfig(epsilon=1e-6, skip=False)
    range: SurrogateConfig = SurrogateConfig(epsilon=1e-6, skip=False)
    angle_share: Annotated[float, Meta(gt=0, lt=1, description="of the training, for stage 1")] = 0.5
    range_share: Annotated[float, Meta(gt=0, lt=1, description="of the training, for stage 2")] = 0.35
    warm_up: Annotated[float, Meta(ge=0, le=1, description="part of stage 2 along the true angles")] = 0.3
    n_ranges: Annotated[Count, Meta(le=4096, description="places searched along each angle")] = 85
    widest_mask: Annotated[Count, Meta(description="half width of the peak's mask at first, Eq. (25)")] = 20
    order_weight: Annotated[float, Meta(ge=0, description="mu_e of Eqs. (20) and (24)")] = 0.0
    amplitude: Annotated[bool, Meta(description="near elements receive more, [NF] Eq. (4)")] = True
    learn_positions: Annotated[
        bool, Meta(description="learn too where the elements are, for an array that is not as it is said to be")
    ] = False


class Located(NamedTuple):
    """Angles ascending, and the range along each: ``[batch, source]``, and the eigenvalues of the first surrogate."""

    azimuth_rad: Tensor
    range_m: Tensor
    eigenvalues: Tensor


class DcdMusic(nn.Module):
    """Both networks, their losses and errors.

    Args:
        config: What it is.
        array: A uniform line.
        wavelength_m: Metres.

    Attributes:
        progress: How far the training is, 0 .. 1: which stage, and how wide the mask.
    """

    position_m: Tensor
    places_m: Tensor
    gives_places = True

    def __init__(self, config: DcdMusicConfig, array: ArrayGeometry, wavelength_m: float) -> None:
        super().__init__()
        self.config, self.array, self.wavelength_m = config, array, wavelength_m
        position_m = np.array(array.channel_position_m)
        steps = np.diff(position_m[:, 0])
        if not array.is_linear or np.ptp(steps) > 1e-6 * abs(steps[0]):
            raise ParamError(f"DCD-MUSIC: array {array.array_id!r} is no uniform line along x, which ESPRIT needs")
        self.spacing_m = float(steps[0])
        self.angle, self.range = SurrogateNetwork(config.angle), SurrogateNetwork(config.range)
        nearest = fresnel_distance(array.aperture_m, wavelength_m)
        farthest = fraunhofer_distance(array.aperture_m, wavelength_m) / 2
        self.register_buffer("position_m", torch.from_numpy(position_m), persistent=False)
        self.register_buffer("places_m", torch.linspace(nearest, farthest, config.n_ranges, dtype=torch.float64), False)
        self.positions = LearnedPositions(array, wavelength_m) if config.learn_positions else None
        self.progress = 1.0

    @property
    def stage(self) -> Stage:
        c = self.config
        if self.progress < c.angle_share:
            return "angle"
        return "range" if self.progress < c.angle_share + c.range_share else "position"

    @property
    def half_width(self) -> int:
        """Of the mask: from the widest to 1, falling with each part of stage 2 and held in stage 3."""
        c = self.config
        along = min(1.0, max(0.0, (self.progress - c.angle_share) / c.range_share))
        return max(1, round(min(c.widest_mask, (c.n_ranges - 1) // 2) * (1 - along)))

    def azimuths(self, samples: Tensor, n_sources: int) -> tuple[Tensor, Tensor]:
        """Angles by ESPRIT, ascending, ``[batch, source]`` rad, and eigenvalues of the surrogate, descending."""
        count = torch.full((len(samples),), n_sources, device=samples.device)
        values, vectors = subspace_split(self.angle(samples), count)
        phase = esprit(vectors[..., :n_sources], "ls").phase_rad
        sine = phase * (self.wavelength_m / (2 * np.pi * self.spacing_m))
        return torch.asin(sine.clamp(-_MOST_SINE, _MOST_SINE)), values

    def range_spectrum(self, samples: Tensor, azimuth_rad: Tensor) -> Tensor:
        """MUSIC spectrum along each angle, Eq. (18): ``[batch, source, place]``, 1 where nothing is orthogonal."""
        n_sources = azimuth_rad.shape[-1]
        count = torch.full((len(samples),), n_sources, device=samples.device)
        _, vectors = subspace_split(self.range(samples), count)
        steering = steering_vector_polar(
            self.position_m if self.positions is None else self.positions().detach(),
            azimuth_rad[..., None].expand(*azimuth_rad.shape, len(self.places_m)),
            self.places_m.expand(*azimuth_rad.shape, -1),
            self.wavelength_m,
            amplitude=self.config.amplitude,
        )
        steering = steering / torch.linalg.vector_norm(steering, dim=-1, keepdim=True)
        seen = torch.einsum("bmrn,bnk->bmrk", steering.conj(), vectors[..., n_sources:])
        return 1 / ((seen.real**2 + seen.imag**2).sum(-1) + 1e-9)

    def forward(self, samples: Tensor, n_sources: int) -> Located:
        """Angles and ranges, [NF] Algorithm 3, the number of sources given; ranges on the grid of places."""
        azimuth, values = self.azimuths(samples, n_sources)
        spectrum = self.range_spectrum(samples, azimuth)
        return Located(azimuth, self.places_m[spectrum.argmax(-1)], values)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Loss of the present stage: Eqs. (20), (22) or (24), over the examples of each number of sources.

        Args:
            batch: ``samples``, ``azimuth_rad``, ``range_m`` (NaN where there is no source), ``n_sources`` as tensors.
        """
        total, n = torch.zeros((), dtype=torch.float64, device=batch["samples"].device), len(batch["samples"])
        for m in batch["n_sources"].unique().tolist():
            chosen = batch["n_sources"] == m
            truth = batch["azimuth_rad"][chosen][:, :m], batch["range_m"][chosen][:, :m]
            total = total + self._stage_loss(batch["samples"][chosen], *truth).sum()
        loss, parts = total / n, {"stage": {"angle": 1.0, "range": 2.0, "position": 3.0}[self.stage]}
        if self.positions is not None:
            azimuth, ranges, n_sources = batch["azimuth_rad"], batch["range_m"], batch["n_sources"]
            present = torch.arange(azimuth.shape[-1], device=n_sources.device) < n_sources[:, None]
            misfit = self.positions.misfit(batch["samples"], azimuth, ranges, present, self.config.amplitude).mean()
            loss, parts = loss + misfit, {**parts, "misfit": float(misfit.detach())}
        return loss, parts

    def _stage_loss(self, samples: Tensor, azimuth_rad: Tensor, range_m: Tensor) -> Tensor:
        m = azimuth_rad.shape[-1]
        stage, c = self.stage, self.config
        if stage == "range" and self.progress < c.angle_share + c.warm_up * c.range_share:
            ranges = maskpeak(self.range_spectrum(samples, azimuth_rad), self.places_m, self.half_width)
            return root_mean_square(ranges - range_m)
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage != "range"):
            azimuth, values = self.azimuths(samples, m)
        off = periodic_difference(azimuth_rad[:, :, None], azimuth[:, None, :])
        if stage == "angle":
            order = best_permutation(off**2)
            loss = root_mean_square(off.gather(2, order[..., None])[..., 0])
        else:
            ranges = maskpeak(self.range_spectrum(samples, azimuth), self.places_m, self.half_width)
            if stage == "range":
                return root_mean_square(ranges.gather(1, best_permutation(off**2)) - range_m)
            true = direction_vector(azimuth_rad) * range_m[..., None]
            found = direction_vector(azimuth) * ranges[..., None]
            distance = torch.sqrt(((true[:, :, None] - found[:, None]) ** 2).sum(-1) + 1e-12)
            loss = root_mean_square(distance.gather(2, best_permutation(distance**2)[..., None])[..., 0])
        if c.order_weight:
            loss = loss + c.order_weight * order_loss(values, torch.full((len(samples),), m, device=samples.device))
        return loss

    @torch.no_grad()
    def error(self, batch: Batch, cutoff_m: float) -> dict[str, float]:
        """Errors on a batch, the number of sources given: angles in rad, and positions in metres.

        Args:
            batch: As for :meth:`loss`.
            cutoff_m: The largest distance that a source may be off by.
        """
        angle, place = [], []
        for m in batch["n_sources"].unique().tolist():
            chosen = batch["n_sources"] == m
            azimuth, ranges = batch["azimuth_rad"][chosen][:, :m], batch["range_m"][chosen][:, :m]
            found = self(batch["samples"][chosen], m)
            off = periodic_difference(azimuth[:, :, None], found.azimuth_rad[:, None, :])
            angle.append(root_mean_square(off.gather(2, best_permutation(off**2)[..., None])[..., 0]))
            true = direction_vector(azimuth) * ranges[..., None]
            at = direction_vector(found.azimuth_rad) * found.range_m[..., None]
            distance = torch.linalg.vector_norm(true[:, :, None] - at[:, None], dim=-1).clamp(max=cutoff_m)
            place.append(distance.gather(2, best_permutation(distance)[..., None])[..., 0].mean(-1))
        angles, places = torch.cat(angle), torch.cat(place)
        return {
            "angle_rad": float(angles.mean()),
            "error_mean_m": float(places.mean()),
            "error_median_m": float(places.median()),
        }
