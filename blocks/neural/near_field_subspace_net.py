"""NF-SubspaceNet: a network makes the covariance on which near-field MUSIC works. [NF] Section III-A."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta
from torch import nn

from blocks.evaluation.rmspe import rmspe
from blocks.neural.learned_positions import LearnedPositions, array_as_learned
from blocks.neural.losses import criterion_loss, order_loss, spectrum_loss, threshold_loss
from blocks.neural.subspace_split import noise_projector, subspace_split
from blocks.neural.surrogate_network import SurrogateConfig, SurrogateNetwork
from blocks.subspace.dictionary import Grid, steering_dictionary
from blocks.subspace.model_order import eigenvalue_summary, model_order
from blocks.subspace.near_field_batch import near_field_batch_from_subspace
from blocks.subspace.null_batch import BatchEstimate
from blocks.subspace.planar_grid import planar_grid
from blocks.subspace.planar_music import planar_music_batch
from hil.array import ArrayGeometry
from hil.params import Params
from hil.wavefront import direction_vector, steering_vector_polar

Tensor = torch.Tensor
Batch = dict[str, Any]


class NearFieldSubspaceNetConfig(Params, frozen=True):
    network: SurrogateConfig = SurrogateConfig()
    order: Annotated[
        Literal["none", "threshold", "eigenvalues", "criterion"],
        Meta(description="model-order loss: none, Eq. (15), Eq. (16) for MDL and AIC, or MDL itself as a classifier"),
    ] = "none"
    order_weight: Annotated[float, Meta(ge=0, description="mu_e of Eq. (17)")] = 0.1
    threshold: Annotated[float, Meta(gt=0, lt=1, description="Lambda of Eq. (15)")] = 0.5
    temperature: Annotated[float, Meta(gt=0, description="of MDL as a classifier")] = 10.0
    amplitude: Annotated[bool, Meta(description="near elements receive more, [NF] Eq. (4)")] = True
    elevation: Annotated[
        bool, Meta(description="sources lie above and below too: for arrays in the x-z plane, rectangles for example")
    ] = False
    learn_positions: Annotated[
        bool, Meta(description="learn too where the elements are, for an array that is not as it is said to be")
    ] = False


class NearFieldSubspaceNet(nn.Module):
    """The network, its loss and its error on a batch.

    Args:
        config: What it is.
        array: The line that it is trained for; where the configuration says ``elevation``, an array in the x-z plane.
        wavelength_m: Metres.

    Raises:
        ParamError: ``elevation``, and the array cannot tell it.
    """

    def __init__(self, config: NearFieldSubspaceNetConfig, array: ArrayGeometry, wavelength_m: float) -> None:
        super().__init__()
        self.config, self.array, self.wavelength_m = config, array, wavelength_m
        self.network = SurrogateNetwork(config.network)
        self.positions = LearnedPositions(array, wavelength_m) if config.learn_positions else None
        if config.elevation:
            planar_grid(array, wavelength_m, amplitude=config.amplitude)  # refuses lines and level arrays

    def forward(self, samples: Tensor) -> Tensor:
        """Surrogate covariance ``[batch, sensor, sensor]`` of ``[batch, sensor, snapshot]``."""
        surrogate: Tensor = self.network(samples)
        return surrogate

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Eq. (17) of a batch, and its parts.

        Args:
            batch: ``samples``, ``azimuth_rad``, ``range_m`` (NaN where there is no source), ``n_sources`` as tensors;
                where the network has ``elevation``, ``elevation_rad`` too.
        """
        n_sources = batch["n_sources"]
        present = torch.arange(batch["azimuth_rad"].shape[-1], device=n_sources.device) < n_sources[:, None]
        azimuth = torch.where(present, batch["azimuth_rad"], torch.zeros_like(batch["azimuth_rad"]))
        elevation = torch.where(present, self._elevation(batch), torch.zeros_like(azimuth))
        ranges = torch.where(present, batch["range_m"], torch.ones_like(batch["range_m"]) * self.wavelength_m)
        # the network learns for the positions that are known by now; they have a loss of their own
        position_m = (
            torch.as_tensor(np.array(self.array.channel_position_m), device=azimuth.device)
            if self.positions is None
            else self.positions().detach()
        )
        steering = steering_vector_polar(
            position_m,
            azimuth,
            ranges,
            self.wavelength_m,
            elevation_rad=elevation,
            amplitude=self.config.amplitude,
        )
        steering = steering / torch.linalg.vector_norm(steering, dim=-1, keepdim=True)
        values, vectors = subspace_split(self(batch["samples"]), n_sources)
        spectrum = spectrum_loss(noise_projector(vectors, n_sources), steering, present).mean()
        parts = {"spectrum": float(spectrum.detach())}
        total = spectrum
        if self.positions is not None:
            misfit = self.positions.misfit(
                batch["samples"], azimuth, ranges, present, self.config.amplitude, elevation_rad=elevation
            ).mean()
            parts["misfit"] = float(misfit.detach())
            total = total + misfit
        if self.config.order == "none":
            return total, parts
        if self.config.order == "threshold":
            order = threshold_loss(values, n_sources, self.config.threshold).mean()
        elif self.config.order == "eigenvalues":
            order = order_loss(values, n_sources).mean()
        else:
            order = criterion_loss(values, n_sources, batch["samples"].shape[-1], self.config.temperature).mean()
        parts["order"] = float(order.detach())
        return total + self.config.order_weight * order, parts

    @torch.no_grad()
    def error(self, batch: Batch, cutoff_m: float) -> dict[str, float]:
        """Position errors of near-field MUSIC, off the grid, on the surrogate, the number of sources given.

        Args:
            batch: As for :meth:`loss`.
            cutoff_m: What a source costs that shows no null, see :func:`blocks.evaluation.rmspe.rmspe`.
        """
        values, vectors = torch.linalg.eigh(self(batch["samples"]))
        vectors = vectors.flip(-1).cpu().numpy()
        n_sources = batch["n_sources"].cpu().numpy()
        search = self._search()
        azimuth, elevation, ranges = (
            v.cpu().numpy() for v in (batch["azimuth_rad"], self._elevation(batch), batch["range_m"])
        )
        errors, n_found = np.zeros(len(n_sources)), 0
        for m in np.unique(n_sources):
            chosen = np.flatnonzero(n_sources == m)
            found = search(np.ascontiguousarray(vectors[chosen][:, :, :m]))
            n_found += int(found.found.sum())
            for row, i in enumerate(chosen):
                kept = found.found[row]
                r = 1 / np.maximum(found.inverse_range_per_m[row, kept], 1 / cutoff_m)
                at = direction_vector(found.azimuth_rad[row, kept], found.elevation_rad[row, kept]) * r[:, None]
                truth = direction_vector(azimuth[i, :m], elevation[i, :m]) * ranges[i, :m, None]
                errors[i] = rmspe(at, truth, cutoff_m, order=1)
        return {
            "error_mean_m": float(errors.mean()),
            "error_median_m": float(np.median(errors)),
            "found": n_found / float(n_sources.sum()),
            "order": self._order_share(values, n_sources, batch["samples"].shape[-1]),
        }

    def _elevation(self, batch: Batch) -> Tensor:
        return batch["elevation_rad"] if self.config.elevation else torch.zeros_like(batch["azimuth_rad"])

    def _search(self) -> Callable[[Any], BatchEstimate]:
        """From signal subspaces ``[batch, sensor, source]`` to nulls, on the array as it is known by now."""
        array, amplitude = array_as_learned(self, self.array), self.config.amplitude
        if self.config.elevation:
            return partial(planar_music_batch, grid=planar_grid(array, self.wavelength_m, amplitude=amplitude))
        grid = Grid.coarse(self.array, self.wavelength_m)
        dictionary = steering_dictionary(array, self.wavelength_m, grid, amplitude=amplitude)
        return partial(near_field_batch_from_subspace, dictionary=dictionary)

    @staticmethod
    def _order_share(eigenvalues: Tensor, n_sources: np.ndarray, n_snapshots: int) -> float:
        """Share of the examples in which MDL on the surrogate's eigenvalues tells the number of sources."""
        summary = eigenvalue_summary(eigenvalues.cpu().numpy(), n_snapshots)
        return float(np.mean(model_order(summary, "mdl") == n_sources))
