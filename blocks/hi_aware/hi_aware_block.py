"""The streaming block: places, fault map and calibration, and how near the places are to what the array could do."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.hi_aware.joint_fit import Kind, fit_jointly
from blocks.hi_aware.localizer import Localized, localize
from blocks.hi_aware.pilots import zadoff_chu
from blocks.hi_aware.planar_dictionary import PlanarDictionary, planar_dictionary, turn_into_xz
from blocks.hi_aware.reduce import Reduced, reduce_blind, reduce_by_pilots
from blocks.hi_aware.scene import Places, Scene
from blocks.subspace.dictionary import Dictionary, Grid, steering_dictionary
from blocks.subspace.model_order import model_order
from blocks.subspace.signal_subspace import leading_from_samples
from hil.array import ArrayGeometry
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.frame import Frame
from hil.params import Count, Hz, Metres, Params, Radians
from hil.port import field
from hil.streams import ESTIMATES, IQ, port_of
from hil.wavefront import wavelength_m

#: Fault map and calibration. ``kind``: 0 intact, 1 turned in phase, 2 changed in amplitude too. To calibrate, divide
#: by ``coefficient``; ``phase_std_rad`` says how well its phase is known.
FAULTS = {
    "kind": field("int8", "sensor"),
    "coefficient": field("complex128", "sensor"),
    "phase_std_rad": field("float64", "sensor", "rad"),
}
#: Cramer-Rao bounds at the estimates, in their order: as the frame was estimated (young coefficients unknown), and had
#: all coefficients been known. Elevation where it is estimated: planar arrays.
BOUNDS = {
    "azimuth_std_rad": field("float64", "source", "rad"),
    "range_std_m": field("float64", "source", "m"),
    "azimuth_std_known_rad": field("float64", "source", "rad"),
    "range_std_known_m": field("float64", "source", "m"),
    "elevation_std_rad": field("float64", "source", "rad", optional=True),
    "elevation_std_known_rad": field("float64", "source", "rad", optional=True),
}


#: Energy of a target in the reduced data over the noise, below which it is not there: above the largest response of
#: noise alone on a grid of some ten thousand points.
HEARD_ENERGY = 25.0


class PilotParams(Params, frozen=True):
    """One Zadoff-Chu sequence, repeated from tick 0 on."""

    length: Annotated[int, Meta(ge=3, description="odd number of samples")]
    root: Annotated[int, Meta(ge=1, description="below the length and prime to it")]


class HiAwareParams(Params, frozen=True):
    mode: Annotated[
        Literal["auto", "pilots", "blind"],
        Meta(description="auto: pilots where they are given here or named by the device's descriptor, else blind"),
    ] = "auto"
    pilots: Annotated[tuple[PilotParams, ...], Meta(description="one a target; empty: as the descriptor says")] = ()
    n_sources: Annotated[int, Meta(ge=0, le=64, description="blind: targets; 0: as many as MDL says")] = 0
    max_sources: Annotated[int, Meta(ge=1, le=64, description="most that MDL may say, and most with echoes")] = 8
    max_paths: Annotated[
        int,
        Meta(ge=1, le=16, description="places that one pilot, or waveform, may come from: a target and its echoes"),
    ] = 3
    frequency_hz: Annotated[Hz | None, Meta(description="carrier where frames do not carry it")] = None
    range_min_m: Annotated[Metres | None, Meta(description="nearest range; absent: the Fresnel distance")] = None
    azimuth_limit_rad: Annotated[
        Radians | None, Meta(description="search within plus and minus this azimuth; at a fixed elevation only")
    ] = None
    elevation: Annotated[
        Literal["auto", "search", "fixed"],
        Meta(description="search: planar arrays; fixed: all targets at 0; auto: search where an upright plane sees it"),
    ] = "auto"
    amplitude: Annotated[bool, Meta(description="near elements receive more than far ones")] = True
    drift_rad: Annotated[
        float, Meta(ge=0, le=1, description="standard deviation of the phases' drift a frame; 0: faults are static")
    ] = 0.0
    map_every: Annotated[Count, Meta(description="give the fault map so often though nothing changed, frames")] = 20


class _Model(NamedTuple):
    array: ArrayGeometry
    wavelength_m: float
    dictionary: Dictionary | PlanarDictionary


class HiAware(Block):
    """Locates targets with an array some of whose elements are faulty, and finds which and how.

    ``faults`` comes when an element fails, changes or heals (named in ``meta`` as ``appeared`` and ``healed``), and
    every ``map_every`` frames. State lives on from frame to frame and ends with the epoch. A pilot that is not heard
    gives no estimate and counts in ``meta`` as ``n_silent``; one that comes from several places gives several, and
    ``meta`` says in ``pilot`` which is whose.
    """

    params: HiAwareParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"estimates": port_of(ESTIMATES), "faults": port_of(FAULTS), "bounds": port_of(BOUNDS)}

    _last: Localized | None
    _before: tuple[int, Places] | None
    _epoch: int
    _seq: int

    def setup(self) -> None:
        self._model: _Model | None = None
        self._forget()
        self._n = {"frames": 0, "searched": 0, "appeared": 0, "healed": 0}
        self._told: tuple[PilotParams, ...] = getattr(self, "_told", ())

    def stats(self) -> dict[str, Any]:
        if not hasattr(self, "_n"):
            return {}
        faulty = [] if self._last is None else np.flatnonzero(self._last.state.kind).tolist()
        return {**self._n, "faulty_elements": faulty}

    def on_descriptor(self, frame: Frame, port: str) -> None:
        super().on_descriptor(frame, port)
        told = frame.header.meta.get("sim", {}).get("pilots", [])
        self._told = tuple(PilotParams(length=int(p["length"]), root=int(p["root"])) for p in told)

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        if self._last is not None and self.header.epoch != self._epoch:
            self._forget()
        self._epoch = self.header.epoch
        model = self._model_of(iq.shape[0])
        data = self._reduced(iq)
        start = self._predicted(data.n_waveforms)
        found = localize(
            data, model.dictionary, self._last, start, drift_rad=self.params.drift_rad, most_places=self._most(data)
        )
        # a search may follow a jump, which says nothing of where the targets go on to
        self._before = None if self._last is None or found.searched else (self._seq, self._last.fit.places)
        self._last, self._seq = found, self.header.seq
        self._n["frames"] += 1
        self._n["searched"] += found.searched
        self._n["appeared"] += len(found.appeared)
        self._n["healed"] += len(found.healed)
        return self._estimates(found), self._faults(found), self._bounds(found, model.dictionary)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._last = self._before = None
        self._epoch = self._seq = self._mapped = -1
        self._calibration = 0

    def _model_of(self, n_sensors: int) -> _Model:
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        if len(self.array.channel_map) != n_sensors:
            raise EstimationError(
                f"{self.name}: array {self.array.array_id!r} has {len(self.array.channel_map)} channels, the data "
                f"{n_sensors}"
            )
        frequency_hz = self.header.frequency_hz or self.params.frequency_hz
        if frequency_hz is None:
            raise EstimationError(f"{self.name}: frames carry no centre frequency; set the parameter frequency_hz")
        wavelength = wavelength_m(frequency_hz)
        if self._model is None or self._model.array is not self.array or self._model.wavelength_m != wavelength:
            self._model = _Model(self.array, wavelength, self._dictionary(self.array, wavelength))
        return self._model

    def _dictionary(self, array: ArrayGeometry, wavelength: float) -> Dictionary | PlanarDictionary:
        p = self.params
        if p.elevation == "search" or (p.elevation == "auto" and _upright(array)):
            if p.azimuth_limit_rad is not None:
                raise EstimationError(
                    f"{self.name}: azimuth_limit_rad holds for a search at a fixed elevation; leave it out, or set "
                    "elevation='fixed'"
                )
            return planar_dictionary(array, wavelength, range_min_m=p.range_min_m, amplitude=p.amplitude)
        grid = Grid.coarse(array, wavelength, range_min_m=p.range_min_m, azimuth_limit_rad=p.azimuth_limit_rad)
        return steering_dictionary(array, wavelength, grid, amplitude=p.amplitude)

    def _reduced(self, iq: npt.NDArray[np.complex64]) -> Reduced:
        p = self.params
        pilots = p.pilots or self._told
        if p.mode == "blind" or (p.mode == "auto" and not pilots):
            return reduce_blind(iq, p.n_sources or self._order(iq))
        if not pilots:
            raise EstimationError(f"{self.name}: no pilots are known; give the parameter pilots, or use mode blind")
        if self.header.sample_start is None:
            raise EstimationError(f"{self.name}: pilots need frames that carry sample_start; use mode blind")
        tick = self.header.sample_start
        return reduce_by_pilots(iq, np.stack([zadoff_chu(q.length, q.root, tick, iq.shape[1]) for q in pilots]))

    def _order(self, iq: npt.NDArray[np.complex64]) -> int:
        """Faults leave the rank of the signal as it is: the order may be told before they are known.

        Channels that give nothing at all, and snapshots that were lost, are left out: they have no noise either.
        """
        iq = iq[iq.any(axis=1)]
        iq = iq[:, iq.any(axis=0)]
        if min(iq.shape) < 2:
            raise EstimationError(f"{self.name}: samples {list(iq.shape)} are not zero; a direction needs two elements")
        n_leading = min(self.params.max_sources, min(iq.shape) - 1)
        n_sources = int(model_order(leading_from_samples(iq.astype(np.complex128), n_leading).summary, "mdl"))
        if n_sources == 0:
            raise EstimationError(f"{self.name}: no target stands out of the noise")
        return n_sources

    def _most(self, data: Reduced) -> int:
        """Places that may be looked for."""
        p = self.params
        if data.mixing is None and p.n_sources:
            return p.n_sources
        return max(data.n_sources, min(p.max_paths * data.n_waveforms, p.max_sources))

    def _predicted(self, n_waveforms: int) -> Places | None:
        """Where the targets are if they go on as they did; ``None`` where their number changed or one was silent."""
        if self._last is None or self._last.data.n_waveforms != n_waveforms or not _heard(self._last).all():
            return None
        places = self._last.fit.places
        n_sources = len(places.azimuth_rad)
        if self._before is None or len(self._before[1].azimuth_rad) != n_sources or self._seq <= self._before[0]:
            return places
        frames = (self.header.seq - self._seq) / (self._seq - self._before[0])
        if not 0 < frames <= 10:
            return places
        now, old = places.stacked(), self._before[1].stacked()
        moved = Places.of_stacked(now + frames * (now - old))
        return moved._replace(inverse_range_per_m=np.maximum(moved.inverse_range_per_m, 0.0))

    def _header_changes(self, **meta: Any) -> dict[str, Any]:
        name = f"{self.name}-{self._epoch}-{self._calibration}"
        return {"calibration": "valid", "calibration_id": name, "meta": meta}

    def _estimates(self, found: Localized) -> Out:
        heard, fit, data = _heard(found), found.fit, found.data
        n = int(np.count_nonzero(heard))
        covariance = np.zeros((n, 3, 3))
        polar = [0, 2, 1][: fit.covariance.shape[1]]  # places are azimuth, inverse range, elevation
        # what the model errs by spreads estimates too
        covariance[:, np.array(polar)[:, None], polar] = found.excess * fit.covariance[heard]
        elevation = fit.places.elevation_rad
        arrays = {
            "azimuth_rad": fit.places.azimuth_rad[heard],
            "elevation_rad": np.zeros(n) if elevation is None else elevation[heard],
            "range_m": fit.places.range_m[heard],
            "polar_covariance": covariance,
            "power_db": 10 * np.log10(np.sum(np.abs(fit.gains[heard]) ** 2, axis=1) / data.n_snapshots),
        }
        if found.appeared or found.healed:
            self._calibration += 1
        meta: dict[str, Any] = {"n_faulty": int(np.count_nonzero(found.state.kind)), "n_silent": len(heard) - n}
        if data.mixing is not None:
            pilot = np.arange(data.n_sources) if data.pilot is None else data.pilot
            meta["pilot"] = pilot[heard].tolist()
        return Out(arrays, self._header_changes(**meta))

    def _faults(self, found: Localized) -> Out | None:
        due = self._n["frames"] >= self._mapped + self.params.map_every or self._mapped < 0
        if not (found.appeared or found.healed or due):
            return None
        self._mapped = self._n["frames"]
        arrays: dict[str, Any] = {
            "kind": found.state.kind,
            "coefficient": found.state.coefficient,
            "phase_std_rad": np.sqrt(found.state.phase_variance_rad2),
        }
        faulty = np.flatnonzero(found.state.kind).tolist()
        return Out(arrays, self._header_changes(faulty=faulty, appeared=found.appeared, healed=found.healed))

    def _bounds(self, found: Localized, dictionary: Dictionary | PlanarDictionary) -> dict[str, Any]:
        heard, places, data = _heard(found), found.fit.places, found.data
        intact = np.full(len(data.z), Kind.INTACT, np.int8)
        known = fit_jointly(
            data, Scene.of(dictionary), places, intact, found.state.coefficient, max_iterations=0
        ).covariance[heard]
        now, to_range = found.fit.covariance[heard], places.range_m[heard] ** 2
        bounds = {
            "azimuth_std_rad": np.sqrt(now[:, 0, 0]),
            "range_std_m": np.sqrt(now[:, 1, 1]) * to_range,
            "azimuth_std_known_rad": np.sqrt(known[:, 0, 0]),
            "range_std_known_m": np.sqrt(known[:, 1, 1]) * to_range,
        }
        if places.elevation_rad is not None:
            bounds["elevation_std_rad"] = np.sqrt(now[:, 2, 2])
            bounds["elevation_std_known_rad"] = np.sqrt(known[:, 2, 2])
        return bounds


def _upright(array: ArrayGeometry) -> bool:
    """The elements lie in one plane that is not level, with an extent in both directions."""
    turn = turn_into_xz(array.channel_position_m)
    return turn is not None and abs(turn[1, 2]) < 0.99


def _heard(found: Localized) -> npt.NDArray[np.bool_]:
    """Which targets ``[source]`` are in the data at all: a pilot may be silent."""
    energy = len(found.state.kind) * np.sum(np.abs(found.fit.gains) ** 2, axis=1)
    return energy > HEARD_ENERGY * found.noise_power
