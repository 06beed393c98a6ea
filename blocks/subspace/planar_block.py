"""The planar MUSIC blocks: azimuth, elevation and range of each source, from samples or from covariances."""

from typing import Annotated, Any

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
from blocks.subspace.joint_likelihood import refine_jointly, source_power
from blocks.subspace.line_direction import MOST_SPACING
from blocks.subspace.model_order import Criterion, model_order
from blocks.subspace.moments import Moments
from blocks.subspace.planar_grid import PlanarSearch, free_coordinates, planar_grid, search_box
from blocks.subspace.planar_music import planar_music
from blocks.subspace.rectangle_grid import rectangle_grid
from blocks.subspace.signal_subspace import (
    Leading,
    leading_eigenpairs,
    leading_from_samples,
    signal_subspace,
    signal_subspace_from_samples,
)
from blocks.subspace.uniform_rectangle import uniform_rectangle
from hil.array import ArrayGeometry
from hil.block import Block, Out, Result
from hil.errors import ParamError
from hil.params import Hz, Metres, Params
from hil.streams import COVARIANCE, ESTIMATES, IQ, port_of

Complex = npt.NDArray[np.complexfloating[Any, Any]]


class PlanarMusicParams(Params, frozen=True):
    n_sources: Annotated[int, Meta(ge=0, le=64, description="Sources to look for; 0: as the criterion says")] = 1
    criterion: Annotated[Criterion, Meta(description="Model order: mdl is consistent, aic finds weaker ones")] = "mdl"
    max_sources: Annotated[int, Meta(ge=1, le=64, description="Most that the criterion may say")] = 8
    range_min_m: Annotated[Metres | None, Meta(description="Nearest range; absent: the Fresnel distance")] = None
    far_field_only: Annotated[bool, Meta(description="Plane waves alone: no ranges; by FFT on uniform rectangles")] = (
        False
    )
    amplitude: Annotated[bool, Meta(description="Near elements receive more than far ones")] = True
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None
    polish: Annotated[bool, Meta(description="End with a joint maximum-likelihood fit")] = True


class PlanarMusic(Block):
    """Azimuth, elevation and range of each source from each frame of samples of a planar array.

    Sources that show no null, or ran out of the searched ranges, are left out and counted in ``meta`` as
    ``n_unresolved``.
    """

    params: PlanarMusicParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"estimates": port_of(ESTIMATES)}

    def setup(self) -> None:
        self._built: tuple[ArrayGeometry, float, PlanarSearch] | None = None

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        grid = self._grid(len(iq))
        check_finite(self, samples=iq)
        check_separable(self, self.params.n_sources, *iq.shape)
        exact = iq.astype(np.complex128)
        if self.params.n_sources:
            signal = signal_subspace_from_samples(exact, self.params.n_sources)
        else:
            signal = self._ordered(leading_from_samples(exact, self._most(*iq.shape)))
        return self._estimate(signal, Moments.of_samples(exact), grid)

    def _most(self, n_sensors: int, n_snapshots: int) -> int:
        return min(self.params.max_sources, n_sensors - 1, n_snapshots)

    def _ordered(self, leading: Leading) -> Complex:
        return leading.vectors[:, : int(model_order(leading.summary, self.params.criterion))]

    def _estimate(self, signal: Complex, moments: Moments, grid: PlanarSearch) -> Result:
        n_sources = signal.shape[1]
        nothing = Out(
            estimate_arrays(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3, 3))),
            {"meta": {"n_requested": n_sources, "n_unresolved": n_sources}},
        )
        if n_sources == 0:
            return nothing
        found = planar_music(signal, grid)
        kept = found.resolved
        if not kept.any():
            return nothing
        point = np.stack([found.azimuth_rad, found.elevation_rad, found.inverse_range_per_m], axis=-1)[kept]
        free = free_coordinates(grid)
        fit = refine_jointly(
            moments, grid.model, point, search_box(grid), free, max_iterations=15 if self.params.polish else 0
        )
        covariance = np.zeros((len(point), 3, 3))
        covariance[:, : len(free), : len(free)] = fit.covariance
        meta = {"n_requested": n_sources, "n_unresolved": n_sources - len(point)}
        return Out(estimate_arrays(fit.point, source_power(fit, moments), covariance), {"meta": meta})

    def _grid(self, n_sensors: int) -> PlanarSearch:
        array = described_array(self, n_sensors)
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        if self._built is None or self._built[0] is not array or self._built[1] != wavelength:
            self._built = array, wavelength, self._search(array, wavelength)
        return self._built[2]

    def _search(self, array: ArrayGeometry, wavelength: float) -> PlanarSearch:
        if self.params.far_field_only and _is_dense_rectangle(array, wavelength):
            return rectangle_grid(array, wavelength)
        return planar_grid(
            array,
            wavelength,
            range_min_m=self.params.range_min_m,
            far_field_only=self.params.far_field_only,
            amplitude=self.params.amplitude,
        )


class PlanarMusicFromCovariance(PlanarMusic):
    """As :class:`PlanarMusic`, from covariances: smoothed over subarrays, for example."""

    inputs = {"covariance": port_of(COVARIANCE)}

    def process(self, arrays: dict[str, Any]) -> Result:  # type: ignore[override]
        covariance, n_snapshots = arrays["covariance"], int(arrays["n_snapshots"])
        grid = self._grid(len(covariance))
        check_finite(self, covariance=covariance)
        check_separable(self, self.params.n_sources, len(covariance), n_snapshots)
        if self.params.n_sources:
            signal = signal_subspace(covariance, self.params.n_sources)
        else:
            n_leading = self._most(len(covariance), n_snapshots)
            signal = self._ordered(leading_eigenpairs(covariance, n_leading, n_snapshots))
        return self._estimate(signal, Moments.of_covariance(covariance, n_snapshots), grid)


def _is_dense_rectangle(array: ArrayGeometry, wavelength: float) -> bool:
    try:
        found = uniform_rectangle(array.channel_position_m)
    except ParamError:
        return False
    return max(found.spacing_z_m, found.spacing_x_m) <= MOST_SPACING * wavelength
