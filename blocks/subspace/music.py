"""The MUSIC blocks: near and far field, from samples or from covariances."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Grid
from blocks.subspace.music_block import MusicBlock, MusicParams, NearFieldMusicParams
from hil.block import Result
from hil.streams import COVARIANCE, ESTIMATES, IQ, SPECTRUM, port_of

_OUTPUTS = {"estimates": port_of(ESTIMATES), "spectrum": port_of(SPECTRUM)}


class NearFieldMusic(MusicBlock):
    """Azimuth and range of each source from each frame of samples (:mod:`blocks.subspace.near_field_music`).

    Takes the array from the descriptor and the carrier from the header. Sources beyond the array's reach come out
    with a large or infinite range. With fewer snapshots than sensors it works on the smaller Gram matrix.
    """

    params: NearFieldMusicParams
    inputs = {"iq": port_of(IQ)}
    outputs = _OUTPUTS

    @property
    def amplitude(self) -> bool:
        return self.params.amplitude

    def grid(self, wavelength: float) -> Grid:
        assert self.array is not None
        return Grid.coarse(
            self.array,
            wavelength,
            range_min_m=self.params.range_min_m,
            azimuth_limit_rad=self.params.azimuth_limit_rad,
            elevation_rad=self.params.elevation_rad,
        )

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        return self.from_samples(iq)


class NearFieldMusicFromCovariance(NearFieldMusic):
    """As :class:`NearFieldMusic`, from covariances: averaged, or of a network."""

    inputs = {"covariance": port_of(COVARIANCE)}

    def process(self, arrays: dict[str, Any]) -> Result:  # type: ignore[override]
        return self.from_covariance(arrays)


class FarFieldMusic(MusicBlock):
    """Azimuth of each plane wave in each frame of samples (:mod:`blocks.subspace.far_field_music`)."""

    params: MusicParams
    inputs = {"iq": port_of(IQ)}
    outputs = _OUTPUTS

    def grid(self, wavelength: float) -> Grid:
        assert self.array is not None
        return Grid.coarse(
            self.array,
            wavelength,
            azimuth_limit_rad=self.params.azimuth_limit_rad,
            elevation_rad=self.params.elevation_rad,
            far_field_only=True,
        )

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        return self.from_samples(iq)


class FarFieldMusicFromCovariance(FarFieldMusic):
    """As :class:`FarFieldMusic`, from covariances: forward-backward averaged, for example."""

    inputs = {"covariance": port_of(COVARIANCE)}

    def process(self, arrays: dict[str, Any]) -> Result:  # type: ignore[override]
        return self.from_covariance(arrays)
