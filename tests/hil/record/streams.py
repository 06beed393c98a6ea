"""Streams to record: like those of a device, seeded."""

import numpy as np

from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header, Loss
from hil.wire import encode_header

RATE_HZ = 1e6
ULA = ArrayGeometry.ula(4, 0.03, array_id="ula4", origin_m=(1.0, 2.0, 0.5), orientation_xyzw=(0.0, 0.0, 0.6, 0.8))


def header(seq: int, n_snapshots: int = 16, stream: str = "sim.iq", **changes) -> Header:
    start = seq * n_snapshots
    return Header(
        stream,
        seq,
        sample_start=start,
        sample_rate_hz=RATE_HZ,
        frequency_hz=5e9,
        time_ns=1_700_000_000_000_000_123 + round(start / RATE_HZ * 1e9),
        timebase="utc",
        array_id="ula4",
    ).replace(**changes)


def iq(seq: int, n_sensors: int = 4, n_snapshots: int = 16, **changes) -> Frame:
    parts = np.random.default_rng(seq).standard_normal((n_sensors, n_snapshots, 2), np.float32)
    return Frame.of(header(seq, n_snapshots, **changes), iq=(parts.view(np.complex64)[..., 0], "sensor snapshot", "FS"))


def truth(seq: int, **changes) -> Frame:
    position = np.array([[1.0, 20.0 + seq / 3, 0.0], [np.pi, np.inf, -0.0]])
    return Frame.of(
        header(seq, stream="sim.truth", **changes),
        position_m=(position, "source xyz", "m"),
        id=(np.array([7, 9]), "source", ""),
    )


def descriptor(seq: int = 0, array: ArrayGeometry = ULA) -> Frame:
    return descriptor_frame(header(seq), array, {"seed": 5})


def event(seq: int, name: str = "overflow") -> Frame:
    return Frame(header(seq, kind="event", meta={"event": name, "samples": 16}))


def session(n: int = 40) -> list[Frame]:
    """What comes of a device: a gap after 10, a retune at 20, a stall of time at 30."""
    frames = [descriptor()]
    for seq in range(n):
        if seq in (11, 12):
            continue
        changes = {"epoch": int(seq >= 20), "frequency_hz": 5e9 if seq < 20 else 5.1e9}
        if seq == 13:
            frames.append(event(seq))
            changes["lost"] = Loss(frames=2, samples=32)
        if seq >= 30:
            changes["time_ns"] = header(seq).time_ns + 777
        frames += [iq(seq, **changes), truth(seq, **{k: v for k, v in changes.items() if k != "lost"})]
    return frames


def same(a: Frame, b: Frame) -> bool:
    """Header (lists and tuples being alike) and bytes are the same."""
    names = list(a.arrays) == list(b.arrays)
    return (
        encode_header(a.header) == encode_header(b.header)
        and names
        and all(a[n].tobytes() == b[n].tobytes() for n in a.arrays)
    )
