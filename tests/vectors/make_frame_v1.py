"""Make frame_v1.hex: the bytes of some frames in wire version 1, by hand from the MessagePack specification.

Uses ``struct`` only, neither msgpack nor this project, so that it is another route to the same bytes.
Run: python -m tests.vectors.make_frame_v1 > tests/vectors/frame_v1.hex
"""

import struct

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def pack(value: Plain) -> bytes:
    """MessagePack of a plain value, each in the shortest form that the specification has for it."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return pack_integer(value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            return pack_head(len(value.encode()), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + value.encode()
        case list():
            return pack_head(len(value), 0x90, 16, (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
        case dict():
            pairs = b"".join(pack(k) + pack(v) for k, v in value.items())
            return pack_head(len(value), 0x80, 16, (None, 0xDE, 0xDF)) + pairs


def pack_integer(value: int) -> bytes:
    if 0 <= value < 128:
        return struct.pack("B", value)
    if -32 <= value < 0:
        return struct.pack("b", value)
    codes = ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"))
    if value < 0:
        codes = ((0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q"))
    for code, form in codes:
        try:
            return bytes([code]) + struct.pack(form, value)
        except struct.error:
            continue
    raise OverflowError(value)


def pack_head(length: int, fix: int, fix_limit: int, codes: tuple[int | None, int, int]) -> bytes:
    if length < fix_limit:
        return bytes([fix | length])
    for code, form, limit in zip(codes, (">B", ">H", ">I"), (1 << 8, 1 << 16, 1 << 32), strict=True):
        if code is not None and length < limit:
            return bytes([code]) + struct.pack(form, length)
    raise OverflowError(length)


def array(name: str, datatype: str, shape: list[Plain], axes: list[Plain], unit: str) -> Plain:
    return {"name": name, "core:datatype": datatype, "shape": shape, "axes": axes, "unit": unit}


def frames() -> dict[str, list[bytes]]:
    """The parts of each frame, by a name that the test knows."""
    iq = [1.0, -0.5, 0.25, 0.0, -1.0, 0.125, 0.0, 2.0, 3.0, -4.0, 0.5, 0.5]  # re, im of 2 sensors x 3 snapshots
    full = {
        "v": 1,
        "kind": "data",
        "stream": "sim.iq",
        "seq": 70000,
        "epoch": 3,
        "core:sample_start": 5_000_000_000,
        "core:sample_rate": 1e6,
        "core:frequency": 5e9,
        "time_ns": 1_700_000_000_000_000_001,
        "timebase": "utc",
        "host_time_ns": 1_700_000_000_000_400_000,
        "array_id": "ula64",
        "calibration_id": "cal-1",
        "calibration": "stale",
        "lost": [1, 200, 3],
        "meta": {"gain_db": 30.5, "note": "é", "flags": [True, None, -7]},
        "arrays": [
            array("iq", "cf32_le", [2, 3], ["sensor", "snapshot"], "FS"),
            array("count", "ri64_le", [], [], ""),
        ],
    }
    sparse = {
        "v": 1,
        "kind": "data",
        "stream": "a",
        "seq": 0,
        "epoch": 0,
        "calibration": "none",
        "arrays": [
            array("mask", "bool", [3], ["source"], ""),
            array("none", "rf64_le", [0, 3], ["source", "xyz"], "m"),
        ],
    }
    event = {
        "v": 1,
        "kind": "event",
        "stream": "sim.iq",
        "seq": 9,
        "epoch": 1,
        "time_ns": -5,
        "timebase": "device",
        "calibration": "none",
        "meta": {"event": "gap"},
    }
    eof = {"v": 1, "kind": "eof", "stream": "sim.iq", "seq": 10, "epoch": 1, "calibration": "none"}
    return {
        "full": [b"sim.iq", pack(full), struct.pack("<12f", *iq), struct.pack("<q", -2)],
        "sparse": [b"a", pack(sparse), b"\x01\x00\x01", b""],
        "event": [b"sim.iq", pack(event)],
        "eof": [b"sim.iq", pack(eof)],
    }


if __name__ == "__main__":
    for name, parts in frames().items():
        print(name, *(part.hex() or "-" for part in parts))
