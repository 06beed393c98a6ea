"""The simulated array as a device: a clock, frames, verbs. No sockets: :mod:`sim_device.serve` has these.

Frames come from :meth:`XlArrayDevice.step`, one by one; verbs are called between two steps and take effect at the tick
of the next frame's first sample, so that a run with the same commands between the same frames repeats to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.array_params import Point
from hil.block import Node
from hil.descriptor import descriptor_frame
from hil.errors import ControlError
from hil.frame import NO_LOSS, Frame, Header, Loss, Timebase
from hil.params import Count, Hz, Index, convert_params, params_to_plain
from hil.streams import IQ, TRUTH, port_of
from hil.wavefront import wavelength_m
from sim_device.displacement import displacement_m
from sim_device.draws import Draw, generator
from sim_device.impairments import FaultKind, fault_response, injected_factor, mismatch_response
from sim_device.params import XlArrayParams
from sim_device.sampler import Sampler, State
from sim_device.scene import Level, Source, Stand, Straight, Velocity
from sim_device.waveforms import Pilot

C64 = npt.NDArray[np.complex64]
C128 = npt.NDArray[np.complex128]

#: Parameters that may be set while the device runs.
SETTABLE = (
    "sources",
    "frequency_hz",
    "sample_rate_hz",
    "frame_period_s",
    "n_snapshots",
    "noise_power_db",
    "gain_db",
    "clip",
    "drops",
    "n_frames",
    "descriptor_period_s",
)
#: Of these, the ones whose change is a new epoch, with the event that tells of it.
EPOCH_EVENTS = {"frequency_hz": "retune", "gain_db": "gain", "sample_rate_hz": "sample_rate"}

#: One element, several, or "all".
Elements = Index | list[Index] | str


class XlArrayDevice(Node):
    """The simulated array.

    Attributes:
        tick: First sample of the next frame.
        seq: Number of the next frame.
        epoch: Rises when frequency, gain or sample rate change, and when the stream is started again.
    """

    params: XlArrayParams
    outputs = {"iq": port_of(IQ), "truth": port_of(TRUTH)}
    verbs = (
        "move_source",
        "add_source",
        "remove_source",
        "set_power",
        "inject_fault",
        "clear_fault",
        "faults",
        "tune",
        "set_gain",
        "set_sample_rate",
        "drop_samples",
    )

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name or "xl-array", **params)
        p = self.params
        self.array = p.build_array()
        self._mismatch = mismatch_response(p.mismatch, self.array.n_elements, p.seed)
        self._fault = fault_response(p.faults, self.array.position_m, p.seed)
        self.tick = self.seq = self.epoch = 0
        self._lost: dict[str, Loss] = {"iq": NO_LOSS, "truth": NO_LOSS}
        self._pending: list[Frame] = []
        self._n = {"frames": 0, "samples_dropped": 0, "samples_clipped": 0, "frames_overrun": 0}
        self.time_origin_ns = 0
        d = p.displacement
        self._displacement_seed = p.seed if d.seed is None else d.seed
        most_m = d.most_wavelengths * wavelength_m(p.frequency_hz)
        element_m = self.array.position_m + displacement_m(self.array.n_elements, most_m, self._displacement_seed)
        self._sampler = Sampler(self.array, p.seed, self._state(0, 0), element_m)

    # -- the stream ------------------------------------------------------------------------------------------------

    @property
    def timebase(self) -> Timebase:
        """utc in real time; else the device's own clock, which starts at 0."""
        return "utc" if self.params.real_time else "device"

    def time_ns(self, tick: int) -> int:
        """Device time of ``tick``, integer nanoseconds since tick 0."""
        return self._sampler.state_at(tick).time_ns_at(tick)

    @property
    def state(self) -> State:
        """The newest state: what holds from its tick on."""
        return self._sampler.state

    def samples(self, tick_start: int, n: int) -> C64:
        """What the channels receive at ticks ``tick_start .. tick_start + n - 1``, ``[sensor, n]``.

        The same whatever was asked for before; every server of this device takes its samples from here.
        """
        return self._sampler.samples(tick_start, n)[0]

    def step(self) -> list[Frame]:
        """Return what has to be told (events, descriptors), then truth and samples of the next frame; go on to the one
        after it. At the end of ``n_frames``: end-of-stream frames."""
        out = self.announcements()
        if self.ended:
            return [*out, *(Frame(self._header(stream)._replace(kind="eof")) for stream in self.outputs)]
        out += self._random_drop()
        n = self.params.n_snapshots
        iq, n_clipped = self._sampler.samples(self.tick, n)
        header = self._header("iq")
        lost = self._lost["iq"].plus(Loss(clipped=n_clipped))
        out.append(self._truth(n))
        out.append(Frame.of(header._replace(lost=lost), iq=(iq, "sensor snapshot", "FS")))
        self._lost = {"iq": NO_LOSS, "truth": NO_LOSS}
        self._n["samples_clipped"] += n_clipped
        self._n["frames"] += 1
        self.seq += 1
        self.tick += self.params.frame_ticks
        return out

    def announcements(self) -> list[Frame]:
        """Return the events and descriptors that commands made and that were not given yet."""
        out, self._pending = self._pending, []
        return out

    @property
    def ended(self) -> bool:
        """Whether all ``n_frames`` were given (or lost)."""
        return self.params.n_frames is not None and self.seq >= self.params.n_frames

    def descriptors(self) -> list[Frame]:
        """What the array is, for each stream. The truth's also tells what no estimator may see: the scene, mismatch and
        faults of the elements, and where these are."""
        p = self.params
        told = {"device": "xl-array", "seed": p.seed, "gain_db": p.gain_db}
        response = self._mismatch * self._fault
        truth = {
            **told,
            "sources": [{k: v for k, v in s.items() if k != "motion"} for s in params_to_plain(p)["sources"]],
            "mismatch": params_to_plain(p.mismatch),
            "displacement": {**params_to_plain(p.displacement), "seed": self._displacement_seed},
            "position_at": "middle of the frame",
            "noise_power_db": p.noise_power_db,
            "response_real": response.real.tolist(),
            "response_imag": response.imag.tolist(),
            "faulty_elements": np.flatnonzero(self._fault != 1).tolist(),
        }
        return [
            descriptor_frame(self._header("iq"), self.array, {"sim": {**told, "pilots": self._pilots()}}),
            descriptor_frame(self._header("truth"), self.array, {"sim": truth}),
        ]

    def overrun(self, n_frames: int) -> None:
        """Pass over ``n_frames`` frames for which there was no time: they are counted as lost."""
        p = self.params
        loss = Loss(frames=n_frames, samples=n_frames * p.n_snapshots)
        self._lost = {"iq": self._lost["iq"].plus(loss), "truth": self._lost["truth"].plus(Loss(frames=n_frames))}
        self._n["frames_overrun"] += n_frames
        self.seq += n_frames
        self.tick += n_frames * p.frame_ticks
        self._tell("iq", "overflow", frames=n_frames, samples=loss.samples)

    def restart(self, tick: int) -> None:
        """Go on at ``tick`` after a stop, in a new epoch."""
        self.tick = max(tick, self.tick)
        self._new_epoch("restart")

    # -- verbs -----------------------------------------------------------------------------------------------------

    def set_params(self, **changes: Any) -> None:
        """Change parameters from the next frame on: all are checked before any is set.

        Raises:
            ParamError: Names the field's path and its limits.
            ControlError: A parameter that is fixed while the device runs.
        """
        plain = params_to_plain(self.params)
        params = convert_params(XlArrayParams, {**plain, **changes}, f"device {self.name!r}")
        changed = [f for f in params.__struct_fields__ if getattr(params, f) != getattr(self.params, f)]
        fixed = [f for f in changed if f not in SETTABLE]
        if fixed:
            raise ControlError(
                f"{fixed[0]} is fixed while the device runs: start it anew; may be set: {', '.join(SETTABLE)}"
            )
        self.params = params
        self._sampler.apply(self._state(self.tick, self.time_ns(self.tick)))
        events = {f: EPOCH_EVENTS[f] for f in changed if f in EPOCH_EVENTS}
        for field, event in events.items():
            self._new_epoch(event, **{field: getattr(params, field)})
        if changed and not events:
            self._pending += self.descriptors()

    def move_source(self, id: Index, position_m: Point, velocity_m_per_s: Velocity = (0.0, 0.0, 0.0)) -> None:
        """Put a source at a point of the world; from there it moves on with the velocity."""
        now_s = self.time_ns(self.tick) / 1e9
        moving = any(velocity_m_per_s)
        motion = Straight(position_m=position_m, velocity_m_per_s=velocity_m_per_s, start_s=now_s)
        self._change_source(id, motion=params_to_plain(motion if moving else Stand(position_m=position_m)))

    def add_source(self, source: Source) -> None:
        """Add a source, given as in the parameter ``sources``."""
        self.set_params(sources=[*params_to_plain(self.params)["sources"], params_to_plain(source)])

    def remove_source(self, id: Index) -> None:
        """Remove a source."""
        place = self._place(id)
        plain = params_to_plain(self.params)["sources"]
        self.set_params(sources=plain[:place] + plain[place + 1 :])

    def set_power(self, id: Index, power_db: Level) -> None:
        """Set the power of a source, dBFS at the array's centre before the gain."""
        self._change_source(id, power_db=power_db)

    def inject_fault(
        self,
        element: Elements,
        kind: FaultKind = "phase",
        phase_rad: float | None = None,
        gain_db: Annotated[float, Meta(ge=-200, le=40)] = -10.0,
    ) -> list[int]:
        """Break elements: kind phase (phase_rad, or drawn), dead, or gain (gain_db). Return all faulty elements."""
        for e in self._elements(element):
            self._fault[e] = injected_factor(kind, e, phase_rad, gain_db, self.params.seed)
        return self._faults_changed()

    def clear_fault(self, element: Elements = "all") -> list[int]:
        """Make elements whole again, drawn faults too; mismatch stays. Return the elements still faulty."""
        self._fault[self._elements(element)] = 1
        return self._faults_changed()

    def faults(self) -> list[dict[str, Any]]:
        """Return the faulty elements with amplitude and phase of their fault."""
        faulty = np.flatnonzero(self._fault != 1).tolist()
        return [
            {"element": e, "amplitude": float(abs(self._fault[e])), "phase_rad": float(np.angle(self._fault[e]))}
            for e in faulty
        ]

    def tune(self, frequency_hz: Annotated[Hz, Meta(le=1e12)]) -> int:
        """Set the centre frequency. Return the epoch."""
        self.set_params(frequency_hz=frequency_hz)
        return self.epoch

    def set_gain(self, gain_db: Annotated[float, Meta(ge=-120, le=120)]) -> int:
        """Set the gain of all channels. Return the epoch."""
        self.set_params(gain_db=gain_db)
        return self.epoch

    def set_sample_rate(self, sample_rate_hz: Annotated[Hz, Meta(le=1e11)]) -> int:
        """Set the sample rate. Return the epoch."""
        self.set_params(sample_rate_hz=sample_rate_hz)
        return self.epoch

    def drop_samples(self, n: Annotated[Count, Meta(le=1_000_000_000)] = 1) -> None:
        """Lose the next ``n`` samples."""
        self._pending.append(self._drop(n))

    def stats(self) -> dict[str, Any]:
        return {**self._n, "seq": self.seq, "tick": self.tick, "epoch": self.epoch}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _state(self, tick: int, time_ns: int) -> State:
        p = self.params
        return State(
            tick=tick,
            time_ns=time_ns,
            sample_rate_hz=p.sample_rate_hz,
            frequency_hz=p.frequency_hz,
            sources=p.sources,
            response=self._mismatch * self._fault,
            noise_power_db=p.noise_power_db,
            gain_db=p.gain_db,
            clip=p.clip,
        )

    def _header(self, stream: str) -> Header:
        return Header(
            stream=stream,
            seq=self.seq,
            epoch=self.epoch,
            sample_start=self.tick,
            sample_rate_hz=self.params.sample_rate_hz,
            frequency_hz=self.params.frequency_hz,
            time_ns=self.time_origin_ns + self.time_ns(self.tick),
            timebase=self.timebase,
            array_id=self.array.array_id,
        )

    def _truth(self, n: int) -> Frame:
        """Where the sources are in the middle of the frame, under the frame's own header."""
        position, velocity = self._sampler.positions(self.tick + n // 2)
        sources = self.params.sources
        return Frame.of(
            self._header("truth")._replace(lost=self._lost["truth"]),
            position_m=(position, "source xyz", "m"),
            id=(np.array([s.id for s in sources], np.int64), "source", ""),
            velocity_m_per_s=(velocity, "source xyz", "m/s"),
            power_db=(np.array([s.power_db + self.params.gain_db for s in sources], np.float64), "source", "dB"),
        )

    def _pilots(self) -> list[dict[str, Any]]:
        """The known sequences in the air, without who sends them."""
        pilots = [params_to_plain(s.waveform) for s in self.params.sources if isinstance(s.waveform, Pilot)]
        return [p for i, p in enumerate(pilots) if p not in pilots[:i]]

    def _tell(self, stream: str, event: str, **values: Any) -> None:
        self._pending.append(self._event(stream, event, **values))

    def _event(self, stream: str, event: str, **values: Any) -> Frame:
        return Frame(self._header(stream)._replace(kind="event", meta={"event": event, **values}))

    def _new_epoch(self, event: str, **values: Any) -> None:
        self.epoch += 1
        self._tell("iq", event, **values)
        self._pending += self.descriptors()

    def _random_drop(self) -> list[Frame]:
        drops = self.params.drops
        if drops.probability and generator(self.params.seed, Draw.DROPS, self.seq).uniform() < drops.probability:
            return [self._drop(drops.samples)]
        return []

    def _drop(self, n: int) -> Frame:
        event = self._event("iq", "gap", samples=n)
        self._lost["iq"] = self._lost["iq"].plus(Loss(samples=n))
        self._n["samples_dropped"] += n
        self.tick += n
        return event

    def _faults_changed(self) -> list[int]:
        faulty: list[int] = np.flatnonzero(self._fault != 1).tolist()
        self._sampler.apply(self._state(self.tick, self.time_ns(self.tick)))
        # a fault tells nobody: only the truth stream knows
        self._tell("truth", "fault", elements=faulty)
        self._pending.append(self.descriptors()[1])
        return faulty

    def _elements(self, element: Elements) -> list[int]:
        n = self.array.n_elements
        if isinstance(element, str):
            if element != "all":
                raise ControlError(f"element: expected a number, a list of numbers or 'all', got {element!r}")
            return list(range(n))
        chosen = element if isinstance(element, list) else [element]
        beyond = [e for e in chosen if e >= n]
        if beyond:
            raise ControlError(f"element {beyond[0]}: this array has elements 0 to {n - 1}")
        return chosen

    def _place(self, id: int) -> int:
        ids = [s.id for s in self.params.sources]
        if id not in ids:
            raise ControlError(f"source {id}: there are {', '.join(map(str, ids)) or 'none'}")
        return ids.index(id)

    def _change_source(self, id: int, **changes: Any) -> None:
        place = self._place(id)
        plain: list[Mapping[str, Any]] = params_to_plain(self.params)["sources"]
        self.set_params(sources=[{**s, **changes} if i == place else s for i, s in enumerate(plain)])
