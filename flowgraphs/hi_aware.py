"""[HI] live: three targets before 256 elements at 30 GHz, some of them faulty -> fault map, positions, bounds.

Run: ``hil run flowgraphs.hi_aware``, or ``hil run flowgraphs.hi_aware --set device.array=ura`` for 16 by 16 of them;
while it runs: ``hil ctl sim.inject_fault element=7`` and ``hil ctl sim.clear_fault element=7``. The fault map follows
within a frame or two.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from msgspec import Meta

from blocks.evaluation.evaluate import Evaluate, EvaluateParams
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.hi_aware.hi_aware_block import HiAware, HiAwareParams
from drivers.xl_array import XlArray
from hil.graph import Graph
from hil.params import Count, Hz, Params, Seed, params_to_plain

#: Azimuth and elevation (rad) and range (m) of the targets: those of [HI] Section VI-A before a line, nearer ones
#: before a rectangle, whose aperture is so much less; and the pilot that each sends.
_TARGETS = {
    "ula": ((math.pi / 12, 0.0, 10.0), (-math.pi / 12, 0.0, 18.0), (-math.pi / 6, 0.0, 8.0)),
    "ura": ((math.pi / 12, 0.2, 0.5), (-math.pi / 12, -0.1, 0.7), (-math.pi / 6, 0.3, 0.4)),
}
_PILOT_LENGTH, _PILOT_ROOTS = 101, (1, 5, 7)
#: Power of each target at the array's centre.
_SOURCE_POWER_DB = -20.0


class Device(Params, frozen=True):
    """The array, simulated unless ``endpoint`` names one that runs."""

    endpoint: Annotated[
        str | None, Meta(description="frames of a running array, tcp://127.0.0.1:5555; absent: start a simulated one")
    ] = None
    array: Annotated[Literal["ula", "ura"], Meta(description="a line, or an upright rectangle")] = "ula"
    n_elements: Annotated[int, Meta(ge=16, le=1024, description="elements, half a wavelength apart")] = 256
    n_rows: Annotated[int, Meta(ge=2, le=512, description="rows of a rectangle, a divisor of n_elements")] = 16
    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre frequency")] = 30e9
    n_snapshots: Annotated[Count, Meta(le=100_000, description="samples of a frame")] = 100
    frame_rate_hz: Annotated[Hz, Meta(le=10_000, description="frames a second of the device's time")] = 20.0
    snr_db: Annotated[
        float,
        Meta(
            ge=-40, le=80, description="power of all targets over noise, per element", extra_json_schema={"unit": "dB"}
        ),
    ] = 15.0
    fault_probability: Annotated[float, Meta(ge=0, le=0.5, description="of each element, at the start")] = 0.02
    turn_rate_rad_per_s: Annotated[
        float,
        Meta(ge=-1, le=1, description="of each target round the array", extra_json_schema={"unit": "rad/s"}),
    ] = 0.005
    pilots: Annotated[bool, Meta(description="targets send known pilots; else noise-like signals")] = True
    real_time: Annotated[bool, Meta(description="keep to the clock; else as fast as frames are worked on")] = True
    seed: Annotated[Seed, Meta(description="of every draw of the device")] = 1

    def __post_init__(self) -> None:
        if self.array == "ura" and (self.n_elements % self.n_rows or self.n_elements < 2 * self.n_rows):
            raise ValueError(f"{self.n_elements} elements do not fill {self.n_rows} rows of at least two")


class Settings(Params, frozen=True):
    device: Device = Device()
    hi_aware: HiAwareParams = HiAwareParams()
    evaluate: EvaluateParams = EvaluateParams(gate_m=1.0)


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("hi_aware")
    # Blocks
    graph.add(XlArray("sim", **source_params(settings.device)))
    graph.add(HiAware("hi_aware", **params_to_plain(settings.hi_aware)))
    graph.add(PolarToCartesian("cartesian"))
    graph.add(Evaluate("evaluate", **params_to_plain(settings.evaluate)))
    # Connections
    graph.connect("sim.iq", "hi_aware")
    graph.connect("hi_aware.estimates", "cartesian")
    graph.connect("cartesian.positions", "evaluate.positions")
    graph.connect("sim.truth", "evaluate.truth")
    return graph.expose(
        positions="cartesian.positions",
        truth="sim.truth",
        iq="sim.iq",
        estimates="hi_aware.estimates",
        faults="hi_aware.faults",
        bounds="hi_aware.bounds",
    )


def source_params(device: Device) -> dict[str, Any]:
    """Parameters of the driver: where the array is, or which one to simulate."""
    if device.endpoint is not None:
        return {"endpoint": device.endpoint}
    faults = [{"kind": "phase", "probability": device.fault_probability}] if device.fault_probability else []
    array: dict[str, Any] = {"kind": "ula", "n": device.n_elements}
    if device.array == "ura":
        array = {"kind": "ura", "nx": device.n_elements // device.n_rows, "nz": device.n_rows}
    n_targets = len(_TARGETS[device.array])
    simulated = {
        "array": array,
        "sources": [_target(device, i) for i in range(n_targets)],
        "frequency_hz": device.frequency_hz,
        "n_snapshots": device.n_snapshots,
        "frame_period_s": 1 / device.frame_rate_hz,
        "noise_power_db": _SOURCE_POWER_DB + 10 * math.log10(n_targets) - device.snr_db,
        "faults": faults,
        "real_time": device.real_time,
        "seed": device.seed,
    }
    return {"embedded": True, "device": simulated}


def _target(device: Device, which: int) -> dict[str, Any]:
    azimuth_rad, elevation_rad, range_m = _TARGETS[device.array][which]
    pilot = {"kind": "pilot", "length": _PILOT_LENGTH, "root": _PILOT_ROOTS[which]}
    motion = {
        "kind": "bearing",
        "azimuth_rad": azimuth_rad,
        "elevation_rad": elevation_rad,
        "range_m": range_m,
        "azimuth_rate_rad_per_s": device.turn_rate_rad_per_s,
    }
    return {
        "id": which + 1,
        "motion": motion,
        "power_db": _SOURCE_POWER_DB,
        "waveform": pilot if device.pilots else {"kind": "gaussian"},
    }


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.hi_aware")


if __name__ == "__main__":
    main()
