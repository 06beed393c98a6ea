"""The blocks RootMusic and Esprit: directions of plane waves on a uniform line, without a grid."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.subspace.block_input import (
    carrier_wavelength_m,
    check_finite,
    check_separable,
    described_array,
    estimate_arrays,
)
from blocks.subspace.esprit import esprit, esprit_variance, unitary_esprit
from blocks.subspace.forward_backward import forward_backward
from blocks.subspace.joint_likelihood import powers_at
from blocks.subspace.line_direction import LinePhases, directions_of_phase
from blocks.subspace.model_order import Criterion, model_order
from blocks.subspace.moments import Moments
from blocks.subspace.null_descent import Model
from blocks.subspace.root_music import root_music
from blocks.subspace.search_nulls import RESOLVED_DEPTH
from blocks.subspace.signal_subspace import leading_eigenpairs, signal_subspace
from blocks.subspace.toeplitz import uniform_spacing
from hil.block import Block, Out, Result
from hil.params import Hz, Params
from hil.streams import COVARIANCE, ESTIMATES, port_of

C128 = npt.NDArray[np.complex128]
Complex = npt.NDArray[np.complexfloating[Any, Any]]
F64 = npt.NDArray[np.float64]


class LineParams(Params, frozen=True):
    n_sources: Annotated[int, Meta(ge=0, le=64, description="Sources to look for; 0: as the criterion says")] = 0
    criterion: Annotated[Criterion, Meta(description="Model order: mdl is consistent, aic finds weaker ones")] = "mdl"
    max_sources: Annotated[int, Meta(ge=1, le=64, description="Most that the criterion may say")] = 8
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None


class EspritParams(LineParams, frozen=True):
    method: Annotated[
        Literal["ls", "tls", "unitary"], Meta(description="unitary: forward-backward, separates two coherent waves")
    ] = "tls"


class LineBlock(Block):
    """Base: covariances of a uniform line, spacing up to half a wavelength, to azimuths of plane waves.

    What no direction gives, or the signal subspace does not hold, is left out and counted in ``meta`` as
    ``n_unresolved``, as in :class:`blocks.subspace.music.FarFieldMusic`.
    """

    params: LineParams
    #: Its errors are at the Cramer-Rao bound, and are given as such.
    efficient: ClassVar[bool] = False
    inputs = {"covariance": port_of(COVARIANCE)}

    def phases(self, covariance: C128, signal: Complex) -> LinePhases:
        """Phases between neighbours of the sources in ``signal [sensor, source]``."""
        raise NotImplementedError

    def decorrelated(self, covariance: C128) -> C128:
        """The covariance whose signal subspace the method works on."""
        return covariance

    def phase_variance(self, covariance: C128, n_sources: int, n_snapshots: int) -> F64 | None:
        """Variance of each of :meth:`phases`, where the method has its own; the base has none."""
        return None

    def process(self, arrays: dict[str, Any]) -> Result:
        covariance, n_snapshots = arrays["covariance"], int(arrays["n_snapshots"])
        array = described_array(self, len(covariance))
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        spacing = uniform_spacing(array.channel_position_m)
        check_finite(self, covariance=covariance)
        used = self.decorrelated(covariance)
        n_sources = self._order(used, n_snapshots)
        meta = {"n_requested": n_sources, "n_unresolved": 0}
        if n_sources == 0:
            return Out(estimate_arrays(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3, 3))), {"meta": meta})
        signal = signal_subspace(used, n_sources)
        phase = self.phases(used, signal).phase_rad
        found = directions_of_phase(phase, spacing, wavelength)
        a = np.exp(1j * phase * np.arange(len(covariance))[:, None])
        depth = 1 - (np.abs(signal.conj().T @ a) ** 2).sum(axis=0) / len(covariance)
        kept = found.visible & (depth < RESOLVED_DEPTH)
        meta["n_unresolved"] = n_sources - int(kept.sum())
        point = np.zeros((int(kept.sum()), 3))
        point[:, 0] = found.azimuth_rad[kept]
        model = Model(array.channel_position_m, wavelength, False)
        power, bound = powers_at(Moments.of_covariance(covariance, n_snapshots), model, point, ("azimuth",))
        variance = bound[:, 0, 0] if self.efficient else None
        of_phase = self.phase_variance(used, n_sources, n_snapshots)
        if of_phase is not None:
            slope = wavelength / (2 * np.pi * spacing * np.maximum(np.cos(point[:, 0]), 1e-6))
            variance = of_phase[kept] * slope**2
        claimed = None
        if variance is not None:
            claimed = np.zeros((len(point), 3, 3))
            claimed[:, 0, 0] = variance
        return Out(estimate_arrays(point, power, claimed), {"meta": meta})

    def _order(self, covariance: C128, n_snapshots: int) -> int:
        check_separable(self, self.params.n_sources, len(covariance), n_snapshots)
        if self.params.n_sources:
            return self.params.n_sources
        n_leading = min(self.params.max_sources, len(covariance) - 1, n_snapshots)
        return int(model_order(leading_eigenpairs(covariance, n_leading, n_snapshots).summary, self.params.criterion))


class RootMusic(LineBlock):
    """:func:`blocks.subspace.root_music.root_music` of each covariance.

    The covariance of its errors is the Cramer-Rao bound, which it reaches within a tenth for uncorrelated sources.
    """

    params: LineParams
    efficient = True
    outputs = {"estimates": port_of(ESTIMATES)}

    def phases(self, covariance: C128, signal: Complex) -> LinePhases:
        return root_music(signal)


class Esprit(LineBlock):
    """ESPRIT of each covariance (:mod:`blocks.subspace.esprit`): least squares, total least squares, unitary.

    The covariance of its errors is that of first-order perturbation; ``unitary`` gives none, as it depends on how
    coherent the sources are: put :class:`blocks.subspace.refine_block.RefineEstimates` behind it.
    """

    params: EspritParams
    outputs = {"estimates": port_of(ESTIMATES)}

    def decorrelated(self, covariance: C128) -> C128:
        averaged: C128 = forward_backward(covariance) if self.params.method == "unitary" else covariance
        return averaged

    def phases(self, covariance: C128, signal: Complex) -> LinePhases:
        if self.params.method == "unitary":
            return unitary_esprit(covariance, signal.shape[1])
        return esprit(signal, self.params.method)

    def phase_variance(self, covariance: C128, n_sources: int, n_snapshots: int) -> F64 | None:
        return None if self.params.method == "unitary" else esprit_variance(covariance, n_sources, n_snapshots)
