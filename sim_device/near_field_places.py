"""Training and test data for localization by networks: sources at random places, through the device's own physics.

Places are drawn from continuous distributions, so none lies on a search grid and no two splits share one; each batch
has a generator of its own, keyed by seed, split and number, so that a batch is the same whenever it is asked for.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.array import fraunhofer_distance, fresnel_distance
from hil.array_params import Array, Ula, build_array
from hil.params import Count, Hz, Params, Seed, convert_params
from hil.wavefront import direction_vector, steering_vector, wavelength_m
from sim_device.displacement import displacement_m

F64 = npt.NDArray[np.float64]

Bounds = tuple[float, float]


class Split(IntEnum):
    """What data are for. The numbers are part of what a seed means: never reuse one."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class NearFieldPlacesParams(Params, frozen=True):
    """What is drawn. The defaults are [NF] Section IV-A1."""

    array: Array = Ula(n=15)
    frequency_hz: Hz = 300e6
    n_snapshots: Annotated[Count, Meta(description="the same in all of a batch")] = 100
    n_snapshots_most: Annotated[
        Count | None, Meta(description="present: from n_snapshots to this, uniformly in the logarithm, each batch")
    ] = None
    n_sources: Annotated[tuple[Count, Count], Meta(description="fewest and most, drawn uniformly")] = (2, 2)
    coherent: Annotated[bool, Meta(description="all sources send the same waveform")] = False
    coherent_share: Annotated[
        float, Meta(ge=0, le=1, description="of the examples, where coherent is set; the others are not coherent")
    ] = 1.0
    random_phase: Annotated[bool, Meta(description="coherent sources arrive with phases of their own")] = False
    snr_db: Annotated[Bounds, Meta(description="power of each source over noise at one sensor, drawn uniformly")] = (
        10.0,
        10.0,
    )
    azimuth_limit_rad: Annotated[float, Meta(gt=0, lt=1.5707963)] = np.pi / 3
    elevation_limit_rad: Annotated[
        float, Meta(ge=0, lt=1.5707963, description="uniform within plus and minus this; 0: all in the x-y plane")
    ] = 0.0
    range_m: Annotated[
        Bounds | None, Meta(description="nearest and farthest; absent: Fresnel to half the Fraunhofer distance")
    ] = None
    separation_rad: Annotated[float, Meta(ge=0, le=0.5, description="least difference of two azimuths")] = 0.0
    model: Annotated[
        Literal["exact", "fresnel"], Meta(description="wavefront: the truth, or [NF] Eq. (3) about the centre")
    ] = "exact"
    amplitude: Annotated[bool, Meta(description="near elements receive more, [NF] Eq. (4)")] = True
    position_error: Annotated[
        float, Meta(ge=0, le=10, description="elements are off by up to this along the line, wavelengths")
    ] = 0.0
    position_error_of: Annotated[
        Literal["array", "example"], Meta(description="drawn anew for each example, or one array for all of them")
    ] = "example"
    position_error_seed: Annotated[
        Seed | None, Meta(description="which array, where it is one; absent: the data's seed")
    ] = None

    def __post_init__(self) -> None:
        if not 1 <= self.n_sources[0] <= self.n_sources[1]:
            raise ValueError(f"n_sources: expected fewest <= most, got {self.n_sources}")
        if self.n_snapshots_most is not None and self.n_snapshots_most < self.n_snapshots:
            raise ValueError(f"n_snapshots_most: expected at least {self.n_snapshots}, got {self.n_snapshots_most}")
        if self.n_sources[1] * self.separation_rad > 2 * self.azimuth_limit_rad:
            raise ValueError(f"{self.n_sources[1]} sources do not fit {self.separation_rad} rad apart")


class NearFieldPlaces:
    """Batches of samples with the places that they come from.

    Args:
        params: What is drawn.
        seed: Of all of it.
        split: What it is for.
    """

    def __init__(self, params: dict[str, Any] | NearFieldPlacesParams, seed: Seed, split: Split | str) -> None:
        self.params = (
            params
            if isinstance(params, NearFieldPlacesParams)
            else convert_params(NearFieldPlacesParams, params, "near-field places")
        )
        self.seed = seed
        self.split = Split[split.upper()] if isinstance(split, str) else split
        p = self.params
        self.array = build_array(p.array, 1, p.frequency_hz)
        self.wavelength_m = wavelength_m(p.frequency_hz)
        aperture = self.array.aperture_m
        self.range_m = p.range_m or (
            fresnel_distance(aperture, self.wavelength_m),
            fraunhofer_distance(aperture, self.wavelength_m) / 2,
        )

    def batch(self, number: int, n: int) -> dict[str, npt.NDArray[Any]]:
        """Return batch ``number`` of ``n`` examples.

        Returns:
            ``samples`` complex64 ``[batch, sensor, snapshot]``, noise of power 1; ``azimuth_rad``, ``elevation_rad``
            and ``range_m`` ``[batch, source]``, NaN behind the sources that are there; ``n_sources`` and ``snr_db``
            ``[batch]``.
        """
        p = self.params
        key = np.random.SeedSequence(self.seed, spawn_key=(int(self.split), number))
        draw = np.random.Generator(np.random.SFC64(key))
        most = p.n_sources[1]
        n_sources = draw.integers(p.n_sources[0], most, size=n, endpoint=True)
        present = np.arange(most) < n_sources[:, None]
        azimuth = self._azimuths(draw, n, most)
        elevation = np.zeros((n, most))
        if p.elevation_limit_rad:  # what is drawn for a plane must not move: shipped cards name such data
            elevation = draw.uniform(-p.elevation_limit_rad, p.elevation_limit_rad, size=(n, most))
        ranges = draw.uniform(*self.range_m, size=(n, most))
        snr_db = draw.uniform(*p.snr_db, size=n)
        channel = self._channel(draw, direction_vector(azimuth, elevation) * ranges[..., None])
        n_snapshots = p.n_snapshots
        if p.n_snapshots_most is not None:
            n_snapshots = round(np.exp(draw.uniform(np.log(n_snapshots), np.log(p.n_snapshots_most))))
        waveform = _gaussian(draw, (n, most, n_snapshots))
        if p.coherent:
            same = np.repeat(waveform[:, :1], most, axis=1)
            if p.random_phase:
                same *= np.exp(2j * np.pi * draw.uniform(size=(n, most, 1)))
            # what is drawn for whole shares must not move: shipped cards name such data
            coherent = draw.uniform(size=n) < p.coherent_share if p.coherent_share < 1 else np.ones(n, bool)
            waveform = np.where(coherent[:, None, None], same, waveform)
        weight = np.where(present, 10 ** (snr_db[:, None] / 20), 0.0)
        noise = _gaussian(draw, (n, self.array.n_elements, n_snapshots))
        samples = (channel * weight[:, None, :]) @ waveform + noise
        return {
            "samples": samples.astype(np.complex64),
            "azimuth_rad": np.where(present, azimuth, np.nan),
            "elevation_rad": np.where(present, elevation, np.nan),
            "range_m": np.where(present, ranges, np.nan),
            "n_sources": n_sources.astype(np.int64),
            "snr_db": snr_db,
        }

    def _azimuths(self, draw: np.random.Generator, n: int, most: int) -> F64:
        """Uniform given that no two are closer than the separation, ``[batch, source]``."""
        p = self.params
        # order statistics of shrunken intervals, spread by the separation, in random order
        free = 2 * p.azimuth_limit_rad - (most - 1) * p.separation_rad
        spread = np.sort(draw.uniform(0, free, size=(n, most)), axis=1) + p.separation_rad * np.arange(most)
        return draw.permuted(spread, axis=1) - p.azimuth_limit_rad

    def _channel(self, draw: np.random.Generator, source_m: F64) -> npt.NDArray[np.complex128]:
        """``[batch, sensor, source]`` of ``[batch, source, xyz]``."""
        p = self.params
        element_m = self.array.channel_position_m
        if p.position_error:
            step_m = p.position_error * self.wavelength_m
            if p.position_error_of == "example":
                moved = np.repeat(element_m[None], len(source_m), axis=0)
                moved[..., 0] += draw.uniform(-1, 1, size=moved.shape[:2]) * step_m
                each = [self._steering(e, s) for e, s in zip(moved, source_m, strict=True)]
                return np.swapaxes(np.stack(each), -1, -2)
            # of the array: from a seed alone, so that all splits and batches meet the same one
            seed = self.seed if p.position_error_seed is None else p.position_error_seed
            element_m = element_m + displacement_m(len(element_m), step_m, seed)
        return np.swapaxes(self._steering(element_m, source_m), -1, -2)

    def _steering(self, element_m: F64, source_m: F64) -> npt.NDArray[np.complex128]:
        p = self.params
        return steering_vector(element_m, source_m, self.wavelength_m, model=p.model, amplitude=p.amplitude)


def _gaussian(draw: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.complex128]:
    """Circular, of power 1."""
    parts = draw.standard_normal((*shape, 2))
    return parts.view(np.complex128)[..., 0] * np.sqrt(0.5)
