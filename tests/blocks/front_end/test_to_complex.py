import numpy as np
import pytest

from blocks.front_end.to_complex import ToComplex, to_complex
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError, PortError
from hil.frame import Frame, Header

AXES = {"planar": ("sensor", "snapshot", "component"), "interleaved": ("snapshot", "sensor", "component")}


def counts(shape, dtype="int16", seed=1):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def by_loops(raw, order, full_scale, offset):
    """Sample for sample with Python's floats."""
    sensors, snapshots = (raw.shape[0], raw.shape[1]) if order == "planar" else (raw.shape[1], raw.shape[0])
    out = np.empty((sensors, snapshots), complex)
    for m in range(sensors):
        for t in range(snapshots):
            i, q = raw[m, t] if order == "planar" else raw[t, m]
            out[m, t] = complex(int(i) - offset, int(q) - offset) / full_scale
    return out


@pytest.mark.parametrize("order", ["planar", "interleaved"])
@pytest.mark.parametrize(
    ("dtype", "full_scale", "offset"),
    [("int16", 2048.0, 0.0), ("int16", 32768.0, 0.0), ("uint8", 127.5, 127.5), ("int8", 128.0, 0.0)],
)
@pytest.mark.parametrize("shape", [(3, 50), (1, 1), (50, 3), (0, 4), (4, 0)])
def test_the_same_as_python_sample_for_sample(order, dtype, full_scale, offset, shape):
    raw = counts((*shape, 2), dtype)
    got = to_complex(raw, AXES[order], full_scale, offset)
    assert got.dtype == np.complex64
    assert got.flags.c_contiguous
    # one rounding of 1 / full_scale and one of the product, half an ulp of float32 each; values up to 16
    np.testing.assert_allclose(got, by_loops(raw, order, full_scale, offset), rtol=2e-7, atol=1e-9)
    if full_scale == 2048.0:
        assert np.array_equal(got, by_loops(raw, order, full_scale, offset))


@pytest.mark.parametrize("n_sensors", [1, 4, 300])
def test_interleaved_frames_longer_than_a_tile(n_sensors):
    raw = counts((70_000 if n_sensors < 300 else 700, n_sensors, 2))
    expected = (raw[..., 0].astype(float) + 1j * raw[..., 1]).T / 2048
    assert np.array_equal(to_complex(raw, AXES["interleaved"], 2048.0), expected)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_wider_samples(dtype):
    raw = np.random.default_rng(2).integers(-1000, 1000, (20, 3, 2)).astype(dtype)
    expected = (raw[..., 0] + 1j * raw[..., 1].astype(float)).T / 1024
    assert np.array_equal(to_complex(raw, AXES["interleaved"], 1024.0), expected)


def test_strided_and_read_only_views():
    raw = counts((40, 6, 2))[::2, 1:4]
    raw.flags.writeable = False
    expected = (raw[..., 0].astype(float) + 1j * raw[..., 1]).T / 2048
    assert np.array_equal(to_complex(raw, AXES["interleaved"], 2048.0), expected)


def test_complex_samples_pass():
    x = np.arange(6, dtype=np.complex64).reshape(2, 3)
    assert to_complex(x, ("sensor", "snapshot")) is x
    assert np.array_equal(to_complex(x, ("snapshot", "sensor")), x.T)


@pytest.mark.parametrize(
    ("raw", "axes"),
    [
        (np.zeros((2, 3), np.complex128), ("sensor", "snapshot")),
        (np.zeros((2, 3), np.int16), ("sensor", "snapshot")),
        (np.zeros((2, 2, 3), np.int16), ("component", "sensor", "snapshot")),
        (np.zeros((2, 3, 2), np.int16), ("slot", "sample", "component")),
        (np.zeros((2, 3, 2), np.float64), ("sensor", "snapshot", "component")),
    ],
)
def test_refuses_other_axes_and_dtypes(raw, axes):
    with pytest.raises(PortError, match=rf"got {raw.dtype.name} \[{', '.join(axes)}\]"):
        to_complex(raw, axes, 1.0)


def test_refuses_three_components():
    with pytest.raises(PortError, match="component=2"):
        to_complex(np.zeros((2, 3, 3), np.int16), AXES["planar"])


# -- the block


def raw_frame(raw, axes, name="iq"):
    header = Header("dev.iq", 5, epoch=2, sample_start=100, meta={"noise_source": True})
    return Frame.of(header, **{name: (raw, axes, "count")})


def descriptor(**extra):
    return descriptor_frame(Header("dev.iq", 0), ArrayGeometry.ula(3, 0.03), extra)


def test_full_scale_comes_from_the_descriptor_and_axes_from_the_header():
    block = ToComplex("to")
    raw = counts((20, 3, 2), "uint8")
    block.feed("raw", descriptor(raw={"full_scale": 127.5, "offset": 127.5}))
    ((port, frame),) = block.feed("raw", raw_frame(raw, "snapshot sensor component"))
    assert port == "iq"
    assert (frame.header.seq, frame.header.epoch, frame.header.sample_start) == (5, 2, 100)
    assert frame.header.meta == {"noise_source": True}
    assert frame.header.arrays[0].axes == ("sensor", "snapshot")
    np.testing.assert_allclose(frame["iq"], by_loops(raw, "interleaved", 127.5, 127.5), rtol=2e-7)


def test_parameters_go_before_the_descriptor():
    block = ToComplex("to", full_scale=1024.0, offset=1.0)
    block.feed("raw", descriptor(raw={"full_scale": 2048.0}))
    ((_, frame),) = block.feed("raw", raw_frame(np.full((3, 2, 2), 513, np.int16), "sensor snapshot component", "x"))
    assert np.array_equal(frame["iq"], np.full((3, 2), 0.5 + 0.5j))
    with pytest.raises(ParamError, match="full_scale"):
        ToComplex("to", full_scale=0.0)


def test_what_is_not_known_is_said():
    frame = raw_frame(np.zeros((3, 2, 2), np.int16), "sensor snapshot component")
    with pytest.raises(EstimationError, match=r"no descriptor with raw\.full_scale; give the parameter full_scale"):
        ToComplex("to").feed("raw", frame)
    two = Frame.of(Header("dev.x", 0), a=(np.zeros(2), "x", ""), b=(np.zeros(2), "x", ""))
    with pytest.raises(PortError, match="got arrays: a, b"):
        ToComplex("to").feed("raw", two)


def test_complex_frames_need_no_descriptor():
    x = np.ones((3, 4), np.complex64)
    ((_, frame),) = ToComplex("to").feed("raw", raw_frame(x, "sensor snapshot"))
    assert np.array_equal(frame["iq"], x)
