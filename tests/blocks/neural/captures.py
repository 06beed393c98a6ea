"""Short recordings of the simulated device, made without sockets or waiting."""

from pathlib import Path
from typing import Any

from hil.record import open_writer
from sim_device.device import XlArrayDevice

#: Wavelength of a metre; nine elements, half of it apart.
FREQUENCY_HZ = 299_792_458.0
ARRAY = {"kind": "ula", "n": 9}
#: In the near field of that array, 3.2 to 16 m, within 60 degrees of broadside.
SOURCES = [
    {
        "id": id,
        "power_db": -20.0,
        "motion": {"kind": "wander", "centre_m": [x, 8, 0], "extent_m": [6, 3.5, 0], "speed_m_per_s": 20},
    }
    for id, x in ((1, 1.0), (2, -1.0))
]


def device(**params: Any) -> XlArrayDevice:
    """Two sources 20 dB over noise that go 20 m/s; 12.8 s of frames of 64 samples."""
    return XlArrayDevice(
        "sim",
        **{
            "array": ARRAY,
            "frequency_hz": FREQUENCY_HZ,
            "sources": SOURCES,
            "n_snapshots": 64,
            "frame_period_s": 0.0512,
            "n_frames": 250,
            "real_time": False,
            "seed": 7,
            **params,
        },
    )


def record(path: Path, *, streams: tuple[str, ...] = ("iq", "truth"), **params: Any) -> Path:
    """All that such a device gives, into ``path``."""
    sim = device(**params)
    writer = open_writer(path)
    for frame in sim.descriptors():
        if frame.header.stream in streams:
            writer.write(frame)
    while not sim.ended:
        for frame in sim.step():
            if frame.header.stream in streams:
                writer.write(frame)
    writer.close()
    return path
