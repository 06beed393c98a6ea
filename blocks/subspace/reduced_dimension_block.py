"""The block ReducedDimensionMusic: angle, then range, from the anti-diagonal of the covariance."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.subspace.anti_diagonal import reduced_dimension_music
from blocks.subspace.block_input import (
    carrier_wavelength_m,
    check_finite,
    check_separable,
    described_array,
    estimate_arrays,
)
from blocks.subspace.far_field_music import far_field_dictionary, far_field_music
from blocks.subspace.joint_likelihood import powers_at
from blocks.subspace.moments import Moments
from blocks.subspace.null_descent import Model
from blocks.subspace.range_music import range_grid
from blocks.subspace.search_nulls import RESOLVED_DEPTH
from blocks.subspace.toeplitz import uniform_spacing
from hil.array import ArrayGeometry, fresnel_distance
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.params import Hz, Metres, Params
from hil.streams import COVARIANCE, ESTIMATES, port_of

F64 = npt.NDArray[np.float64]


class ReducedDimensionMusicParams(Params, frozen=True):
    n_sources: Annotated[int, Meta(ge=1, le=64, description="Sources to look for")] = 1
    n_coarse: Annotated[
        int, Meta(ge=0, description="Elements in the middle that give coarse azimuths; 0: as many as see plane waves")
    ] = 0
    n_subvectors: Annotated[int, Meta(ge=0, description="Subvectors of the anti-diagonal; 0: half the sensors")] = 0
    range_min_m: Annotated[Metres | None, Meta(description="Nearest range; absent: the Fresnel distance")] = None
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None


class ReducedDimensionMusic(Block):
    """[HI] Section IV-C on covariances of a calibrated uniform line (:mod:`blocks.subspace.anti_diagonal`).

    Two searches in one dimension instead of one in two. Coarse azimuths, which tell the aliases of the virtual array
    apart, come from far-field MUSIC on the middle of the line, as many elements as see sources from ``range_min_m`` on
    as plane waves to within a beam. It uses N of the N^2 entries of the covariance and is biased by the cubic term of
    the wavefront: estimates come without a covariance; :class:`blocks.subspace.refine_block.RefineEstimates` behind it
    takes them to the bound and says where that is. Left out and counted in ``meta`` as ``n_unresolved``: sources whose
    coarse azimuth is not resolved, that left the window round it, or whose range has no null.
    """

    params: ReducedDimensionMusicParams
    inputs = {"covariance": port_of(COVARIANCE)}
    outputs = {"estimates": port_of(ESTIMATES)}

    def process(self, arrays: dict[str, Any]) -> Result:
        covariance, n_snapshots = arrays["covariance"], int(arrays["n_snapshots"])
        n, n_sources = len(covariance), self.params.n_sources
        array = described_array(self, n)
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        spacing = uniform_spacing(array.channel_position_m)
        check_finite(self, covariance=covariance)
        check_separable(self, n_sources, n, n_snapshots)
        given = self.params.range_min_m
        nearest = given if given is not None else fresnel_distance(array.aperture_m, wavelength)
        n_coarse = self.params.n_coarse or self._plane_elements(n, spacing, wavelength, nearest)
        if not n_sources < n_coarse <= n:
            raise EstimationError(
                f"{self.name}: {n_coarse} elements in the middle for {n_sources} sources; expected more than sources "
                f"and at most {n}: raise range_min_m ({nearest:.4g} m) or set n_coarse"
            )
        model = Model(array.channel_position_m, wavelength, False)
        azimuth = self._coarse_azimuth(covariance, n_snapshots, n_coarse, spacing, wavelength)
        meta = {"n_requested": n_sources, "n_unresolved": n_sources}
        if len(azimuth) == 0:
            return Out(estimate_arrays(np.zeros((0, 3)), np.zeros(0), None), {"meta": meta})
        found = reduced_dimension_music(
            covariance,
            model,
            azimuth,
            wavelength / (n_coarse * spacing),  # a beam of the middle
            range_grid(array.aperture_m, wavelength, nearest),
            n_sources=n_sources,
            n_subvectors=self.params.n_subvectors or None,
        )
        kept = found.in_window & (found.range_depth < RESOLVED_DEPTH)
        meta["n_unresolved"] = n_sources - int(kept.sum())
        point = np.zeros((int(kept.sum()), 3))
        point[:, 0], point[:, 2] = found.azimuth_rad[kept], found.inverse_range_per_m[kept]
        power, _ = powers_at(Moments.of_covariance(covariance, n_snapshots), model, point, ("azimuth", "inverse_range"))
        return Out(estimate_arrays(point, power, None), {"meta": meta})

    @staticmethod
    def _plane_elements(n: int, spacing: float, wavelength: float, nearest: float) -> int:
        """Elements whose edge sees 1 rad of curvature from the nearest range: a beam wide, whose middle is right."""
        aperture = np.sqrt(4 * wavelength * nearest / np.pi)
        return min(n, int(aperture / spacing) + 1)

    def _coarse_azimuth(
        self, covariance: npt.NDArray[np.complex128], n_snapshots: int, n_coarse: int, spacing: float, wavelength: float
    ) -> F64:
        first = (len(covariance) - n_coarse) // 2
        middle = covariance[first : first + n_coarse, first : first + n_coarse]
        dictionary = far_field_dictionary(ArrayGeometry.ula(n_coarse, spacing), wavelength)
        found = far_field_music(middle, dictionary, self.params.n_sources, n_snapshots, polish=False)
        return found.azimuth_rad[found.resolved]
