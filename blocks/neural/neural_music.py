"""Near-field MUSIC on the covariance that a trained network makes: coherent sources, few snapshots."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta

from blocks.neural.likeliest import explains, likeliest
from blocks.neural.weights import Card, check_fits, load_model, weights_path
from blocks.subspace.dictionary import Search
from blocks.subspace.model_order import eigenvalue_summary, model_order
from blocks.subspace.moments import Moments
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from blocks.subspace.near_field_music import NearFieldEstimate
from hil.block import Out, Result
from hil.errors import EstimationError

#: How far outside the trained range the signal-to-noise ratio may be estimated before estimates are flagged.
SNR_SLACK_DB = 3.0


class NeuralNearFieldMusicParams(NearFieldMusicParams, frozen=True):
    weights: Annotated[str, Meta(description="a file made by `hil train`, or the name of weights that are shipped")] = (
        "nf_subspacenet_n15"
    )
    second_opinion: Annotated[
        bool,
        Meta(
            description="Where what the network's sources leave is more than noise: take the likeliest of them, plain "
            "MUSIC's and those of a greedy likelihood search; needs polish"
        ),
    ] = True


class NeuralNearFieldMusic(NearFieldMusic):
    """NF-SubspaceNet on the stream, [NF] Algorithm 1, and its estimates refined by likelihood on the samples.

    The network replaces the sample covariance; what follows is the search of :class:`NearFieldMusic`. ``polish`` fits
    all sources to the samples themselves, so that the network has to find the right basin and no more. Where they leave
    more than noise of the samples, other basins are tried too (``second_opinion``,
    :func:`blocks.neural.likeliest.likeliest`): the block then does no worse than plain MUSIC. Estimates from data that
    the network was not trained for are given, and flagged: the frame's ``meta`` has ``outside_training``, a list of
    reasons.
    """

    params: NeuralNearFieldMusicParams

    def setup(self) -> None:
        super().setup()
        path = weights_path(self.params.weights)
        self._model, self._card = load_model(path)
        self._fitted_to: tuple[Any, float] | None = None
        self._n_outside = 0

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "frames_outside_training": self._n_outside}

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        self._check()
        with torch.no_grad():
            surrogate = self._model(torch.from_numpy(iq[None].copy()))[0].numpy()
        eigenvalues, vectors = np.linalg.eigh(surrogate)
        if not np.isfinite(eigenvalues).all():
            raise EstimationError(f"{self.name}: the samples are not finite")
        n = self.params.n_sources or self._order(eigenvalues, iq.shape[1])
        signal = np.ascontiguousarray(vectors[:, ::-1][:, :n])
        self._n_snapshots = iq.shape[1]
        return self._estimate(signal, Moments.of_samples(iq.astype(np.complex128)))

    def _order(self, eigenvalues: npt.NDArray[np.float64], n_snapshots: int) -> int:
        summary = eigenvalue_summary(eigenvalues, n_snapshots)
        most = min(self.params.max_sources, len(eigenvalues) - 1)
        return min(int(model_order(summary, self.params.criterion)), most)

    def _check(self) -> None:
        """Once for each array and carrier: are the weights for them?"""
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        frequency_hz = self.header.frequency_hz or self.params.frequency_hz or self._card.frequency_hz
        if self._fitted_to is None or self._fitted_to[0] is not self.array or self._fitted_to[1] != frequency_hz:
            check_fits(self._card, self.array, frequency_hz, self.name)
            self._fitted_to = (self.array, frequency_hz)

    def _settle(self, estimate: NearFieldEstimate, moments: Moments, dictionary: Search) -> NearFieldEstimate:
        wanted = self.params.polish and self.params.second_opinion and estimate.n_requested > 0
        if not wanted or explains(estimate, moments, dictionary):
            return estimate
        return likeliest(moments, dictionary, estimate.n_requested, [estimate])

    def _arrays(self, estimate: NearFieldEstimate) -> Out:
        out = super()._arrays(estimate)
        n_snapshots = self._n_snapshots
        # what is not resolved is no source: its power says nothing
        power = estimate.power[estimate.resolved]
        snr_db = 10 * np.log10(power / estimate.noise_power) if estimate.noise_power else np.zeros(0)
        reasons = outside_training(self._card, estimate.n_requested, n_snapshots, snr_db)
        if not reasons:
            return out
        self._n_outside += 1
        return out._replace(changes={**out.changes, "meta": {**out.changes["meta"], "outside_training": reasons}})


def outside_training(card: Card, n_sources: int, n_snapshots: int, snr_db: npt.NDArray[np.float64]) -> list[str]:
    """Why the weights were not made for such data; empty where they were."""
    reasons = []
    low, high = card.n_sources
    if not low <= n_sources <= high:
        reasons.append(f"{n_sources} sources, trained for {low} to {high}")
    if n_snapshots != card.n_snapshots:
        reasons.append(f"{n_snapshots} snapshots, trained for {card.n_snapshots}")
    least, most = card.snr_db
    beyond = [s for s in snr_db.tolist() if not least - SNR_SLACK_DB <= s <= most + SNR_SLACK_DB]
    if beyond:
        reasons.append(f"a source {beyond[0]:.0f} dB over noise, trained for {least:g} to {most:g}")
    return reasons
