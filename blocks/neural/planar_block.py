"""Planar MUSIC on the covariance that a trained network makes: azimuth, elevation and range of coherent sources."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.neural.fast_surrogate import FastSurrogate
from blocks.neural.learned_positions import array_as_learned
from blocks.neural.near_field_subspace_net import NearFieldSubspaceNet
from blocks.neural.neural_music import OrderThreshold, SecondOpinion, Weights, outside_training, surrogate_order
from blocks.neural.planar_likeliest import settled_in_space
from blocks.neural.weights import check_fits, load_model, weights_path
from blocks.subspace.block_input import estimate_arrays
from blocks.subspace.joint_likelihood import source_power
from blocks.subspace.moments import Moments
from blocks.subspace.planar_block import PlanarMusic, PlanarMusicParams
from blocks.subspace.planar_grid import PlanarSearch, free_coordinates
from blocks.subspace.planar_likelihood import PlanarSources, planar_from_subspace
from hil.array import ArrayGeometry
from hil.block import Out, Result
from hil.errors import ParamError
from hil.wavefront import SPEED_OF_LIGHT_M_S


class NeuralPlanarMusicParams(PlanarMusicParams, frozen=True):
    weights: Weights = "nf_subspacenet_ura"
    n_sources: Annotated[
        int, Meta(ge=0, le=64, description="Sources to look for; 0: as the eigenvalues of the network's covariance say")
    ] = 2
    order_threshold: OrderThreshold = None
    second_opinion: SecondOpinion = True
    keep_unresolved: Annotated[
        bool, Meta(description="Give shallow nulls too: coherent sources, but now and then a ghost")
    ] = False


class NeuralPlanarMusic(PlanarMusic):
    """NF-SubspaceNet of an array in the x-z plane: azimuth, elevation and range of each source.

    The network replaces the sample covariance, the search is that of :class:`PlanarMusic`, the likelihood fit is to the
    samples. Where what it leaves is more than noise, plain MUSIC and a greedy search are tried too and the likeliest is
    taken (:func:`blocks.neural.planar_likeliest.likeliest_in_space`). Estimates from data that the network was not
    trained for are given, and flagged: the frame's ``meta`` has ``outside_training``, a list of reasons.
    """

    params: NeuralPlanarMusicParams

    def setup(self) -> None:
        super().setup()
        path = weights_path(self.params.weights)
        model, self._card = load_model(path)
        if not isinstance(model, NearFieldSubspaceNet) or not model.config.elevation:
            raise ParamError(
                f"{self.name}: {path} has weights of a {self._card.system} without elevation; expected an "
                "nf_subspacenet trained with model.elevation"
            )
        self._model, self._surrogate = model, FastSurrogate(model.network)
        self._n_outside = 0

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "frames_outside_training": self._n_outside}

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        grid = self._grid(len(iq))
        eigenvalues, vectors = np.linalg.eigh(self._surrogate(iq[None])[0])
        n = self.params.n_sources or surrogate_order(eigenvalues, iq.shape[1], self.params)
        moments = Moments.of_samples(iq.astype(np.complex128))
        signal = np.ascontiguousarray(vectors[:, ::-1][:, :n])
        found = planar_from_subspace(signal, moments, grid, polish=self.params.polish)
        if self.params.polish and self.params.second_opinion:
            found = settled_in_space(found, moments, grid)
        return self._arrays(found, moments, grid)

    def _search(self, array: ArrayGeometry, wavelength: float) -> PlanarSearch:
        """Once for each array and carrier; elements are where the weights have learned them to be."""
        check_fits(self._card, array, SPEED_OF_LIGHT_M_S / wavelength, self.name)
        return super()._search(array_as_learned(self._model, array), wavelength)

    def _arrays(self, found: PlanarSources, moments: Moments, grid: PlanarSearch) -> Out:
        n_resolved = int(found.resolved.sum())
        meta: dict[str, Any] = {"n_requested": found.n_requested, "n_unresolved": found.n_requested - n_resolved}
        point, power, covariance, snr_db = np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3, 3)), np.zeros(0)
        if found.fit is not None:
            kept = found.resolved | self.params.keep_unresolved
            all_power, n_free = source_power(found.fit, moments), len(free_coordinates(grid))
            point, power = found.fit.point[kept], all_power[kept]
            covariance = np.zeros((len(point), 3, 3))
            covariance[:, :n_free, :n_free] = found.fit.covariance[kept]
            # what is not resolved is no source: its power says nothing
            snr_db = (
                10 * np.log10(all_power[found.resolved] / found.fit.noise_power) if found.fit.noise_power else snr_db
            )
        reasons = outside_training(self._card, found.n_requested, int(moments.n_snapshots), snr_db)
        if reasons:
            self._n_outside += 1
            meta["outside_training"] = reasons
        return Out(estimate_arrays(point, power, covariance), {"meta": meta})
