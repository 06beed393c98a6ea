"""Keep an array calibrated through retunes, restarts and reconnections of its device."""

from __future__ import annotations

import math
from collections import deque
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.calibration.alignment_meter import AlignmentMeter
from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.calibration_follower import CalibrationFollower, Tolerance, Verdict
from blocks.calibration.calibration_store import CalibrationStore
from blocks.calibration.channel_filter import ChannelFilter
from blocks.calibration.device_settings import device_settings
from blocks.calibration.known_source import ExpectedResponse, expected_response
from blocks.calibration.noise_switch import NoiseSource, NoiseSwitch
from hil.array_params import Point
from hil.block import Block, Out, Payload, Result
from hil.errors import CalibrationError, EstimationError
from hil.frame import NO_LOSS, Frame, Header, Loss
from hil.params import Count, Index, Params
from hil.streams import IQ, port_of

C64 = npt.NDArray[np.complex64]
WhileStale = Literal["hold", "flag", "drop"]
N_STATES = {"none": 1, "half": 2, "quarter": 4}
#: So many measurements in a row that tell nothing, and the noise source is put off until it is asked for again.
_MOST_REFUSALS = 5


class FollowCalibrationParams(Params, frozen=True):
    store: Annotated[str | None, Meta(description="folder of calibrations; absent: kept in memory only")] = None
    measure: Annotated[
        Literal["noise_source", "known_source"],
        Meta(description="from frames whose meta says noise_source, or from one source at source_m that outshines all"),
    ] = "noise_source"
    source_m: Annotated[Point | None, Meta(description="of the known source, world frame, m")] = None
    noise_source: Annotated[
        NoiseSource | None, Meta(description="put on after each epoch; absent: it comes on by itself or by hand")
    ] = None
    antennas: Annotated[
        str | None,
        Meta(description="calibration file (.npz) of what lies before the noise source: cables and elements"),
    ] = None
    reference: Annotated[Index, Meta(description="sensor that the others are compared with")] = 0
    max_delay_samples: Annotated[
        int, Meta(ge=0, le=1 << 20, description="delays are looked for up to this; 0: the channels share one clock")
    ] = 0
    n_measure: Annotated[Count, Meta(le=1 << 22, description="snapshots of one measurement")] = 4096
    settle_frames: Annotated[Index, Meta(description="passed over before each measurement")] = 1
    least_coherence: Annotated[float, Meta(ge=0, le=1, description="with the reference")] = 0.5
    ambiguity: Annotated[
        Literal["none", "half", "quarter"],
        Meta(description="turns by which channels may come up wrong; they are put right in a stored calibration"),
    ] = "none"
    tolerance_rad: Annotated[float, Meta(gt=0, le=math.pi, description="a stored calibration holds within this")] = 0.1
    tolerance_samples: Annotated[float, Meta(gt=0, description="... and this")] = 0.05
    tolerance_db: Annotated[float, Meta(gt=0, description="... and this")] = 1.0
    frequency_tolerance_hz: Annotated[float, Meta(ge=0, description="what is measured holds so far away")] = 0.0
    trust: Annotated[
        Literal["measurement", "settings"],
        Meta(description="settings: stored for the same device and settings is valid, without a measurement"),
    ] = "measurement"
    while_stale: Annotated[
        WhileStale, Meta(description="frames without a valid calibration: hold them, say so in them, or drop them")
    ] = "hold"
    hold_frames: Annotated[Count, Meta(le=65_536, description="held at most; then the oldest are dropped")] = 256
    retry_frames: Annotated[Count, Meta(description="ask for the noise source again after so many")] = 200

    def __post_init__(self) -> None:
        if (self.measure == "known_source") != (self.source_m is not None):
            raise ValueError("give source_m with measure=known_source, and only then")
        if self.measure == "known_source" and self.noise_source is not None:
            raise ValueError("a noise source is of no use with measure=known_source: leave it out")
        if self.n_measure < 4 * self.max_delay_samples:
            raise ValueError(f"n_measure must be at least 4 max_delay_samples = {4 * self.max_delay_samples}")


class FollowCalibration(Block):
    """IQ with delay, phase and gain of its channels taken out, and a header that says whether that is still right.

    With each new epoch what was known is stale. A measurement verifies it, corrects it by quarter or half turns, or
    takes its place in the store; the block asks for the noise source by itself where it is told how. Each change is an
    event ``calibration``. Frames with the noise source on are measured from and not handed on; frames whose ``meta``
    says that they are not ``usable`` are dropped, or flagged as stale.
    """

    params: FollowCalibrationParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"iq": port_of(IQ)}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._switch: NoiseSwitch | None = None
        self._described: dict[str, Any] = {}
        self._events: list[Frame] = []
        self._n = {"verified": 0, "stepped": 0, "redone": 0, "refused": 0, "dropped": 0}

    def setup(self) -> None:
        p = self.params
        self._follower = CalibrationFollower(
            None if p.store is None else CalibrationStore(p.store),
            n_states=N_STATES[p.ambiguity],
            reference=p.reference,
            tolerance=Tolerance(p.tolerance_rad, p.tolerance_samples, p.tolerance_db, p.frequency_tolerance_hz),
            trust_settings=p.trust == "settings",
        )
        self._meter = AlignmentMeter(p.n_measure, p.settle_frames, p.reference, p.max_delay_samples, p.least_coherence)
        self._antennas = None if p.antennas is None else ArrayCalibration.load(p.antennas)
        self._epoch: int | None = None
        self._held: deque[Frame] = deque()
        self._filter: ChannelFilter | None = None
        self._next_in: int | None = None
        self._next_out: int | None = None
        self._was_noise = self._measured = False
        self._n_refused = 0
        self.close()
        self._switch = NoiseSwitch(p.noise_source, p.retry_frames)

    def on_descriptor(self, frame: Frame, port: str) -> None:
        super().on_descriptor(frame, port)
        self._described = dict(frame.header.meta)

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        out = super().feed(port, frame)
        events, self._events = self._events, []
        return [*(("iq", event) for event in events), *out]

    def process(self, iq: C64) -> Result:
        header = self.header
        if header.epoch != self._epoch:
            self._begin_epoch(len(iq))
        if (self._next_in is not None and header.sample_start != self._next_in) or header.lost.samples:
            self._meter.cut()
        self._next_in = None if header.sample_start is None else header.sample_start + iq.shape[1]
        noise = bool(header.meta.get("noise_source"))
        if noise != self._was_noise:
            self._meter.begin()
            self._was_noise, self._measured = noise, False
        wanted = noise and not self._measured if self.params.measure == "noise_source" else not self._valid
        before = self._valid
        if wanted and self._meter.add(iq):
            self._measure()
        self._switch_noise(noise)
        released = self._release() if self._valid and not before else []
        return [*released, *([] if noise else self._handed_on(header, iq))] or None

    def stats(self) -> dict[str, Any]:
        follower = getattr(self, "_follower", None)
        if follower is None:
            return dict(self._n)
        made = follower.calibration
        return {
            "calibration": follower.state,
            "calibration_id": None if made is None else made.calibration_id,
            "held": len(self._held),
            "asked": 0 if self._switch is None else self._switch.n_asked,
            **self._n,
        }

    def close(self) -> None:
        if self._switch is not None:
            self._switch.close()
            self._switch = None

    # -- epochs and measurements -----------------------------------------------------------------------------------

    @property
    def _valid(self) -> bool:
        return self._follower.state == "valid"

    def _begin_epoch(self, n_sensors: int) -> None:
        self._drop(list(self._held))
        self._held.clear()
        self._epoch = self.header.epoch
        self._follower.new_epoch(device_settings(self.header, self._described, self.array, n_sensors))
        self._use()
        self._meter.begin()
        self._next_in = None
        self._measured = False
        self._n_refused = 0
        if self._switch is not None:
            self._switch.new_epoch()
        self._tell("new epoch", why=None if self._valid else self._follower.why)

    def _measure(self) -> None:
        rate = self.header.sample_rate_hz
        utc = self.header.time_ns if self.header.timebase == "utc" else self.header.host_time_ns
        try:
            found = self._meter.measure(self._expected(), rate)
            verdict = self._follower.measured(found, rate, utc)
        except (EstimationError, CalibrationError) as error:
            self._n["refused"] += 1
            self._n_refused += 1
            self._tell("refused", why=str(error))
            return
        self._n_refused = 0
        self._measured = True
        self._n[verdict.result] += 1
        self._use()
        self._tell(verdict.result, **_told(verdict))

    def _switch_noise(self, is_on: bool) -> None:
        """Have the noise source on while it is needed, and off as soon as it is not."""
        switch = self._switch
        if switch is None:
            return
        if is_on and self._n_refused >= _MOST_REFUSALS:
            self._n_refused = 0
            switch.put_off_for_a_while()
        elif is_on and self._measured:
            switch.want(False)
        elif not is_on and not self._valid:
            switch.want(True)
        for refusal in switch.refusals():
            self._tell("not answered", why=refusal)

    def _expected(self) -> ExpectedResponse | None:
        if self.params.source_m is None:
            return None
        if self.array is None or self.header.frequency_hz is None:
            what = "the array" if self.array is None else "the frequency"
            raise EstimationError(
                f"{self.name}: what the known source should sound like needs {what}, which no descriptor told: "
                "let the source describe it"
            )
        source_m = self.array.from_world(self.params.source_m)
        return expected_response(self.array.channel_position_m, source_m, self.header.frequency_hz)

    def _use(self) -> None:
        """Make the filter of what is known now."""
        made, fixed, rate = self._follower.calibration, self._antennas, self.header.sample_rate_hz
        self._filter = None
        if made is None:
            return
        offset, gain_db, delay_s = made.offset_rad, made.gain_db, made.delay_s
        if fixed is not None:
            fixed.require(**{**self._follower.settings._asdict(), "receiver_gain_db": None})
            offset, gain_db, delay_s = offset + fixed.offset_rad, gain_db + fixed.gain_db, delay_s + fixed.delay_s
        self._filter = ChannelFilter(delay_s * (1.0 if rate is None else rate), offset, gain_db)
        self._next_out = None if self._next_out is None else -1  # what comes next is put together anew

    # -- frames ----------------------------------------------------------------------------------------------------

    def _handed_on(self, header: Header, iq: C64) -> list[Payload]:
        usable = header.meta.get("usable", True)  # what has not settled is not put right by any calibration
        if (self._valid and usable) or self.params.while_stale == "flag":
            return self._corrected(header, iq, usable=usable)
        frame = Frame(header, {"iq": iq})
        if self.params.while_stale == "drop" or not usable:
            self._drop([frame])
            return []
        self._held.append(frame.copy())
        if len(self._held) > self.params.hold_frames:
            self._drop([self._held.popleft()])
        return []

    def _release(self) -> list[Payload]:
        """What was held, put right by the calibration that has come."""
        held, self._held = self._held, deque()
        return [out for frame in held for out in self._corrected(frame.header, frame["iq"])]

    def _drop(self, frames: list[Frame]) -> None:
        self._n["dropped"] += len(frames)
        self.lose(Loss(len(frames), sum(f["iq"].shape[1] for f in frames)))

    def _corrected(self, header: Header, iq: C64, *, usable: bool = True) -> list[Payload]:
        made = self._follower.calibration
        state = self._follower.state
        changes: dict[str, Any] = {
            **{f: getattr(header, f) for f in Header._fields if f not in ("stream", "kind", "arrays", "lost")},
            "calibration": state if usable or state == "none" else "stale",
            "calibration_id": None if made is None else made.calibration_id,
            "lost": self.untold_loss("iq"),
        }
        if self._filter is None:
            self.told_loss("iq")
            return [Out({"iq": iq}, changes)]
        start, n = header.sample_start, iq.shape[1]
        if self._next_out != start or header.lost.samples:
            if self._next_out is not None:  # at the seam some samples have no partners in all channels
                self.lose(Loss(samples=self._filter.lead + self._filter.lag))
                changes["lost"] = self.untold_loss("iq")
            self._filter.reset()
        self._next_out = None if start is None else start + n
        aligned = self._filter.push(iq)
        if not aligned.samples.shape[1]:
            return []
        self.told_loss("iq")
        if start is not None:
            changes["sample_start"] = start + aligned.first
        if header.time_ns is not None and header.sample_rate_hz is not None:
            changes["time_ns"] = header.time_ns + round(aligned.first * 1e9 / header.sample_rate_hz)
        return [Out({"iq": aligned.samples}, changes)]

    def _tell(self, result: str, **values: Any) -> None:
        made = self._follower.calibration
        meta = {
            "event": "calibration",
            "result": result,
            "state": self._follower.state,
            "calibration_id": None if made is None else made.calibration_id,
            **{name: value for name, value in values.items() if value is not None},
        }
        header = self.header.replace(kind="event", stream=f"{self.name}.iq", arrays=(), lost=NO_LOSS, meta=meta)
        self._events.append(Frame(header))


def _told(verdict: Verdict) -> dict[str, Any]:
    """The numbers of a verdict; without those that there was nothing to compare with."""
    plain = verdict._asdict()
    del plain["result"]
    return {k: v for k, v in plain.items() if not (isinstance(v, float) and math.isnan(v)) and v != ()}
