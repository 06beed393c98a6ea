"""Packets of a switched receiver to bearings: one packet at a time, and all packets of an emitter together."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.calibration.apply_calibration import CalibrationGuard, OnMismatch
from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.phase_manifold import plane_wave_phase
from blocks.switched_array.bearing_and_offset import PhaseModel, search_bearing_and_offset
from blocks.switched_array.bearing_stream import EMITTER_BEARINGS
from blocks.switched_array.group_bearing import group_signature, signature_bearing
from blocks.switched_array.offset_tracker import OffsetTracker
from blocks.switched_array.phase_overflow import resolve_overflow
from blocks.switched_array.slot_snapshots import element_samples, slot_snapshots
from blocks.switched_array.slot_timing import SlotTiming
from hil.array import F64, ArrayGeometry
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.frame import AnyArray
from hil.params import Count, Hz, Params, Radians
from hil.port import Port
from hil.streams import SWITCHED, port_of
from hil.wavefront import wavelength_m

_SECONDS = {"unit": "s"}


class DirectionParams(Params, frozen=True):
    """How directions become phases; shared by both blocks."""

    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None
    calibration: Annotated[str | None, Meta(description="Calibration file, .npz; none: the ideal array")] = None
    on_mismatch: Annotated[
        OnMismatch, Meta(description="Settings that the calibration was not made for: refuse, or go on and say stale")
    ] = "stale"


class _DirectionBlock(Block):
    """Phases of the array by direction, ideal or calibrated, and the state of the calibration."""

    params: DirectionParams

    def setup(self) -> None:
        path = self.params.calibration
        self._calibration = None if path is None else ArrayCalibration.load(path)
        self._guard = (
            None if self._calibration is None else CalibrationGuard(self._calibration, self.params.on_mismatch)
        )

    def geometry(self) -> ArrayGeometry:
        if self.array is None:
            raise EstimationError(
                f"{self.name}: no descriptor of the array came; give the driver one, as Table's 'array'"
            )
        return self.array

    def phase_model(self) -> PhaseModel:
        frequency = self.header.frequency_hz or self.params.frequency_hz
        if frequency is None:
            raise EstimationError(f"{self.name}: frames carry no frequency: set the parameter 'frequency_hz'")
        position, wavelength, calibration = (
            self.geometry().channel_position_m,
            wavelength_m(frequency),
            self._calibration,
        )
        if calibration is None:
            return lambda azimuth: plane_wave_phase(azimuth, position, wavelength)
        return lambda azimuth: calibration.phase(azimuth, position, wavelength)

    def header_changes(self) -> dict[str, Any]:
        if self._guard is None or self._calibration is None:
            return {}
        array = self.geometry()
        state = self._guard.check(self.header, array.n_elements, array.channel_map)
        return {"calibration": state, "calibration_id": self._calibration.calibration_id}


class SwitchedBearingParams(DirectionParams, frozen=True):
    slot_period_s: Annotated[float, Meta(gt=0, description="From slot to slot", extra_json_schema=_SECONDS)] = 4e-6
    sample_period_s: Annotated[
        float, Meta(gt=0, description="From sample to sample in a slot", extra_json_schema=_SECONDS)
    ] = 0.5e-6
    element_order: Annotated[tuple[int, ...], Meta(min_length=1, description="Channels in the order of switching")] = (
        0, 1, 2, 3, 4, 5, 6, 7,
    )  # fmt: skip
    first_slot: Annotated[int, Meta(ge=0, description="First slot that is used")] = 3
    last_slot: Annotated[int, Meta(ge=0, description="Last slot that is used")] = 31
    sample_weight: Annotated[tuple[float, ...], Meta(min_length=1, description="Weight of each sample of a slot")] = (
        1.0, 1.0, 0.0,
    )  # fmt: skip
    tone_hz: Annotated[float, Meta(description="Tone above the carrier, as sent", extra_json_schema={"unit": "Hz"})] = (
        250e3
    )
    overflow_unit_rad: Annotated[
        Radians | None, Meta(description="Unit of a recorder that kept phases in a signed byte; none: phases are whole")
    ] = None
    offset_limit_hz: Annotated[Hz, Meta(description="Largest carrier offset that is searched, both ways")] = 30e3
    offset_step_hz: Annotated[Hz, Meta(description="Step of that search")] = 350.0

    def timing(self) -> SlotTiming:
        return SlotTiming(
            slot_period_s=self.slot_period_s,
            sample_period_s=self.sample_period_s,
            element_order=self.element_order,
            first_slot=self.first_slot,
            last_slot=self.last_slot,
            sample_weight=self.sample_weight,
            tone_hz=self.tone_hz,
        )


class SwitchedBearing(_DirectionBlock):
    """One packet to one bearing: carrier offset and bearing found together, the offset tracked for each emitter."""

    params: SwitchedBearingParams
    inputs = {"switched": port_of(SWITCHED)}
    outputs = {"bearings": Port.of(latest=False, **EMITTER_BEARINGS)}

    def setup(self) -> None:
        super().setup()
        p = self.params
        self._timing = p.timing()
        to_rad = 2 * np.pi * p.slot_period_s
        steps = np.arange(-np.ceil(p.offset_limit_hz / p.offset_step_hz), p.offset_limit_hz / p.offset_step_hz + 1)
        self._grid: F64 = steps * p.offset_step_hz * to_rad
        self._trackers: dict[int, OffsetTracker] = {}

    def process(self, switched: dict[str, AnyArray]) -> Result:
        timing, phase = self._timing, switched["phase_rad"]
        if self.params.overflow_unit_rad is not None:
            phase = resolve_overflow(phase, self.params.overflow_unit_rad, timing.tone_per_sample_rad)
        emitter = int(switched["emitter"])
        tracker = self._trackers.setdefault(emitter, OffsetTracker())
        time_s = None if self.header.time_ns is None else self.header.time_ns * 1e-9
        snapshots, model = slot_snapshots(phase, timing)[None], self.phase_model()
        expected = tracker.predict(time_s)
        found = free = search_bearing_and_offset(snapshots, timing, model, offset_grid_rad=self._grid)
        if tracker.locked:
            found = search_bearing_and_offset(
                snapshots,
                timing,
                model,
                offset_grid_rad=expected.mean_rad + np.linspace(-3, 3, 13) * expected.std_rad,
                offset_mean_rad=expected.mean_rad,
                offset_std_rad=expected.std_rad,
            )
        tracker.update(time_s, float(free.offset_rad[0]), float(free.offset_std_rad[0]))
        arrays = {
            "azimuth_rad": found.azimuth_rad,
            "elevation_rad": np.zeros(1),
            "range_m": np.full(1, np.inf),
            "emitter": np.array([emitter]),
            "std_rad": found.azimuth_std_rad,
            "coherence": found.coherence,
            "response": element_samples(snapshots, found.offset_rad, timing),
            "offset_hz": timing.offset_hz(found.offset_rad),
        }
        return Out(arrays, {**self.header_changes(), "meta": dict(self.header.meta)})


class GroupBearingsParams(DirectionParams, frozen=True):
    n_packets: Annotated[Count, Meta(description="Newest packets of each emitter that count")] = 400
    every: Annotated[Count, Meta(description="Give a result each so many packets")] = 20
    min_packets: Annotated[Count, Meta(description="Packets of an emitter before it is given")] = 5


class GroupBearings(_DirectionBlock):
    """All packets of each emitter since the epoch began to one bearing each."""

    params: GroupBearingsParams
    inputs = {"bearings": Port.of(latest=False, **EMITTER_BEARINGS)}
    outputs = {"bearings": Port.of(latest=False, **EMITTER_BEARINGS)}

    def setup(self) -> None:
        super().setup()
        self._heard: dict[int, list[AnyArray]] = {}
        self._std: dict[int, list[float]] = {}
        self._epoch: int | None = None
        self._n_packets = 0

    def process(self, bearings: dict[str, AnyArray]) -> Result:
        if self.header.epoch != self._epoch:
            self._heard, self._std, self._epoch, self._n_packets = {}, {}, self.header.epoch, 0
        for emitter, response, std in zip(
            bearings["emitter"].tolist(), bearings["response"], bearings["std_rad"].tolist(), strict=True
        ):
            heard, deviations = self._heard.setdefault(emitter, []), self._std.setdefault(emitter, [])
            heard.append(response.copy())
            deviations.append(std)
            del heard[: -self.params.n_packets], deviations[: -self.params.n_packets]
        self._n_packets += 1
        ready = sorted(e for e, r in self._heard.items() if len(r) >= self.params.min_packets)
        return self._group(ready) if ready and self._n_packets % self.params.every == 0 else None

    def _group(self, emitters: list[int]) -> Result:
        model = self.phase_model()
        signatures = [group_signature(np.array(self._heard[e])) for e in emitters]
        azimuth = [signature_bearing(s.response, model)[0] for s in signatures]
        n = len(emitters)
        arrays = {
            "azimuth_rad": np.array(azimuth),
            "elevation_rad": np.zeros(n),
            "range_m": np.full(n, np.inf),
            "emitter": np.array(emitters),
            "std_rad": np.array([np.median(self._std[e]) / np.sqrt(len(self._std[e])) for e in emitters]),
            "coherence": np.array([s.coherence for s in signatures]),
            "response": np.array([s.response for s in signatures]),
        }
        meta = {**self.header.meta, "n_packets": [len(self._heard[e]) for e in emitters]}
        return Out(arrays, {**self.header_changes(), "meta": meta})
