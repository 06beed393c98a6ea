"""MUSIC of planar arrays: azimuth and elevation, and a range for each direction."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Meta
from scipy.ndimage import maximum_filter

from blocks.subspace.joint_likelihood import refine_jointly
from blocks.subspace.maximum_likelihood import Moments
from blocks.subspace.null_descent import Box, Model, descend_nulls
from blocks.subspace.range_music import range_grid
from blocks.subspace.search_nulls import CANDIDATE_PROJECTION, DISTINCT_STEPS, FOUND_DEPTH, RESOLVED_DEPTH
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from blocks.subspace.spectrum import signal_projection
from blocks.subspace.steering_rows import Coordinate
from hil.array import ArrayGeometry, fresnel_distance
from hil.block import Block, Out, Result
from hil.errors import EstimationError, ParamError
from hil.params import Hz, Metres, Params
from hil.streams import ESTIMATES, IQ, port_of
from hil.wavefront import path_difference, wavelength_m

F64 = npt.NDArray[np.float64]

#: Largest dictionary, bytes: beyond it the search would page.
MOST_BYTES = 1 << 30


class PlanarEstimate(NamedTuple):
    """What was found, deepest null first; never more than asked, never filled up.

    Attributes:
        azimuth_rad: ``[source]``.
        elevation_rad: ``[source]``.
        inverse_range_per_m: ``[source]`` 1/m; 0 is a plane wave.
        depth: MUSIC cost at the source, 0 .. 1, ``[source]``.
        resolved: The null is deep, and the descent converged inside the searched ranges, ``[source]``.
    """

    azimuth_rad: F64
    elevation_rad: F64
    inverse_range_per_m: F64
    depth: F64
    resolved: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanarGrid:
    """Grid uniform in the sines ``u`` (along x) and ``v`` (along z) and in inverse range, with its dictionary.

    Attributes:
        model: Array and wavefront.
        u: ``[u]``.
        v: ``[v]``.
        inverse_range_per_m: ``[range]``.
        visible: ``[v, u]``, inside the unit circle.
        conjugate: ``a^H / |a|`` of the visible points, ``[point * range, sensor]`` complex64, Fortran order.
    """

    model: Model
    u: F64
    v: F64
    inverse_range_per_m: F64
    visible: npt.NDArray[np.bool_]
    conjugate: npt.NDArray[np.complex64]

    @property
    def box(self) -> Box:
        k = self.inverse_range_per_m
        k_step = float(k[1] - k[0]) if len(k) > 1 else 1.0
        k_high = float(k[-1]) + (k_step / 2 if len(k) > 1 else 0.0)
        step = np.array([self.u[1] - self.u[0], self.v[1] - self.v[0], k_step])
        return Box(np.array([-np.pi / 2, -np.pi / 2, 0.0]), np.array([np.pi / 2, np.pi / 2, k_high]), step)

    @property
    def free(self) -> tuple[Coordinate, ...]:
        ranged = len(self.inverse_range_per_m) > 1
        return ("azimuth", "elevation", "inverse_range") if ranged else ("azimuth", "elevation")


def planar_grid(
    array: ArrayGeometry,
    wavelength_m: float,
    *,
    range_min_m: float | None = None,
    far_field_only: bool = False,
    amplitude: bool = False,
) -> PlanarGrid:
    """Half a beam in each sine, 2 rad of curvature; the last 4 are kept.

    Args:
        array: In the x-z plane, with an extent along both axes.
        wavelength_m: Metres.
        range_min_m: Nearest range; absent: the Fresnel distance.
        far_field_only: Plane waves alone.
        amplitude: Whether near elements receive more than far ones.
    """
    return _planar_grid(array, float(wavelength_m), range_min_m, far_field_only, amplitude)


@lru_cache(maxsize=4)
def _planar_grid(
    array: ArrayGeometry, wavelength_m: float, range_min_m: float | None, far_field_only: bool, amplitude: bool
) -> PlanarGrid:
    position, aperture = array.channel_position_m, array.aperture_m
    extent = np.ptp(position, axis=0)
    if extent[1] > 1e-6 * aperture or min(extent[0], extent[2]) < wavelength_m / 4:
        raise ParamError(
            f"planar_grid: expected an array in the x-z plane with an extent along both axes, got extents {extent} m; "
            "a line sees no elevation: use near_field_music or far_field_music"
        )
    u, v = (np.linspace(-1, 1, int(np.ceil(4 * extent[axis] / wavelength_m)) + 1) for axis in (0, 2))
    nearest = range_min_m if range_min_m is not None else fresnel_distance(aperture, wavelength_m)
    k = np.zeros(1) if far_field_only else range_grid(aperture, wavelength_m, nearest)
    visible = v[:, None] ** 2 + u**2 < 1
    n_points = int(visible.sum()) * len(k)
    if n_points * len(position) * 8 > MOST_BYTES:
        raise ParamError(
            f"planar_grid: a dictionary of {n_points} points and {len(position)} sensors needs more than "
            f"{MOST_BYTES >> 30} GiB; raise range_min_m, or search plane waves and take ranges by range_music"
        )
    at_v, at_u = np.nonzero(visible)
    direction = np.stack([u[at_u], np.sqrt(1 - u[at_u] ** 2 - v[at_v] ** 2), v[at_v]], axis=-1)
    conjugate = np.empty((n_points, len(position)), dtype=np.complex64, order="F")
    for i, inverse_range in enumerate(k):
        path, gain = path_difference(position, direction, np.full(len(direction), inverse_range))
        layer = np.exp(2j * np.pi / wavelength_m * path) * (gain if amplitude else 1)
        conjugate[i :: len(k)] = layer / np.linalg.norm(layer, axis=-1, keepdims=True)
    return PlanarGrid(
        model=Model(position, wavelength_m, amplitude),
        u=u,
        v=v,
        inverse_range_per_m=k,
        visible=visible,
        conjugate=conjugate,
    )


def planar_music(signal: npt.NDArray[np.complexfloating[Any, Any]], grid: PlanarGrid) -> PlanarEstimate:
    """Directions and ranges of the sources in a signal subspace ``[sensor, source]``, off the grid.

    Every (direction, range) that is a local maximum of the projection is descended in all coordinates at once, so each
    direction gets its range, and two sources in one direction get two. Exact spherical wavefront; sources in front of
    the array (an array in a plane does not tell front from back). [IRS] decouples the two searches instead, which
    costs the aperture that its smoothing takes.
    """
    n_sources = signal.shape[1]
    if signal.shape[0] != grid.conjugate.shape[1] or not 1 <= n_sources < signal.shape[0]:
        raise ParamError(f"planar_music: subspace {list(signal.shape)}, grid of {grid.conjugate.shape[1]} sensors")
    k = grid.inverse_range_per_m
    cube = np.zeros((*grid.visible.shape, len(k)), dtype=np.float32)
    cube[grid.visible] = signal_projection(grid.conjugate, signal.astype(np.complex64, copy=False)).reshape(-1, len(k))
    if not np.isfinite(cube).all():
        raise EstimationError("planar_music: the signal subspace is not finite")
    peaks = np.flatnonzero((cube >= maximum_filter(cube, size=3, mode="nearest")) & (cube > CANDIDATE_PROJECTION))
    peaks = peaks[np.argsort(-cube.ravel()[peaks])][: 2 * n_sources + 2]
    at_v, at_u, at_k = np.unravel_index(peaks, cube.shape)
    elevation = np.arcsin(grid.v[at_v])
    azimuth = np.arcsin(np.clip(grid.u[at_u] / np.cos(elevation), -1, 1))
    start = np.stack([azimuth, elevation, k[at_k]], axis=-1)
    exact = signal.astype(np.complex128, copy=False)
    found = _distinct(exact, grid, start[:n_sources], n_sources)
    if len(start) > n_sources and not (len(found.depth) == n_sources and found.resolved.all()):
        # a side lobe of a strong source may be higher on the grid than a source that lies between its points
        found = _distinct(exact, grid, start, n_sources)
    return found


def _distinct(signal: npt.NDArray[np.complex128], grid: PlanarGrid, start: F64, n_sources: int) -> PlanarEstimate:
    if len(start) == 0:
        nothing = np.zeros(0)
        return PlanarEstimate(nothing, nothing, nothing, nothing, np.zeros(0, dtype=bool))
    box = grid.box
    ended = descend_nulls(signal, grid.model, start, box, grid.free, tolerance=1e-3)
    az, el, k = np.moveaxis(ended.point, -1, 0)
    sines = np.stack([np.sin(az) * np.cos(el), np.sin(el), k], axis=-1)  # azimuth itself means little near the poles
    kept: list[int] = []
    for i in np.argsort(ended.depth).tolist():
        if ended.depth[i] > FOUND_DEPTH or len(kept) == n_sources:
            break
        if (np.abs(sines[kept] - sines[i]) / box.step > DISTINCT_STEPS).any(axis=-1).all():
            kept.append(i)
    depth = ended.depth[kept]
    inside = (k[kept] < box.high[2]) | (len(grid.inverse_range_per_m) == 1)
    resolved = (depth < RESOLVED_DEPTH) & ended.converged[kept] & inside
    return PlanarEstimate(az[kept], el[kept], k[kept], depth, resolved)


class PlanarMusicParams(Params, frozen=True):
    n_sources: Annotated[int, Meta(ge=1, le=64, description="Sources to look for")] = 1
    range_min_m: Annotated[Metres | None, Meta(description="Nearest range; absent: the Fresnel distance")] = None
    far_field_only: Annotated[bool, Meta(description="Plane waves alone: no ranges")] = False
    amplitude: Annotated[bool, Meta(description="Near elements receive more than far ones")] = True
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None
    polish: Annotated[bool, Meta(description="End with a joint maximum-likelihood fit")] = True


class PlanarMusic(Block):
    """Azimuth, elevation and range of each source from each frame of samples of a planar array."""

    params: PlanarMusicParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"estimates": port_of(ESTIMATES)}

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        grid = self._grid(len(iq))
        exact = iq.astype(np.complex128)
        most = min(exact.shape[0] - 1, exact.shape[1])
        if self.params.n_sources > most:
            raise EstimationError(
                f"{self.name}: {self.params.n_sources} sources asked of {exact.shape[0]} sensors and "
                f"{exact.shape[1]} snapshots, which tell at most {most} apart"
            )
        found = planar_music(signal_subspace_from_samples(exact, self.params.n_sources), grid)
        kept = found.resolved
        n_found = int(kept.sum())
        meta = {"n_requested": self.params.n_sources, "n_unresolved": self.params.n_sources - n_found}
        point = np.stack([found.azimuth_rad, found.elevation_rad, found.inverse_range_per_m], axis=-1)[kept]
        covariance, power = np.zeros((n_found, 3, 3)), np.zeros(n_found)
        if n_found:
            n_iterations = 15 if self.params.polish else 0
            fit = refine_jointly(
                Moments.of_samples(exact), grid.model, point, grid.box, grid.free, max_iterations=n_iterations
            )
            point = fit.point
            n_free = len(grid.free)
            covariance[:, :n_free, :n_free] = fit.covariance
            # at least what could be told from noise
            least = fit.noise_power / (exact.shape[0] * np.sqrt(exact.shape[1]))
            power = np.maximum(np.diagonal(fit.source_covariance).real, least)
        with np.errstate(divide="ignore"):
            range_m = 1 / point[:, 2]
        arrays = {
            "azimuth_rad": point[:, 0],
            "elevation_rad": point[:, 1],
            "range_m": range_m,
            "polar_covariance": covariance,
            "power_db": 10 * np.log10(power),
        }
        return Out(arrays, {"meta": meta})

    def _grid(self, n_sensors: int) -> PlanarGrid:
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        if len(self.array.channel_map) != n_sensors:
            raise EstimationError(
                f"{self.name}: array {self.array.array_id!r} has {len(self.array.channel_map)} channels, "
                f"the data {n_sensors}"
            )
        frequency_hz = self.header.frequency_hz or self.params.frequency_hz
        if frequency_hz is None:
            raise EstimationError(f"{self.name}: frames carry no centre frequency; set the parameter frequency_hz")
        return planar_grid(
            self.array,
            wavelength_m(frequency_hz),
            range_min_m=self.params.range_min_m,
            far_field_only=self.params.far_field_only,
            amplitude=self.params.amplitude,
        )
