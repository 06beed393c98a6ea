"""What the simulated array is told: typed, bounded, plain data."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hil.array import ArrayGeometry
from hil.array_params import MAX_ELEMENTS, Array, Ula, build_array
from hil.params import Count, Hz, Params, Seed
from sim_device.displacement import Displacement
from sim_device.impairments import Faults, Mismatch
from sim_device.scene import Level, Source


class Drops(Params, frozen=True):
    """Samples that the device loses by itself, before a frame, at random."""

    probability: Annotated[float, Meta(ge=0, le=1, description="of a loss, each frame")] = 0.0
    samples: Annotated[Count, Meta(le=1_000_000_000, description="lost each time")] = 1


class XlArrayParams(Params, frozen=True):
    """Parameters of the simulated array."""

    array: Array = Ula(n=64)
    sources: Annotated[tuple[Source, ...], Meta(max_length=256)] = ()
    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre frequency")] = 5e9
    sample_rate_hz: Annotated[Hz, Meta(le=1e11)] = 1e6
    n_snapshots: Annotated[Count, Meta(le=1_048_576, description="samples in a frame")] = 100
    frame_period_s: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="from frame to frame; 0, or less than a frame lasts: they follow without a gap"
        ),
    ] = 0.01
    n_frames: Annotated[Count | None, Meta(description="the stream ends after so many; absent: never")] = None
    noise_power_db: Annotated[Level, Meta(description="of each channel, before the gain, dBFS")] = -40.0
    gain_db: Annotated[float, Meta(ge=-120, le=120, extra_json_schema={"unit": "dB"})] = 0.0
    clip: Annotated[bool, Meta(description="limit in-phase and quadrature to full scale")] = True
    mismatch: Mismatch = Mismatch()
    displacement: Displacement = Displacement()
    faults: Annotated[tuple[Faults, ...], Meta(max_length=16)] = ()
    drops: Drops = Drops()
    seed: Seed = 0
    real_time: Annotated[bool, Meta(description="keep to the clock; else as fast as frames are taken")] = True
    autostart: Annotated[
        bool | None, Meta(description="stream at once, or wait for the verb start; absent: at once in real time only")
    ] = None
    descriptor_period_s: Annotated[
        float, Meta(gt=0, le=3600, description="host time", extra_json_schema={"unit": "s"})
    ] = 2.0
    queue_frames: Annotated[Count, Meta(le=65_536, description="frames that may wait for a client")] = 16

    def __post_init__(self) -> None:
        ids = [s.id for s in self.sources]
        if len(set(ids)) != len(ids):
            raise ValueError(f"each source needs an id of its own, got {ids}")
        leaders = {s.group: s for s in reversed(self.sources) if s.group is not None}
        for s in self.sources:
            if s.group is not None and s.waveform != leaders[s.group].waveform:
                raise ValueError(f"sources {leaders[s.group].id} and {s.id} of group {s.group} need the same waveform")
        n = self.build_array().n_elements
        if n > MAX_ELEMENTS:
            raise ValueError(f"expected at most {MAX_ELEMENTS} elements (they travel in a header), got {n}")

    @property
    def frame_ticks(self) -> int:
        """Ticks from the start of one frame to that of the next."""
        return max(self.n_snapshots, round(self.frame_period_s * self.sample_rate_hz))

    def build_array(self) -> ArrayGeometry:
        """Return the array that is described."""
        return build_array(self.array, 1, self.frequency_hz)
