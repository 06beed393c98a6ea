"""The block RefineEstimates: maximum likelihood behind any estimator."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.bounds.observable import observable_coordinates
from blocks.subspace.block_input import (
    carrier_wavelength_m,
    check_finite,
    check_separable,
    described_array,
    estimate_arrays,
)
from blocks.subspace.dictionary import Grid
from blocks.subspace.joint_likelihood import refine_jointly, source_power
from blocks.subspace.moments import Moments
from blocks.subspace.null_descent import COORDINATES, Box, Model
from blocks.subspace.separate_close import leaves_noise_alone
from blocks.subspace.steering_rows import steering_rows
from hil.array import ArrayGeometry
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.params import Hz, Metres, Params
from hil.streams import COVARIANCE, ESTIMATES, IQ, port_of

C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]


class RefineParams(Params, frozen=True):
    amplitude: Annotated[bool, Meta(description="Near elements receive more than far ones")] = True
    ranges: Annotated[
        bool, Meta(description="Fit ranges where an estimate has one; else all waves are what they were said to be")
    ] = True
    range_min_m: Annotated[Metres | None, Meta(description="Nearest range; absent: the Fresnel distance")] = None
    max_iterations: Annotated[int, Meta(ge=1, le=100, description="Evaluations at most")] = 15
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None


class RefineEstimates(Block):
    """Estimates and the samples they are of in, jointly fitted estimates with powers and covariance out.

    Angles, ranges and gains of all sources together, on the exact wavefront, from wherever the estimates are
    (:func:`blocks.subspace.joint_likelihood.refine_jointly`): behind root-MUSIC, ESPRIT, reduced-dimension MUSIC or a
    network it gives what the array could give, and says how well. Elevation is fitted for arrays that see it.

    Left out and counted in ``meta`` as ``n_unresolved``: sources that ran to the nearest range. ``meta`` has
    ``converged``, and ``explained``: False where more than white noise is left of the data, because a source is
    missing, one was too far off to be found from there, or the array is not what the descriptor says. Two estimates
    that run into one are an ``EstimationError``: they were one.
    """

    params: RefineParams
    inputs = {"estimates": port_of(ESTIMATES), "iq": port_of(IQ)}
    outputs = {"estimates": port_of(ESTIMATES)}

    def process(self, estimates: dict[str, Any], iq: npt.NDArray[np.complex64]) -> Result:
        check_finite(self, samples=iq)
        return self._refined(estimates, Moments.of_samples(iq.astype(np.complex128)))

    def _refined(self, estimates: dict[str, Any], moments: Moments) -> Result:
        array = described_array(self, moments.n_sensors)
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        azimuth, elevation, range_m = (estimates[name] for name in ("azimuth_rad", "elevation_rad", "range_m"))
        check_finite(self, azimuth_rad=azimuth, elevation_rad=elevation)
        if not (range_m > 0).all():
            raise EstimationError(f"{self.name}: estimates have ranges {range_m} m; expected positive or infinite ones")
        n_sources = len(azimuth)
        if n_sources == 0:
            nothing = estimate_arrays(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3, 3)))
            return Out(nothing, {"meta": {"n_unresolved": 0, "converged": True, "explained": False}})
        check_separable(self, n_sources, moments.n_sensors, int(moments.n_snapshots))
        if not moments.trace > 0:
            raise EstimationError(f"{self.name}: the data have power {moments.trace}; expected a positive one")
        free = observable_coordinates(array, wavelength, range_m if self.params.ranges else np.full(n_sources, np.inf))
        box = self._box(array, wavelength)
        start = np.stack([azimuth, elevation, np.minimum(1 / range_m, box.high[2])], axis=-1)
        model = Model(array.channel_position_m, wavelength, self.params.amplitude)
        fit = refine_jointly(moments, model, start, box, free, max_iterations=self.params.max_iterations)
        kept = (fit.point[:, 2] < box.high[2]) | ("inverse_range" not in free)
        columns = [COORDINATES.index(name) for name in free]
        covariance = np.zeros((n_sources, 3, 3))
        covariance[:, np.array(columns)[:, None], columns] = fit.covariance
        az, el, k = fit.point.T
        a = steering_rows(model.position_m, az, el, k, wavelength, amplitude=model.amplitude, wanted=())[:, 0].T
        meta = {
            "n_unresolved": n_sources - int(kept.sum()),
            "converged": fit.converged,
            "explained": leaves_noise_alone(moments, a),
        }
        return Out(estimate_arrays(fit.point[kept], source_power(fit, moments)[kept], covariance[kept]), {"meta": meta})

    def _box(self, array: ArrayGeometry, wavelength: float) -> Box:
        grid = Grid.coarse(array, wavelength, range_min_m=self.params.range_min_m)
        side = np.pi / 2 if grid.spacing == "sine" else np.inf
        nearest = grid.inverse_range_limits_per_m[1]
        return Box(
            np.array([-side, -np.pi / 2, 0.0]),
            np.array([side, np.pi / 2, nearest]),
            np.array([grid.azimuth_step_rad, grid.azimuth_step_rad, grid.inverse_range_step_per_m]),
        )


class RefineEstimatesFromCovariance(RefineEstimates):
    """As :class:`RefineEstimates`, with the covariance that the estimates are of."""

    inputs = {"estimates": port_of(ESTIMATES), "covariance": port_of(COVARIANCE)}

    def process(self, estimates: dict[str, Any], arrays: dict[str, Any]) -> Result:  # type: ignore[override]
        covariance: C128 = arrays["covariance"]
        check_finite(self, covariance=covariance)
        return self._refined(estimates, Moments.of_covariance(covariance, int(arrays["n_snapshots"])))
