"""DCD-MUSIC on the stream: angles and ranges from two networks, without a search in two dimensions."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.neural.dcd_estimate import dcd_estimate
from blocks.neural.dcd_music import DcdMusic
from blocks.neural.fast_surrogate import FastSurrogate, lagged_covariances
from blocks.neural.neural_music import NeuralNearFieldMusic, NeuralNearFieldMusicParams, surrogate_order
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import NearFieldEstimate
from hil.block import Out, Result


class NeuralDcdMusicParams(NeuralNearFieldMusicParams, frozen=True):
    weights: Annotated[str, Meta(description="a file made by `hil train`, or the name of weights that are shipped")] = (
        "dcd_music_n15"
    )


class NeuralDcdMusic(NeuralNearFieldMusic):
    """[NF] Algorithm 3 and its estimates refined by likelihood on the samples.

    ESPRIT on the first network's covariance gives the angles, one-dimensional MUSIC on the second's a range along each;
    ``polish`` fits all sources to the samples, and ``second_opinion`` looks elsewhere where they leave more than noise.
    Sources in the far field need no training of their own: their angles hold, and the search for ranges ends at the
    plane wave. The frame's ``meta`` has ``far_field``, a truth value for each source: beyond the Fraunhofer distance a
    range says no more than that. The number of sources, where it is not given, is told by the first network's
    eigenvalues.
    """

    params: NeuralDcdMusicParams
    system = "dcd_music"

    def _take(self, model: Any) -> None:
        assert isinstance(model, DcdMusic)
        self._angle, self._range = FastSurrogate(model.angle), FastSurrogate(model.range)
        self._n_lags = max(self._angle.n_lags, self._range.n_lags)
        self._spacing = model.spacing_m / model.wavelength_m

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        self._check()
        self._angle.check(iq[None])
        self._n_snapshots = iq.shape[1]
        correlation = lagged_covariances(iq[None], self._n_lags)
        near_plane, near = (
            network.of_correlation(correlation, iq.shape[1], scaled=False)[0] for network in (self._angle, self._range)
        )
        values, plane = np.linalg.eigh(near_plane)
        n = self.params.n_sources or surrogate_order(values, iq.shape[1], self.params)
        spherical = np.linalg.eigh(near)[1][:, ::-1][:, :n]
        moments = Moments.of_samples(iq.astype(np.complex128))
        dictionary = self._dictionary(iq.shape[0])
        estimate = dcd_estimate(
            plane[:, ::-1][:, :n], spherical, moments, dictionary, self._spacing, polish=self.params.polish
        )
        estimate = self._settle(estimate, moments, dictionary)
        show = self.params.spectrum_every and self._n_frames % self.params.spectrum_every == 0
        self._n_frames += 1
        return self._arrays(estimate), self._spectrum(spherical) if show else None

    def _arrays(self, estimate: NearFieldEstimate) -> Out:
        out = super()._arrays(estimate)
        kept = estimate.resolved | self.params.keep_unresolved
        far = [bool(f) for f in estimate.far_field[kept]]
        return out._replace(changes={**out.changes, "meta": {**out.changes["meta"], "far_field": far}})
