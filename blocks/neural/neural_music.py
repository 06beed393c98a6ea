"""Near-field MUSIC on the covariance that a trained network makes: coherent sources, few snapshots."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.neural.fast_surrogate import FastSurrogate
from blocks.neural.learned_positions import learned_array
from blocks.neural.likeliest import explains, likeliest
from blocks.neural.weights import Card, check_fits, load_model, weights_path
from blocks.subspace.dictionary import Search
from blocks.subspace.model_order import Criterion, eigenvalue_summary, model_order
from blocks.subspace.moments import Moments
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from blocks.subspace.near_field_music import NearFieldEstimate
from hil.array import ArrayGeometry
from hil.block import Out, Result
from hil.errors import EstimationError, ParamError

#: How far outside the trained range the signal-to-noise ratio may be estimated before estimates are flagged.
SNR_SLACK_DB = 3.0


#: What the parameters of several blocks have in common.
Weights = Annotated[str, Meta(description="a file made by `hil train`, or the name of weights that are shipped")]
OrderThreshold = (
    Annotated[
        float,
        Meta(gt=0, lt=1, description="n_sources 0: eigenvalues above this part of the largest; absent: criterion"),
    ]
    | None
)
SecondOpinion = Annotated[
    bool,
    Meta(
        description="Where what the network's sources leave is more than noise: take the likeliest of them, plain "
        "MUSIC's and those of a greedy likelihood search; needs polish"
    ),
]


class NeuralMusicParams(NearFieldMusicParams, frozen=True):
    """What the blocks with a network share."""

    order_threshold: OrderThreshold = None


class NeuralNearFieldMusicParams(NeuralMusicParams, frozen=True):
    weights: Weights = "nf_subspacenet_n15"
    second_opinion: SecondOpinion = True


class NeuralNearFieldMusic(NearFieldMusic):
    """NF-SubspaceNet on the stream, [NF] Algorithm 1, and its estimates refined by likelihood on the samples.

    The network replaces the sample covariance; what follows is the search of :class:`NearFieldMusic`. ``polish`` fits
    all sources to the samples themselves, so that the network has to find the right basin and no more. Where they leave
    more than noise of the samples, other basins are tried too (``second_opinion``,
    :func:`blocks.neural.likeliest.likeliest`): the block then does no worse than plain MUSIC. Estimates from data that
    the network was not trained for are given, and flagged: the frame's ``meta`` has ``outside_training``, a list of
    reasons.

    Weights that learned where the elements are (``learn_positions``) bring these positions: search, fit and the other
    basins are then of the array as it is, not as its descriptor says. Where no sources of that array explain the
    samples, the estimates are flagged too.
    """

    params: NeuralNearFieldMusicParams
    #: Name of the network in :data:`blocks.neural.systems.SYSTEMS`.
    system = "nf_subspacenet"

    def setup(self) -> None:
        super().setup()
        path = weights_path(self.params.weights)
        model, self._card = load_model(path)
        if self._card.system != self.system:
            raise ParamError(f"{self.name}: {path} has weights of {self._card.system}, expected {self.system}")
        if getattr(model.config, "elevation", False):
            raise ParamError(f"{self.name}: {path} has weights that tell elevation: take NeuralPlanarMusic")
        self._take(model)
        self._learned = learned_array(model)
        self._fitted_to: tuple[Any, float] | None = None
        self._n_outside = 0

    @property
    def wavefront_array(self) -> ArrayGeometry:
        """As training found the elements to be, where it learned that; else as the descriptor says."""
        return super().wavefront_array if self._learned is None else self._learned

    def _take(self, model: Any) -> None:
        """Keep what of the loaded network a frame needs."""
        self._surrogate = FastSurrogate(model.network)

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "frames_outside_training": self._n_outside}

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        self._check()
        eigenvalues, vectors = np.linalg.eigh(self._surrogate(iq[None])[0])
        n = self.params.n_sources or surrogate_order(eigenvalues, iq.shape[1], self.params)
        signal = np.ascontiguousarray(vectors[:, ::-1][:, :n])
        self._n_snapshots = iq.shape[1]
        return self._estimate(signal, Moments.of_samples(iq.astype(np.complex128)))

    def _check(self) -> None:
        """Once for each array and carrier: are the weights for them?"""
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        frequency_hz = self.header.frequency_hz or self.params.frequency_hz or self._card.frequency_hz
        if self._fitted_to is None or self._fitted_to[0] is not self.array or self._fitted_to[1] != frequency_hz:
            check_fits(self._card, self.array, frequency_hz, self.name)
            self._fitted_to = (self.array, frequency_hz)

    def _settle(self, estimate: NearFieldEstimate, moments: Moments, dictionary: Search) -> NearFieldEstimate:
        self._unexplained = False
        wanted = self.params.polish and self.params.second_opinion and estimate.n_requested > 0
        if not wanted or explains(estimate, moments, dictionary):
            return estimate
        best = likeliest(moments, dictionary, estimate.n_requested, [estimate])
        # no descriptor tells whether the array is the one that was learned: the samples do
        self._unexplained = self._learned is not None and not explains(best, moments, dictionary)
        return best

    def _arrays(self, estimate: NearFieldEstimate) -> Out:
        out = super()._arrays(estimate)
        n_snapshots = self._n_snapshots
        # what is not resolved is no source: its power says nothing
        power = estimate.power[estimate.resolved]
        snr_db = 10 * np.log10(power / estimate.noise_power) if estimate.noise_power else np.zeros(0)
        reasons = outside_training(self._card, estimate.n_requested, n_snapshots, snr_db)
        if self._unexplained:
            reasons.append(
                "sources leave more than noise: another array than the one that was learned, or more of them"
            )
        if not reasons:
            return out
        self._n_outside += 1
        return out._replace(changes={**out.changes, "meta": {**out.changes["meta"], "outside_training": reasons}})


class OrderParams(Protocol):
    """What the number of sources depends on."""

    @property
    def max_sources(self) -> int: ...
    @property
    def criterion(self) -> Criterion: ...
    @property
    def order_threshold(self) -> float | None: ...


def surrogate_order(eigenvalues: npt.NDArray[np.float64], n_snapshots: int, params: OrderParams) -> int:
    """Number of sources that the eigenvalues of a network's covariance tell, at least 1: [NF] Eqs. (8) and (9).

    Args:
        eigenvalues: Any order, ``[sensor]``.
        n_snapshots: ``T`` of the criterion.
        params: Threshold or criterion, and the most.
    """
    most = min(params.max_sources, len(eigenvalues) - 1)
    if params.order_threshold is not None:
        n = int((eigenvalues > params.order_threshold * eigenvalues.max()).sum())
    else:
        n = int(model_order(eigenvalue_summary(eigenvalues, n_snapshots), params.criterion))
    return max(1, min(n, most))


def outside_training(card: Card, n_sources: int, n_snapshots: int, snr_db: npt.NDArray[np.float64]) -> list[str]:
    """Why the weights were not made for such data; empty where they were."""
    reasons = []
    low, high = card.n_sources
    if not low <= n_sources <= high:
        reasons.append(f"{n_sources} sources, trained for {low} to {high}")
    fewest, most = card.n_snapshots
    if not fewest <= n_snapshots <= most:
        told = f"{fewest} to {most}" if fewest < most else str(fewest)
        reasons.append(f"{n_snapshots} snapshots, trained for {told}")
    weakest, strongest = card.snr_db
    beyond = [s for s in snr_db.tolist() if not weakest - SNR_SLACK_DB <= s <= strongest + SNR_SLACK_DB]
    if beyond:
        reasons.append(f"a source {beyond[0]:.0f} dB over noise, trained for {weakest:g} to {strongest:g}")
    return reasons
