"""Every block, through the jig: what it gives does not depend on how its input came to it.

Frames are fed as they are, as read-only memory, across the wire, and in memory that the sender uses again afterwards;
each way gives the same bytes. A block without a case here fails, so a new one gets a case.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blocks
from blocks.calibration.apply_calibration import ApplyCalibration
from blocks.calibration.array_calibration import ArrayCalibration
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.sample_covariance import SampleCovariance
from blocks.switched_array.switched_bearing import GroupBearings, SwitchedBearing
from hil.array import ArrayGeometry
from hil.block import Block
from hil.descriptor import descriptor_frame
from hil.formats.srs import Srs, fft_bins, slot_samples, srs_symbol, symbol_start
from hil.frame import Frame, Header
from hil.params import convert_params
from hil.wire import encode_header
from tests.blocks.switched_array.simulate import CHANNEL_MAP, RADIUS_M, packet
from tests.jig import across_the_wire, check_block

LINE = ArrayGeometry.ula(8, 0.03)
PLANE = ArrayGeometry.ura(3, 3, 0.03)
CIRCLE = ArrayGeometry.uca(8, RADIUS_M, channel_map=CHANNEL_MAP)
BEACONS = ((1, 9.0, 9.0), (2, 0.0, 0.0), (4, 0.0, 9.0))
Feed = list[tuple[str, Frame]]


def every_block() -> Iterator[type[Block]]:
    """Each concrete block of the package."""
    for module in pkgutil.walk_packages(blocks.__path__, "blocks."):
        for cls in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(cls) and issubclass(cls, Block) and cls.__module__ == module.name and cls.outputs:
                yield cls


def samples(n_frames: int = 6, n_snapshots: int = 20, array: ArrayGeometry = LINE) -> Feed:
    """Two sources near a line of eight, or another array, by loops; every third frame is twice as long."""
    rng = np.random.default_rng(11)
    out: Feed = [("iq", descriptor_frame(Header("dev.iq", 0, frequency_hz=5e9), array))]
    start = 0
    for seq in range(n_frames):
        n = n_snapshots * (2 if seq % 3 == 2 else 1)
        x = 0.1 * (rng.standard_normal((array.n_elements, n)) + 1j * rng.standard_normal((array.n_elements, n)))
        for px, py in ((0.4, 1.1), (-0.5, 1.3)):
            waveform = rng.standard_normal(n) + 1j * rng.standard_normal(n)
            for m, position in enumerate(array.position_m):
                distance = math.dist(position, (px, py, 0.0)) - math.hypot(px, py)
                x[m] += waveform * np.exp(-2j * np.pi * distance * 5e9 / 299792458.0)
        header = Header(
            "dev.iq",
            seq,
            sample_start=start,
            sample_rate_hz=1e6,
            frequency_hz=5e9,
            time_ns=seq * 10**7,
            timebase="device",
        )
        out.append(("iq", Frame.of(header, iq=(0.1 * x.astype(np.complex64), "sensor snapshot", "FS"))))
        start += n
    return out


def counts() -> Feed:
    """The samples as a converter of 12 bits gives them, snapshot by snapshot."""
    (_, described), *frames = samples()
    header = described.header.replace(meta={**described.header.meta, "raw": {"full_scale": 2048.0}})
    out: Feed = [("raw", Frame(header))]
    for _, frame in frames:
        parts = np.rint(2048 * np.ascontiguousarray(frame["iq"].T).view(np.float32)).astype(np.int16)
        shaped = parts.reshape(parts.shape[0], -1, 2)
        out.append(("raw", Frame.of(frame.header, iq=(shaped, "snapshot sensor component", "count"))))
    return out


def through(block: Block, feed: Feed, output: str, port: str) -> Feed:
    """What ``block`` gives at ``output``, for an input ``port``."""
    return [(port, f) for p, frame in feed for out, f in block.feed(p, frame) if out == output]


def covariances(array: ArrayGeometry = LINE) -> Feed:
    return through(SampleCovariance("cov"), samples(array=array), "covariance", "covariance")


def estimates(port: str = "estimates") -> Feed:
    return through(NearFieldMusic("music", n_sources=2), samples(), "estimates", port)


def estimates_and_samples() -> Feed:
    return estimates() + samples()


def positions(port: str = "positions") -> Feed:
    return through(PolarToCartesian("cartesian"), estimates(), "positions", port)


def switched() -> Feed:
    rng = random.Random(5)
    out: Feed = [("switched", descriptor_frame(Header("s", 0), CIRCLE))]
    for seq in range(36):
        beacon, x, y = BEACONS[seq % 3]
        phase = np.array(packet(math.atan2(x - 4.0, y - 5.0), 0.1 * beacon, rng))
        header = Header("s", seq, time_ns=seq * 10**8, timebase="device", frequency_hz=2.44e9)
        arrays = {"phase_rad": (phase, "slot sample", "rad"), "emitter": (np.array(beacon), "", "")}
        out.append(("switched", Frame.of(header, **arrays)))
    return out


def bearings() -> Feed:
    return through(SwitchedBearing("bearing"), switched(), "bearings", "bearings")


def groups() -> Feed:
    return through(GroupBearings("group", every=9, min_packets=1), bearings(), "bearings", "bearings")


def with_truth() -> Feed:
    truth: Feed = []
    for _, frame in positions():
        if frame.header.kind == "data":
            at = np.array([[0.4, 1.1, 0.0], [-0.5, 1.3, 0.0]])
            arrays = {"position_m": (at, "source xyz", "m"), "id": (np.arange(2), "source", "")}
            truth.append(("truth", Frame.of(frame.header.replace(stream="dev.truth"), **arrays)))
    return positions() + truth


def calibrated(directory: Path) -> dict[str, Any]:
    path = directory / "calibration.npz"
    ArrayCalibration(calibration_id="c", offset_rad=np.linspace(-1, 1, 8), gain_db=np.zeros(8)).save(path)
    return {"path": str(path)}


#: By class name: what it is fed, and its parameters (from a directory for files).
SRS = {"n_rb": 24, "n_fft": 512, "c_srs": 5, "period_slots": 1}


def responses(kind: str = "complex64") -> Feed:
    """Channel responses of a terminal in front of a line of eight at 24 subcarriers, one path and noise."""
    rng = np.random.default_rng(12)
    offset_hz = 30e3 * (np.arange(24.0) - 12)
    header = Header("dev.cfr", 0, frequency_hz=5e9)
    out: Feed = [("cfr" if kind == "complex64" else "raw", descriptor_frame(header, LINE))]
    for seq in range(5):
        wave = np.exp(2j * np.pi * LINE.position_m[:, :1] * math.sin(0.3) * (5e9 + offset_hz) / 299792458.0)
        h = wave * np.exp(-2j * np.pi * offset_hz * 4e-7) + 0.01 * rng.standard_normal((8, 24, 2)).view(complex)[..., 0]
        counts = np.round(1000 * np.stack([h.real, h.imag], axis=-1)).astype(np.int16)
        array = (h.astype(np.complex64), "sensor subcarrier", "")
        if kind != "complex64":
            array = (counts, "sensor subcarrier component", "count")
        now = header._replace(seq=seq, time_ns=seq * 10**7, timebase="device")
        frame = Frame.of(now, cfr=array, subcarrier_hz=(offset_hz, "subcarrier", "Hz"), rnti=(np.array(7), "", ""))
        out.append((out[0][0], frame))
    return out


def soundings() -> Feed:
    """Samples of two slots with a sounding signal in each, by the inverse transform of its subcarriers."""
    srs = convert_params(Srs, SRS, "test")
    rng = np.random.default_rng(13)
    out: Feed = [("iq", descriptor_frame(Header("dev.iq", 0, frequency_hz=5e9), LINE))]
    start = 0
    for slot in range(2):
        x = 0.01 * rng.standard_normal((8, slot_samples(srs, slot), 2)).view(complex)[..., 0]
        symbol = srs_symbol(srs, 0, slot)
        bins = np.zeros(srs.n_fft, complex)
        bins[fft_bins(srs)[symbol.subcarrier]] = symbol.value
        at = symbol_start(srs, slot, srs.start_symbol)
        x[:, at : at + srs.n_fft] += np.fft.ifft(bins) * 20
        header = Header("dev.iq", slot, sample_start=start, sample_rate_hz=srs.sample_rate_hz, frequency_hz=5e9)
        out.append(("iq", Frame.of(header, iq=(x.astype(np.complex64), "sensor snapshot", "FS"))))
        start += x.shape[1]
    return out


CASES: dict[str, tuple[Callable[[], Feed], Callable[[Path], dict[str, Any]]]] = {
    "ApplyCalibration": (samples, calibrated),
    "BeamSpectrum": (covariances, lambda _: {"method": "capon"}),
    "CfrAngle": (responses, lambda _: {"spectrum_every": 2}),
    "CfrCovariance": (responses, lambda _: {}),
    "CfrToComplex": (lambda: responses("int16"), lambda _: {"full_scale": 1000.0}),
    "CramerRao": (lambda: estimates() + covariances(), lambda _: {}),
    "CramerRaoFromSamples": (estimates_and_samples, lambda _: {"kind": "conditional"}),
    "Esprit": (covariances, lambda _: {"n_sources": 2, "method": "unitary"}),
    "CoherenceCheck": (samples, lambda _: {"n_snapshots": 40}),
    "DenoiseCfr": (responses, lambda _: {}),
    "Evaluate": (with_truth, lambda _: {}),
    "ExponentialCovariance": (covariances, lambda _: {}),
    "FarFieldMusic": (samples, lambda _: {"n_sources": 2}),
    "FarFieldMusicFromCovariance": (covariances, lambda _: {"n_sources": 2}),
    "FollowCalibration": (
        samples,
        lambda _: {
            "measure": "known_source",
            "source_m": [0.4, 1.1, 0.0],
            "least_coherence": 0.0,
            "n_measure": 40,
            "while_stale": "flag",
        },
    ),
    "ForwardBackward": (covariances, lambda _: {}),
    "GroupBearings": (bearings, lambda _: {"every": 9, "min_packets": 1}),
    "HiAware": (lambda: samples(n_snapshots=40), lambda _: {"mode": "blind", "n_sources": 2}),
    "ModelOrder": (covariances, lambda _: {}),
    "NearFieldMusic": (samples, lambda _: {"n_sources": 0, "spectrum_every": 2}),
    "NearFieldMusicFromCovariance": (covariances, lambda _: {"n_sources": 2}),
    "NeuralDcdMusic": (
        lambda: samples(array=ArrayGeometry.ula(15, 0.03)),
        lambda _: {"n_sources": 2, "keep_unresolved": True, "spectrum_every": 2},
    ),
    "NeuralNearFieldMusic": (
        lambda: samples(array=ArrayGeometry.ula(15, 0.03)),
        lambda _: {"n_sources": 2, "keep_unresolved": True, "spectrum_every": 2},
    ),
    "NeuralPlanarMusic": (
        lambda: samples(array=ArrayGeometry.ura(6, 6, 0.03)),
        lambda _: {"n_sources": 2, "keep_unresolved": True},
    ),
    "PlanarMusic": (lambda: samples(array=PLANE), lambda _: {"n_sources": 2}),
    "PlanarMusicFromCovariance": (
        lambda: covariances(PLANE),
        lambda _: {"n_sources": 0, "max_sources": 3, "far_field_only": True},
    ),
    "PolarToCartesian": (estimates, lambda _: {}),
    "RectangleSmoothing": (lambda: covariances(PLANE), lambda _: {"n_rows": 2, "n_columns": 3}),
    "RecursiveCovariance": (samples, lambda _: {"memory": 30.0}),
    "ReducedDimensionMusic": (covariances, lambda _: {"n_sources": 2}),
    "RefineEstimates": (estimates_and_samples, lambda _: {}),
    "RefineEstimatesFromCovariance": (lambda: estimates() + covariances(), lambda _: {}),
    "Resection": (groups, lambda _: {"beacons": [{"id": i, "x_m": x, "y_m": y} for i, x, y in BEACONS]}),
    "RootMusic": (covariances, lambda _: {}),
    "SampleCovariance": (samples, lambda _: {"n_snapshots": 32}),
    "SelectSubcarriers": (responses, lambda _: {"every": 2}),
    "SrsToCfr": (soundings, lambda _: {"srs": SRS, "start_sample": 0}),
    "SpatialSmoothing": (covariances, lambda _: {"n_sub": 5}),
    "SwitchedBearing": (switched, lambda _: {}),
    "ToComplex": (counts, lambda _: {}),
    "ToeplitzAverage": (covariances, lambda _: {}),
    "Tracker": (positions, lambda _: {}),
    "UsableOnly": (samples, lambda _: {}),
}


def bytes_given(block: Block, feed: Feed, how: Callable[[Frame], Frame], *, reuse: bool = False) -> list[Any]:
    """Everything that came out, as bytes that can be compared."""
    out = []
    for port, frame in feed:
        given = how(frame)
        came = block.feed(port, given)
        out += [_comparable(p, f) for p, f in came]
        if reuse:
            for array in given.arrays.values():
                array.view(np.uint8).fill(0xAA) if array.ndim else array.fill(0)
    return out + [_comparable(p, f) for p, f in block.finish()]


def _comparable(port: str, frame: Frame) -> tuple[str, str, bytes, dict[str, bytes]]:
    header = encode_header(frame.header)
    return port, frame.header.kind, header, {name: array.tobytes() for name, array in frame.arrays.items()}


def read_only(frame: Frame) -> Frame:
    copy = frame.copy()
    for array in copy.arrays.values():
        array.flags.writeable = False
    return copy


@pytest.mark.parametrize("cls", list(every_block()), ids=lambda c: c.__name__)
def test_however_frames_come_the_same_goes_out(cls, tmp_path):
    assert cls.__name__ in CASES, f"{cls.__name__} has no case: give it one"
    feed, parameters = CASES[cls.__name__]
    given = feed()
    make = lambda: cls("block", **parameters(tmp_path))  # noqa: E731  # one line a way below
    expected = bytes_given(make(), given, Frame.copy)
    assert any(kind == "data" for _, kind, _, _ in expected), "nothing came out"
    assert bytes_given(make(), given, read_only) == expected
    assert bytes_given(make(), given, across_the_wire) == expected
    assert bytes_given(make(), given, Frame.copy, reuse=True) == expected


@pytest.mark.parametrize("name", ["ApplyCalibration", "SampleCovariance"])
def test_sample_streams_may_be_cut_anywhere(name, tmp_path):
    frames = [f for _, f in samples() if f.header.kind == "data"]
    x = np.concatenate([f["iq"] for f in frames], axis=1)[:, :128]
    descriptor = samples()[0][1]
    if name == "ApplyCalibration":
        turned = x * np.exp(-1j * np.linspace(-1, 1, 8))[:, None]
        params = calibrated(tmp_path)
        check_block(lambda: ApplyCalibration("cal", **params), x, turned, rtol=0, atol=1e-6, descriptor=descriptor)
        return
    block = SampleCovariance("cov", n_snapshots=32)
    out = [f for _, frame in samples()[:1] for _, f in block.feed("iq", frame)]
    for start in range(0, 128, 7):
        piece = np.ascontiguousarray(x[:, start : start + 7])
        header = Header("dev.iq", start, sample_start=start, sample_rate_hz=1e6)
        out += [f for _, f in block.feed("iq", Frame.of(header, iq=(piece, "sensor snapshot", "FS")))]
    data = [f for f in out if f.header.kind == "data"]
    assert len(data) == 4
    for i, frame in enumerate(data):
        part = x[:, 32 * i : 32 * i + 32].astype(np.complex128)
        by_loops = sum(np.outer(part[:, t], part[:, t].conj()) for t in range(32)) / 32
        np.testing.assert_allclose(frame["covariance"], by_loops, rtol=0, atol=1e-8)
