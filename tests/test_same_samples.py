"""One scene behind every protocol: the same samples to the bit, and from them the same positions.

The reference is the simulated array itself. A feed begins at whatever tick its client connects, which its own count of
samples tells; from there on every sample of every channel must be equal: complex64 feeds to the bit, converters to the
count. The receiver behind them is one and the same.
"""

import importlib

import msgspec
import numpy as np
import pytest

from blocks.front_end.to_complex import ToComplex
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import NearFieldMusicFromCovariance
from blocks.subspace.sample_covariance import SampleCovariance
from drivers import uhd_interpreter
from drivers.iio_library import IioTrouble, import_libiio
from hil.array_params import Array, build_array
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from hil.graph import Graph
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise

FREQUENCY_HZ, RATE_HZ = 2.4e9, 1e6
#: A source in the near field (0.1 .. 0.6 m) of four elements half a wavelength apart.
PLACES_M = np.array([[-0.1, 0.32, 0.0]])
ARRAY = {"kind": "ula", "n": 4, "spacing_m": 0.0625, "array_id": "line"}
SCENE = {
    "array": ARRAY,
    "sources": [
        {"id": i + 1, "motion": {"kind": "stand", "position_m": place.tolist()}, "power_db": -18.0}
        for i, place in enumerate(PLACES_M)
    ],
    "noise_power_db": -45.0,
    "frequency_hz": FREQUENCY_HZ,
    "sample_rate_hz": RATE_HZ,
    "real_time": False,
    "seed": 5,
}
#: Snapshots of one estimate, and how many estimates are compared.
N, N_FRAMES = 1024, 3

#: Driver, its parameters, and what its device makes of a sample: bits of its converter, or none.
FEEDS = {
    "native": (
        "drivers.xl_array:XlArray",
        {"device": {**SCENE, "n_snapshots": 500, "frame_period_s": 0}},
        None,
    ),
    "heimdall": (
        "drivers.heimdall:Heimdall",
        {"device": {"device": SCENE, "calibration_s": 0.0, "n_samples": 700}},
        None,
    ),
    "gnuradio": ("drivers.gnuradio:GnuRadio", {"device": {"device": SCENE, "socket": "push"}, "n_samples": 333}, None),
    "iio": ("drivers.iio:Iio", {"device": {"device": SCENE, "model": "fmcomms5"}, "n_samples": 1024}, 12),
    "uhd": (
        "drivers.uhd:Uhd",
        {
            "device": {"device": {**SCENE, "real_time": False}, "host": "auto"},
            "n_samples": 1000,
            "sample_rate_hz": RATE_HZ,
            "start_delay_s": 0.01,
        },
        16,
    ),
}


def require(feed):
    if feed == "iio":
        try:
            import_libiio()
        except IioTrouble as trouble:
            pytest.skip(f"needs libiio0 and pylibiio: {trouble}")
    if feed == "uhd" and uhd_interpreter.first_usable() is None:
        pytest.skip("needs python3-uhd")


def driver_of(feed):
    path, params, _ = FEEDS[feed]
    module, _, name = path.partition(":")
    array = {} if feed == "native" else {"array": ARRAY}  # the native feed describes its array itself
    return getattr(importlib.import_module(module), name)(feed, embedded=True, **array, **params)


def read(feed, n_samples):
    """Frames of a feed with at least so many samples that follow one another, and what it says of its counts."""
    driver = driver_of(feed)
    frames, n = [], 0
    try:
        driver.open()
        for _ in range(400):
            for port, frame in driver.read(1.0) or []:
                if port == "iq":
                    frames.append(frame.copy() if frame.arrays else frame)
                    n += frame.header.arrays[0].shape[_snapshot(frame)] if frame.header.kind == "data" else 0
            if n >= n_samples:
                return frames
    finally:
        driver.close()
    raise AssertionError(f"{feed}: {n} samples came")


def _snapshot(frame):
    return frame.header.arrays[0].axes.index("snapshot")


def stretch(frames):
    """All samples in one array ``[sensor, snapshot, ...]``; nothing may be missing between them."""
    data = [f for f in frames if f.header.kind == "data"]
    assert all(f.header.lost.samples == 0 for f in data[1:])
    parts = [np.moveaxis(f["iq"], f.header.arrays[0].axes.index("sensor"), 0) for f in data]
    return np.concatenate(parts, axis=1)


def scene(tick, n, bits=None):
    """What the array's channels hear from ``tick`` on, as a converter of ``bits`` gives it."""
    samples = XlArrayDevice(**SCENE).samples(tick, n)
    return samples if bits is None else quantise(samples, bits)


def begin_of(frames, samples, bits):
    """The tick at which a feed begins: its own count, or that and whole seconds (USRPs count from a pulse)."""
    count = next(f.header.sample_start for f in frames if f.header.kind == "data")
    ticks = [count + second * round(RATE_HZ) for second in range(60)]
    found = [tick for tick in ticks if np.array_equal(scene(tick, 32, bits), samples[:, :32])]
    assert len(found) == 1, f"of the ticks {count} + k seconds {len(found)} fit"
    return found[0]


@pytest.fixture(scope="module")
def came():
    """What each feed gave, read once."""
    known = {}

    def get(feed):
        if feed not in known:
            require(feed)
            known[feed] = read(feed, N * (N_FRAMES + 2))
        return known[feed]

    return get


@pytest.mark.parametrize("feed", FEEDS)
def test_every_sample_is_that_of_the_array(feed, came):
    frames, bits = came(feed), FEEDS[feed][2]
    samples = stretch(frames)
    assert np.array_equal(samples, scene(begin_of(frames, samples, bits), samples.shape[1], bits))


# -- the same receiver behind each


def blocks():
    """Samples of any device to positions: blocks, each with the output that the next one takes."""
    return [
        (ToComplex("to_complex"), "iq"),
        (SampleCovariance("covariance", n_snapshots=N), "covariance"),
        (NearFieldMusicFromCovariance("music", n_sources=len(PLACES_M), azimuth_limit_rad=1.0), "estimates"),
        (PolarToCartesian("cartesian"), "positions"),
    ]


def positions_of(frames):
    """Positions ``[frame, source, xyz]`` of the first frames."""
    for block, output in blocks():
        frames = [f for frame in frames for out, f in block.feed(next(iter(block.inputs)), frame) if out == output]
    return np.stack([f["position_m"] for f in frames if f.header.kind == "data"][:N_FRAMES])


def reference_frames(samples, bits, lengths):
    """The array's own samples as a converter would give them, in pieces of these lengths: sums round alike."""
    extra = {} if bits is None else {"raw": {"full_scale": float(1 << (bits - 1))}}
    header = Header("array.iq", 0, sample_rate_hz=RATE_HZ, frequency_hz=FREQUENCY_HZ)
    frames = [descriptor_frame(header, build_array(convert(ARRAY), 4, FREQUENCY_HZ), extra)]
    unit, axes = ("FS", "sensor snapshot") if bits is None else ("count", "sensor snapshot component")
    for seq, (start, n) in enumerate(zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths, strict=True)):
        piece = np.ascontiguousarray(samples[:, start : start + n])
        frames.append(Frame.of(header.replace(seq=seq, sample_start=start), iq=(piece, axes, unit)))
    return frames


def convert(array):
    return msgspec.convert(array, Array)


@pytest.mark.parametrize("feed", FEEDS)
def test_the_same_receiver_gives_the_positions_of_the_array(feed, came):
    frames, bits = came(feed), FEEDS[feed][2]
    samples = stretch(frames)
    begin, n = begin_of(frames, samples, bits), samples.shape[1]
    got = positions_of(frames)
    lengths = [f.header.arrays[0].shape[_snapshot(f)] for f in frames if f.header.kind == "data"]
    assert np.array_equal(got, positions_of(reference_frames(scene(begin, n, bits), bits, lengths))), "a bit differs"
    unrounded = positions_of(reference_frames(scene(begin, n), None, [N] * N_FRAMES))
    # rounding to 12 bits adds noise of -73 dB to that of -45 dB: it moves a position by 1/25 of what that does
    noise_m = np.abs(unrounded - PLACES_M).max()
    assert np.abs(got - unrounded).max() < (1e-7 if bits is None else 0.2 * noise_m)
    assert noise_m < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("feed", FEEDS)
def test_and_so_it_does_in_a_running_graph(feed):
    require(feed)
    graph = Graph(f"same_{feed}")
    last = graph.add(driver_of(feed)).name + ".iq"
    for block, output in blocks():
        graph.add(block)
        graph.connect(last, block)
        last = f"{block.name}.{output}"
    got = []
    graph.run(frames=12, on_frame={last: lambda f: got.append(f.copy())})
    found = np.stack([f["position_m"] for f in got if f.header.kind == "data"])
    assert len(found) >= 2
    assert np.linalg.norm(found - PLACES_M, axis=-1).max() < 0.02
