"""Block: directions of a terminal from its channel frequency response."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.cfr.wideband import Directions, Method, SubBands, find_directions, number_of_bands, steering, sub_bands
from blocks.subspace.dictionary import Grid
from hil.array import ArrayGeometry
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.params import Hz, Params, Radians
from hil.streams import CFR, ESTIMATES, SPECTRUM, port_of
from hil.wavefront import wavelength_m

F64 = npt.NDArray[np.float64]

#: The grid is so much finer than the coarsest on which no peak is missed.
_FINER = 3
#: Terminals whose covariances are kept; the one that was silent longest goes first.
_MOST_TERMINALS = 4096


class CfrAngleParams(Params, frozen=True):
    method: Annotated[Method, Meta(description="dbf: beamformed power; music: distance from the signal subspace")] = (
        "dbf"
    )
    n_sources: Annotated[int, Meta(ge=1, le=64, description="Paths of a terminal that are given at most")] = 1
    forgetting: Annotated[
        float, Meta(ge=0, lt=1, description="Weight of a terminal's earlier occasions in its covariance")
    ] = 0.0
    squint_rad: Annotated[
        float, Meta(gt=0, le=1, description="Phase error within a sub-band; smaller: more sub-bands")
    ] = 0.05
    elevation_rad: Annotated[Radians, Meta(description="Elevation of the plane that is searched")] = 0.0
    azimuth_limit_rad: Annotated[Radians | None, Meta(description="Search within plus and minus this azimuth")] = None
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None
    spectrum_every: Annotated[
        int, Meta(ge=0, description="Give a spectrum to look at every so many frames; 0: none")
    ] = 0


class CfrAngle(Block):
    """Azimuths from each CFR, by plane waves with steering vectors of each sub-band; ranges are infinite.

    The terminal's RNTI is the ``id`` of each; what the source said of the frame is handed on in ``meta``. The strongest
    direction is the first.
    """

    params: CfrAngleParams
    inputs = {"cfr": port_of(CFR)}
    outputs = {"estimates": port_of(ESTIMATES), "spectrum": port_of(SPECTRUM)}

    def setup(self) -> None:
        self._n_frames = 0
        self._built: tuple[tuple[Any, ...], Grid, npt.NDArray[np.complex128]] | None = None
        self._average: dict[tuple[int, int], SubBands] = {}
        self._epoch = self.header.epoch

    def process(self, arrays: dict[str, Any]) -> Result:
        array, frequency_hz = self._array(len(arrays["cfr"])), self._frequency_hz()
        p, offset_hz = self.params, arrays["subcarrier_hz"]
        if not len(offset_hz):
            raise EstimationError(f"{self.name}: a channel estimate without subcarriers")
        n_bands = number_of_bands(float(np.ptp(offset_hz)), array.aperture_m, p.squint_rad)
        bands = sub_bands(arrays["cfr"], offset_hz, frequency_hz, min(n_bands, len(offset_hz)))
        rnti = int(arrays["rnti"])
        bands = self._averaged((rnti, int(self.header.meta.get("port", 0))), bands)
        grid, vector = self._grid(array, frequency_hz, bands.frequency_hz)
        try:
            found = find_directions(
                bands,
                array.channel_position_m,
                grid.azimuth_rad,
                p.method,
                p.n_sources,
                elevation_rad=p.elevation_rad,
                wraps=grid.wraps,
                vector=vector,
            )
        except EstimationError as error:
            raise EstimationError(f"{self.name}: terminal {rnti}: {error}") from error
        meta = {"meta": {**self.header.meta, "rnti": rnti}}
        show = p.spectrum_every and self._n_frames % p.spectrum_every == 0
        self._n_frames += 1
        return Out(self._estimates(found, rnti), meta), Out(self._spectrum(found, grid), meta) if show else None

    def _averaged(self, key: tuple[int, int], bands: SubBands) -> SubBands:
        beta = self.params.forgetting
        if beta == 0:
            return bands
        if self.header.epoch != self._epoch:
            self._epoch = self.header.epoch
            self._average.clear()
        before = self._average.pop(key, None)
        if before is not None and np.array_equal(before.frequency_hz, bands.frequency_hz):
            bands = bands._replace(covariance=beta * before.covariance + (1 - beta) * bands.covariance)
        self._average[key] = bands
        if len(self._average) > _MOST_TERMINALS:
            del self._average[next(iter(self._average))]
        return bands

    def _estimates(self, found: Directions, rnti: int) -> dict[str, npt.NDArray[Any]]:
        n = len(found.azimuth_rad)
        return {
            "azimuth_rad": found.azimuth_rad,
            "elevation_rad": np.full(n, float(self.params.elevation_rad)),
            "range_m": np.full(n, np.inf),
            "power_db": found.power_db,
            "id": np.full(n, rnti, np.int64),
        }

    @staticmethod
    def _spectrum(found: Directions, grid: Grid) -> dict[str, npt.NDArray[Any]]:
        return {
            "spectrum_db": found.spectrum_db.astype(np.float32)[:, None],
            "azimuth_rad": grid.azimuth_rad,
            "range_m": np.array([np.inf]),
        }

    def _grid(self, array: ArrayGeometry, frequency_hz: float, band_hz: F64) -> tuple[Grid, npt.NDArray[np.complex128]]:
        key = array, frequency_hz, band_hz.tobytes()
        if self._built is None or self._built[0] != key:
            p = self.params
            coarse = Grid.coarse(
                array,
                wavelength_m(frequency_hz),
                azimuth_limit_rad=p.azimuth_limit_rad,
                elevation_rad=p.elevation_rad,
                far_field_only=True,
            )
            grid = Grid(
                azimuth_min_rad=coarse.azimuth_min_rad,
                azimuth_max_rad=coarse.azimuth_max_rad,
                n_azimuth=_FINER * coarse.n_azimuth,
                spacing=coarse.spacing,
                range_min_m=coarse.range_min_m,
                elevation_rad=p.elevation_rad,
            )
            vector = steering(array.channel_position_m, grid.azimuth_rad, p.elevation_rad, band_hz)
            self._built = key, grid, vector
        return self._built[1], self._built[2]

    def _array(self, n_sensors: int) -> ArrayGeometry:
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        if len(self.array.channel_map) != n_sensors:
            raise EstimationError(
                f"{self.name}: array {self.array.array_id!r} has {len(self.array.channel_map)} channels, "
                f"the data {n_sensors}"
            )
        return self.array

    def _frequency_hz(self) -> float:
        frequency_hz = self.header.frequency_hz or self.params.frequency_hz
        if frequency_hz is None:
            raise EstimationError(f"{self.name}: frames carry no centre frequency; set the parameter frequency_hz")
        return frequency_hz
