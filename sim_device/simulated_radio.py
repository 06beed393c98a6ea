"""What a simulated radio receives, as the flowgraphs of live radios let their users say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hil.params import Count, Params, Seed
from sim_device.scene import Source, Stand


class SimulatedRadio(Params, frozen=True):
    """A source that stands, unless told otherwise. A flowgraph derives its own, with what its radio has besides."""

    sources: Annotated[tuple[Source, ...], Meta(max_length=64)] = (
        Source(id=1, motion=Stand(position_m=(0.4, 1.1, 0.0)), power_db=-20.0),
    )
    noise_power_db: Annotated[
        float, Meta(ge=-200, le=0, description="of each channel", extra_json_schema={"unit": "dB"})
    ] = -50.0
    loop_ticks: Annotated[
        Annotated[Count, Meta(le=1 << 24)] | None,
        Meta(
            description="compute so many samples once and repeat them; absent: all are computed, which keeps up with "
            "some 100 kS/s of 8 channels, and sources move"
        ),
    ] = 65536
    real_time: Annotated[bool, Meta(description="keep to the clock; else as fast as frames are worked on")] = True
    seed: Annotated[Seed, Meta(description="of every draw")] = 1

    def array_device(self, array: Mapping[str, Any], frequency_hz: float, sample_rate_hz: float) -> dict[str, Any]:
        """Parameters of :class:`~sim_device.device.XlArrayDevice` behind the radio.

        Args:
            array: Parameters of the array.
            frequency_hz: Centre frequency.
            sample_rate_hz: Of complex samples.
        """
        return {
            "array": array,
            "sources": msgspec.to_builtins(self.sources),
            "noise_power_db": self.noise_power_db,
            "frequency_hz": frequency_hz,
            "sample_rate_hz": sample_rate_hz,
            "real_time": self.real_time,
            "seed": self.seed,
        }
